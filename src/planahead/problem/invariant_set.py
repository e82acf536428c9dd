r"""The largest set in which a linear feedback keeps a linear system for ever, within given limits.

    x⁺ = A_K x,     O_t = { x : C A_K^i x <= d,  i = 0…t }

The sets shrink with t, and where O_{t+1} = O_t nothing shrinks any more: that set is invariant, and every invariant set
within the limits C x <= d is part of it. A row of O_{t+1} that O_t implies already is found by a linear program.

    symbol   shape      meaning
    A_K      [n, n]     closed loop A + B K
    C, d     [m, n]     the limits on states, and on controls as rows of K; d > 0
    K        [nu, n]    u = K x

It ends after finitely many steps where A_K is stable and C x <= d is bounded with zero in its interior. Reference:
E. G. Gilbert, K. T. Tan, "Linear systems with state and control constraints: the theory and application of maximal
output admissible sets", IEEE TAC 36 (1991).
"""

import numpy as np

_SETTLED = 1e-9  # share of d by which a row may stick out and count as implied
_MOST = 1_000  # steps


def riccati_solution(
    A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray, iterations: int = 100_000
) -> np.ndarray:
    """P = Q + Aᵀ P (A - B K) with K = (R + Bᵀ P B)⁻¹ Bᵀ P A, by iterating from P = Q.

    **Raises:** `ValueError` if the iteration does not settle, as for a pair (A, B) that cannot be stabilised.
    """
    P = Q
    for _ in range(iterations):
        K = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
        previous, P = P, Q + A.T @ P @ (A - B @ K)
        if np.max(np.abs(P - previous)) <= 1e-14 * np.max(np.abs(P)):
            return (P + P.T) / 2
    raise ValueError(f"the Riccati iteration did not settle in {iterations} steps; is the pair (A, B) stabilisable?")


def lqr_gain(A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray) -> np.ndarray:
    """K of the control u = K x that minimises Σ xᵀ Q x + uᵀ R u.

    **Raises:** what `riccati_solution` raises.

    >>> lqr_gain(np.eye(1), np.eye(1), np.eye(1), np.zeros((1, 1))).tolist()
    [[-1.0]]
    """
    P = riccati_solution(A, B, Q, R)
    return -np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)


def largest_invariant_set(closed: np.ndarray, C: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Rows H with { x : H x <= 1 } the largest invariant set of x⁺ = `closed` x within C x <= d, none redundant.

    **Raises:** `ValueError` where zero is not strictly inside of the limits, or the sets do not settle.

    >>> rows = largest_invariant_set(np.array([[0.5]]), np.array([[1.0], [-1.0]]), np.array([2.0, 4.0]))
    >>> sorted(rows[:, 0].tolist())
    [-0.25, 0.5]
    """
    if np.any(d <= 0):
        raise ValueError(
            f"limits {d.tolist()} leave no room around the rest point; a number above 0 was expected in each"
        )
    limits = C / d[:, None]
    rows, following = limits, limits @ closed
    for _ in range(_MOST):
        new = following[_sticking_out(rows, following)]
        if len(new) == 0:
            return _without_redundant(rows)
        rows, following = np.concatenate([rows, new]), following @ closed
    raise ValueError(
        f"the sets did not settle in {_MOST} steps; is the closed loop stable, and are the limits bounded?"
    )


def _sticking_out(rows: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    return np.array([_highest(rows, row) > 1.0 + _SETTLED for row in candidates], bool)


def _without_redundant(rows: np.ndarray) -> np.ndarray:
    kept = np.ones(len(rows), bool)
    for index, row in enumerate(rows):
        kept[index] = False  # one by one, so that the last of several equal rows stays
        kept[index] = not np.any(kept) or _highest(rows[kept], row) > 1.0 + _SETTLED
    return rows[kept]


def _highest(rows: np.ndarray, direction: np.ndarray) -> float:
    """max direction · x over { x : rows x <= 1 }; infinite where that is unbounded."""
    from scipy.optimize import linprog  # takes half a second to import, and only this needs it

    found = linprog(-direction, A_ub=rows, b_ub=np.ones(len(rows)), bounds=(None, None), method="highs")
    return -found.fun if found.status == 0 else np.inf
