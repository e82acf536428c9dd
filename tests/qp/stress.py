"""Random stage QPs of every kind and size, solved by the native kernel and judged here, in NumPy, by their conditions.

Kinds, lane by lane: ordinary; degenerate (a general row twice); barely feasible (a hard row that leaves a slit of
1e-6); infeasible (a row that contradicts a box); badly scaled (costs by 1e-8 to 1e8); not numbers (NaN or infinite
entries anywhere); in odd units (every state by 1e-2 to 1e2, every general row by 1e-3 to 1e3). A lane that says solved
must satisfy the conditions; one that is infeasible or holds no numbers must not say so.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa
from planahead.qp import backend
from planahead.qp.interior_point import Backend
from planahead.qp.types import LaneQP, QPGuess

KINDS = ("ordinary", "degenerate", "barely feasible", "infeasible", "badly scaled", "not numbers", "odd units")
CLOSE = 1e-8
"""Of residuals, relative to the terms they are differences of; the kernel claims 1e-9, by its own scale, and keeps
1.5e-9 by this one."""


@dataclasses.dataclass(frozen=True)
class Size:
    nx: int
    nu: int
    ng: int
    N: int
    lanes: int


def sizes(random: np.random.Generator, problems: int) -> list[Size]:
    """Enough sizes for so many problems; large ones have fewer lanes, so that a batch fits into memory."""
    found, total = [], 0
    while total < problems:
        nx, nu = int(random.integers(1, 25)), int(random.integers(1, 9))
        ng, N = int(random.integers(0, 13)), int(np.exp(random.uniform(0, np.log(60.9))))
        lanes = int(min(3000, max(16, 1.2e7 / (N * (nx + nu) ** 2)), problems - total))
        found.append(Size(nx, nu, ng, N, lanes))
        total += lanes
    return found


def batch(random: np.random.Generator, size: Size, *, free_initial_state: bool = False) -> tuple[LaneQP, np.ndarray]:
    """Problems of all kinds, lanes last, and the kind of every lane."""
    nx, nu, ng, N, B = size.nx, size.nu, size.ng, size.N, size.lanes
    nz, nodes, m = nx + nu, N + 1, nx + nu + ng
    kind = random.integers(0, len(KINDS), B)
    if ng == 0:
        kind = np.where(np.isin(kind, (1, 2, 3)), 0, kind)
    roots = random.normal(size=(nodes, nz, nz, B)) / np.sqrt(nz)
    H = np.einsum("kimb,kjmb->kijb", roots, roots)
    H += (0.1 * np.eye(nz))[None, :, :, None]
    H[-1, :nu, :] = H[-1, :, :nu] = 0.0
    H[-1, range(nu), range(nu)] = 1.0
    g = random.normal(size=(nodes, nz, B))
    g[-1, :nu] = 0.0
    scale = np.where(kind == 4, 10.0 ** random.uniform(-8, 8, B), 1.0)
    H, g = H * scale, g * scale
    F = np.concatenate(
        [random.normal(size=(N, nx, nu, B)), 0.9 * random.normal(size=(N, nx, nx, B)) / np.sqrt(nx)], axis=2
    )
    c = 0.1 * random.normal(size=(N, nx, B))
    G = random.normal(size=(nodes, ng, nz, B))
    G[-1, :, :nu] = 0.0
    bound = np.full((nodes, 2, m, B), -np.inf)
    bound[:-1, :, :nu] = -random.uniform(0.3, 1.0, (1, 1, nu, B))
    linear, quadratic = np.full((nodes, m, B), np.inf), np.full((nodes, m, B), np.inf)
    soft = np.s_[1:, nu:]
    bound[1:, :, nu:nz] = np.where(random.random((1, 1, nx, B)) < 0.5, -0.5, -np.inf)
    bound[1:, 0, nz:] = np.where(random.random((1, ng, B)) < 0.7, -0.6, -np.inf)
    linear[soft], quadratic[soft] = 5.0 * scale, random.uniform(0.0, 2.0, (1, 1, B)) * scale
    x0 = random.normal(size=(nx, B))
    if ng:
        # Hard rows on controls alone, which cannot be infeasible by the state: u_0 = values of the first row at stage
        # 0.
        twice, slit, contradiction = kind == 1, kind == 2, kind == 3
        special = twice | slit | contradiction
        G[0, 0, :, special] = np.eye(nz)[0]
        width = np.where(slit, 1e-6, 0.2)
        low, high = np.where(contradiction, 2.0, 0.1 - width / 2), np.where(contradiction, np.inf, 0.1 + width / 2)
        bound[0, 0, nz] = np.where(special, low, -np.inf)
        bound[0, 1, nz] = np.where(special, -high, -np.inf)
        if ng > 1:
            G[0, 1] = np.where(twice, G[0, 0], G[0, 1])
            bound[0, :, nz + 1] = np.where(twice, bound[0, :, nz], bound[0, :, nz + 1])
        linear[0, nz:], quadratic[0, nz:] = np.inf, np.inf
    odd = kind == 6
    unit = np.where(odd, 10.0 ** random.uniform(-2, 2, (nx, B)), 1.0)
    stretch = np.where(odd, 10.0 ** random.uniform(-3, 3, (ng, B)), 1.0)
    units = np.concatenate([np.ones((nu, B)), unit])
    H, g = H * units[:, None] * units, g * units
    F, c, x0 = F * units / unit[:, None], c / unit, x0 / unit
    G = G * units * stretch[:, None]
    bound[:, :, nu:nz] /= unit
    bound[:, :, nz:] *= stretch
    row = np.concatenate([units, 1 / stretch])
    linear, quadratic = linear * row, quadratic * row**2
    for lane in np.flatnonzero(kind == 5):
        array = (H, g, F, c, G, x0, bound, linear)[random.integers(0, 6 if free_initial_state else 8)]
        if array.size == 0 or (array is x0 and free_initial_state):
            array = g
        entry = np.unravel_index(random.integers(0, array[..., lane].size), array.shape[:-1])
        # An infinite lower bound is none, and an infinite price makes a row hard; rows at controls exist.
        number = {id(bound): [np.nan, np.inf], id(linear): [np.nan]}.get(id(array), [np.nan, np.inf, -np.inf])
        entry = (0, 0) if array is linear else entry
        array[(*entry, lane)] = random.choice(number)
    initial = None if free_initial_state else jnp.asarray(x0)
    arrays = (H, g, F, c, G, bound, linear, quadratic)
    return LaneQP(*map(jnp.asarray, arrays), initial_state=initial), kind


def solve(qp: LaneQP, which: Backend = "native", guess: QPGuess | None = None):
    """The solver's outcome, everything written."""
    active = jnp.ones(qp.g.shape[-1], bool)
    settings = pa.InteriorPoint(backend=which)
    return jax.jit(lambda qp, guess: backend.solve(qp, backend.everywhere(qp), settings, active, guess=guess))(
        qp, guess
    )


