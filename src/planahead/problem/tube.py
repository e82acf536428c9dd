r"""How far a disturbed system strays from its plan, and by how much a plan must therefore stay inside of its limits.

    world      x⁺ = f(x, u) + w,     |w_i| <= w̄_i
    plan       z⁺ = f(z, v)
    control    u = v + K (x - z)                        ancillary feedback
    error      e = x - z,   e⁺ = (A + B K) e + w        exact where f is linear

From e₀ = 0 the error of step k lies in R_k = W ⊕ A_K W ⊕ … ⊕ A_K^{k-1} W with A_K = A + B K, and in R_∞ for ever. Since
W is a box around zero, a row c of numbers moves by at most

    max_{e ∈ R_k} c e = Σ_{i<k} |c A_K^i| w̄,

which is what the limits on c x shrink by. With |A_K^n| r_n <= α r_n, r_n the half widths of R_n, the sum to infinity
is at most that of its first n terms and |c| r_n α / (1 - α).

    symbol        shape       meaning
    K             [nu, nx]    `gain`
    w̄             [nx]        `disturbance`, in the state's units per step
    r_k, K-rows   [N + 1, …]  `state_radius`, `control_radius`; the last stage holds those of R_∞

Reference: D. Q. Mayne, M. M. Seron, S. V. Raković, "Robust model predictive control of constrained linear systems with
bounded disturbances", Automatica 41 (2005). It fails where A_K is not stable, and says so.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from planahead.problem.per_stage import PerStage

ENOUGH = 1e-6
"""α at which the sum is ended: what is left is a millionth of the radius, and is added."""
_MOST = 100_000  # terms


class Tube(eqx.Module):
    """Half widths of the error at every stage, and the feedback that holds it there.

    For linear systems `linear_tube` computes them; for others they are the user's to give.
    """

    gain: Float[Array, "nu nx"]
    """K: what is added to the planned control per deviation from the planned state."""
    state_radius: PerStage
    """[N + 1, nx]; zero at stage 0, and that of R_∞ at stage N."""
    control_radius: PerStage
    """[N + 1, nu]."""


def no_tube(horizon: int, state_size: int, control_size: int) -> Tube:
    """Where the model is exact: no error and no feedback."""
    return Tube(
        jnp.zeros((control_size, state_size)),
        PerStage(jnp.zeros((horizon + 1, state_size))),
        PerStage(jnp.zeros((horizon + 1, control_size))),
    )


def linear_tube(A: np.ndarray, B: np.ndarray, K: np.ndarray, disturbance: np.ndarray, horizon: int) -> Tube:
    """The tube of x⁺ = A x + B u + w with |w| <= `disturbance` [nx] entry by entry.

    **Raises:** `ValueError` for a gain K under which A + B K is not stable.

    >>> tube = linear_tube(np.eye(1), np.eye(1), np.array([[-0.5]]), np.array([0.1]), horizon=3)
    >>> print(tube.state_radius.values[:, 0], tube.control_radius.values[-1])
    [0.   0.1  0.15 0.2 ] [0.1]
    """
    A, B, K, w = (np.asarray(array, float) for array in (A, B, K, disturbance))
    closed = A + B @ K
    if np.max(np.abs(np.linalg.eigvals(closed))) >= 1.0:
        raise ValueError(
            f"the gain {K.tolist()} does not stabilise the system, so its errors grow without end; use lqr_gain(...)"
        )
    state, control = [np.zeros(A.shape[0])], [np.zeros(B.shape[1])]
    power = np.eye(A.shape[0])
    for _ in range(_MOST):
        state.append(state[-1] + np.abs(power) @ w)
        control.append(control[-1] + np.abs(K @ power) @ w)
        power = closed @ power
        share = _contraction(power, state[-1])
        if len(state) > horizon and share <= ENOUGH:
            break
    else:
        raise ValueError(f"the error did not settle in {_MOST} steps; use a gain that brings it down faster")
    rest = share / (1.0 - share) * state[-1]
    last_state, last_control = state[-1] + rest, control[-1] + np.abs(K) @ rest
    return Tube(
        jnp.asarray(K),
        PerStage(jnp.asarray(np.stack([*state[:horizon], last_state]))),
        PerStage(jnp.asarray(np.stack([*control[:horizon], last_control]))),
    )


def _contraction(power: np.ndarray, radius: np.ndarray) -> float:
    """α: the least for which the box of half widths `radius` is mapped into α times itself."""
    image = np.abs(power) @ radius
    reached = radius > 0
    if np.any(image[~reached] > 0):
        return np.inf
    return float(np.max(image[reached] / radius[reached], initial=0.0))