def worst_residual(qp: LaneQP, outcome) -> np.ndarray:
    """The largest violation of the optimality conditions in every lane, relative to its terms."""
    H, g, F, c, G, bound, linear, quadratic = (
        np.nan_to_num(np.asarray(part), nan=0.0, posinf=np.inf, neginf=-np.inf)
        for part in (qp.H, qp.g, qp.F, qp.c, qp.G, qp.bound, qp.linear, qp.quadratic)
    )
    point = outcome.point
    z, pi, lam, s = (np.asarray(part) for part in (point.z, point.pi, point.lam, point.s))
    nz, nu = z.shape[1], qp.control_size
    x0 = z[0, nu:] if qp.initial_state is None else np.asarray(qp.initial_state)

    def largest(*arrays: np.ndarray) -> np.ndarray:
        return np.max([np.abs(a).max(tuple(range(a.ndim - 1)), initial=0.0) for a in arrays], 0)

    with np.errstate(invalid="ignore", over="ignore"):
        rows = np.concatenate([z, np.einsum("kijb,kjb->kib", G, z)], 1)
        net = lam[:, 0] - lam[:, 1]
        gradient = np.einsum("kijb,kjb->kib", H, z) + g - net[:, :nz] - np.einsum("kijb,kib->kjb", G, net[:, nz:])
        gradient[:-1] += np.einsum("kijb,kib->kjb", F, pi[1:])
        gradient[:, nu:] -= pi
        defects = np.einsum("kijb,kjb->kib", F, z[:-1]) + c - z[1:, nu:]
        exists = np.isfinite(bound)
        soft = exists & (np.isfinite(linear) & np.isfinite(quadratic))[:, None]
        distance = np.where(exists, np.stack([rows, -rows], 1) - np.where(exists, bound, 0.0) + s, 0.0)
        slope = np.where(np.isfinite(linear), linear, 0.0)[:, None]
        slope = slope + np.where(np.isfinite(quadratic), quadratic, 0.0)[:, None] * s
        price = np.where(soft, slope - lam, 0.0)
        # Nothing but the cost's own size tells what is small: a cost of 1e-8 is met by any z to 1e-8.
        dual = np.minimum(1, largest(H[:-1], H[-1:, nu:, nu:])) + largest(g, pi, lam)
        primal = 1 + largest(z, c)
        wrong = [
            largest(gradient) / dual,
            largest(defects, z[0, nu:] - x0) / primal,
            largest(np.minimum(distance, 0.0)) / primal,
            largest(np.minimum(lam, 0.0), np.minimum(price, 0.0)) / dual,
            largest(np.minimum(s, 0.0)) / primal,
            largest(np.where(exists, lam * distance, 0.0)) / (dual * primal),
            largest(np.where(soft, s * price, 0.0)) / (dual * primal),
            largest(np.where(exists & ~soft, s, 0.0), np.where(exists, 0.0, lam)),
        ]
    return np.max(wrong, 0)


def judge(qp: LaneQP, kind: np.ndarray, outcome) -> dict[str, int]:
    """Counts by kind and status. **Raises** `AssertionError` for a lane whose status is not true, and where more than a
    few lanes are given up."""
    status = np.asarray(outcome.status)
    solved = status == pa.Status.SOLVED
    residual = worst_residual(qp, outcome)
    false = solved & ~(residual <= CLOSE)
    assert not false.any(), f"lanes {np.flatnonzero(false)[:5]} say solved at residuals {residual[false][:5]}"
    assert not solved[np.isin(kind, (3, 5))].any(), "infeasible lanes, or lanes without numbers, say solved"
    np.testing.assert_array_equal(status == pa.Status.INVALID_INPUT, kind == 5)
    assert np.isfinite(np.asarray(outcome.point.z)).all(), "a plan that is no number"
    solvable = np.isin(kind, (0, 1, 2, 4, 6))
    assert (solvable & ~solved).sum() <= 1 + 1e-3 * solvable.sum(), "solvable lanes are given up"
    missed = (kind == 3) & (status != pa.Status.INFEASIBLE)
    assert missed.sum() <= 2 + 1e-2 * (kind == 3).sum(), "contradictions are not found"
    return {
        f"{KINDS[k]}: {pa.Status(int(code)).name}": int(((kind == k) & (status == code)).sum())
        for k in range(len(KINDS))
        for code in np.unique(status[kind == k])
    }


def main(problems: int = 100_000) -> None:
    """Print how many problems of each kind ended how."""
    random, total = np.random.default_rng(0), {}
    with jax.enable_x64(True):
        for number, size in enumerate(sizes(random, problems)):
            qp, kind = batch(random, size, free_initial_state=number % 4 == 3)
            for key, count in judge(qp, kind, solve(qp)).items():
                total[key] = total.get(key, 0) + count
    print(f"{sum(total.values()):,} problems")
    for key in sorted(total):
        print(f"{total[key]:8,}  {key}")


if __name__ == "__main__":
    main()
