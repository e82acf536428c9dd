r"""What a proposed active set saves a linear planner, along its closed loop with noise.

The interior-point method begun cold and from the shifted solution of the step before; and active sets proposed: the
shifted one, the network's, and the right one, which is the most that can be gained.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import planahead as pa
from planahead.experiments.benchmarks.table1 import ProblemSet
from planahead.experiments.benchmarks.timing import measure_in_turn
from planahead.experiments.errors import UserError
from planahead.learning.active_set_fit import fit_active_set_guide
from planahead.qp.active_set import ActiveSet
from planahead.tasks import make_task

PROBLEMS = 256  # that are solved at once
REPEATS = 30


@dataclasses.dataclass(frozen=True)
class ActiveSetRow:
    """QPs of one kind, solved in one way."""

    case: str
    how: str
    problems: int
    without: float
    """Share of the QPs that needed no iteration. The interior-point method needs none where no row is active."""
    iterations: float
    """Of the interior-point method, mean per QP."""
    failed: float
    milliseconds: float
    """For all problems at once."""
    alone: float
    """Milliseconds for one of them."""


@dataclasses.dataclass(frozen=True)
class LinearCase:
    """A linear planner: its QP at a state, and where its closed loop goes."""

    qp: Callable[[Float[Array, " nx"]], pa.QP]
    following: Callable[[Array, Array], Array]
    """The state after a control, without noise."""
    spread: Float[Array, " nx"]
    """Of the first states, standard deviation."""
    noise: float
    """Of the states, relative to that, per step."""


def linear_case(name: str) -> LinearCase:
    """The quadratic programs of Table 1 with tight bounds (8 states, 4 controls), and the mass-spring-damper (2 and
    1); both plan 20 steps."""
    if name == "table1-u1":
        given = ProblemSet.load("u1")
        data = given.data()
        A, B, b = data[:3]
        spread = jnp.std(jnp.asarray(given.x0), axis=0)
        return LinearCase(lambda x: given.qp(*data, x), lambda x, u: A @ x + B @ u + b, spread, 0.1)
    problem = make_task("mass-spring-damper", matched=True).problem
    step = problem.dynamics
    nothing = jnp.zeros(problem.state_size), jnp.zeros(problem.control_size)
    A, B = jax.jacobian(step)(*nothing), jax.jacobian(step, argnums=1)(*nothing)
    root = jax.jacobian(problem.stage_residual)(*nothing), jax.jacobian(problem.stage_residual, argnums=1)(*nothing)
    last = jax.jacobian(problem.terminal_residual)(nothing[0])
    bounds = problem.control_bounds(), problem.state_bounds()
    soft = bounds[1].slack
    assert soft is not None

    def qp(x: Array) -> pa.QP:
        N = problem.horizon
        many = [jnp.broadcast_to(M, (N, *M.shape)) for M in (A, B, root[0].T @ root[0], root[1].T @ root[1])]
        return pa.QP(
            A=many[0], B=many[1], Q=jnp.concatenate([many[2], (last.T @ last)[None]]), R=many[3],
            S=jnp.broadcast_to(root[1].T @ root[0], (N, 1, 2)), initial_state=x,
            control_bounds=pa.StageBounds(bounds[0].lower, bounds[0].upper),
            state_bounds=pa.StageBounds(bounds[1].lower, bounds[1].upper, soft.linear, soft.quadratic),
        )  # fmt: skip

    return LinearCase(qp, step, jnp.array([1.0, 1.0]), 0.1)


LINEAR = ("mass-spring-damper", "table1-u1")
STEPS = 8  # of every closed loop


def active_sets(name: str, seed: int, loops: int, report: Callable[[str], None]) -> list[ActiveSetRow]:
    """In float64: learn from all closed loops but a tenth, and solve `PROBLEMS` QPs of those."""
    kept = -(-PROBLEMS // (STEPS - 1))
    if kept > loops // 10:
        raise UserError(f"--rows {loops}: {10 * kept} or more are needed for active sets, a tenth of them to judge by")
    with jax.enable_x64(True):
        case = linear_case(name)
        begin, walk, learn = jax.random.split(jax.random.key(seed), 3)
        first = case.spread[None] * jax.random.normal(begin, (loops, case.spread.shape[0]))

        @jax.jit
        def sampled(first: Array) -> tuple[Array, pa.QPSolution, ActiveSet]:
            def step(x: Array, key: Array):
                found = jax.vmap(lambda x: pa.solve_qp(case.qp(x)))(x)
                sets = jax.vmap(lambda x, solution: ActiveSet.of(case.qp(x), solution))(x, found)
                noise = case.noise * case.spread[None] * jax.random.normal(key, x.shape)
                return jax.vmap(case.following)(x, found.controls[:, 0]) + noise, (x, found, sets)

            return jax.lax.scan(step, first, jax.random.split(walk, STEPS))[1]

        # World by world: those that are judged by are not learned from.
        x, found, sets = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), sampled(first))
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (x, sets, found.status))
        fitted = fit_active_set_guide(flat[0], flat[1], flat[2] == pa.Status.SOLVED, learn)
        report(f"{name}: all rows right in {100 * float(fitted.right):.0f} % of the states")

        def tested(leaf: Array, first: int) -> Array:
            return leaf[-kept:, first : STEPS - 1 + first].reshape(-1, *leaf.shape[2:])[:PROBLEMS]

        x, right = tested(x, 1), jax.tree.map(lambda leaf: tested(leaf, 1), sets)
        previous = jax.tree.map(lambda leaf: tested(leaf, 0), (found, sets))
        shifted = jax.tree.map(lambda leaf: jnp.concatenate([leaf[:, 1:], leaf[:, -1:]], axis=1), previous[1])
        earlier = _shifted(previous[0])
        rows = []
        ways: dict[str, tuple[Callable[..., pa.QPSolution], Any]] = {
            "interior point": (lambda x, _: pa.solve_qp(case.qp(x)), x),
            "interior point, from the shifted solution": (lambda x, near: pa.solve_qp(case.qp(x), guess=near), earlier),
            "shifted active set": (lambda x, active: pa.solve_qp(case.qp(x), active_set=active), shifted),
            "network": (lambda x, _: pa.solve_qp(case.qp(x), active_set=fitted.guide(x)), x),
            "the right active set": (lambda x, active: pa.solve_qp(case.qp(x), active_set=active), right),
        }
        answers, calls, alone = {}, [], []
        for how, (solve, given) in ways.items():
            many, one = jax.jit(jax.vmap(solve)), jax.jit(solve)
            single = x[0], jax.tree.map(lambda leaf: leaf[0], given)
            answers[how] = many(x, given)
            calls.append(lambda many=many, given=given: jax.block_until_ready(many(x, given).controls))
            alone.append(lambda one=one, single=single: jax.block_until_ready(one(*single).controls))
        times = measure_in_turn(calls, REPEATS), measure_in_turn(alone, REPEATS)
        for how, together, single in zip(answers, *times, strict=True):
            answer = answers[how]
            rows.append(
                ActiveSetRow(
                    case=name,
                    how=how,
                    problems=PROBLEMS,
                    without=float(jnp.mean(answer.iterations == 0)),
                    iterations=float(jnp.mean(answer.iterations)),
                    failed=float(jnp.mean(answer.status != pa.Status.SOLVED)),
                    milliseconds=together.median,
                    alone=single.median,
                )
            )
            told = rows[-1]
            report(f"{name}, {how}: {told.iterations:.1f} iterations, {told.milliseconds:.2f} ms for {PROBLEMS}")
        return rows


def _shifted(found: pa.QPSolution) -> pa.QPSolution:
    """Solutions one stage earlier, their last stages repeated."""

    def earlier(leaf: Array) -> Array:
        return jnp.concatenate([leaf[:, 1:], leaf[:, -1:]], axis=1)

    fields = ("states", "controls", "costates", "multipliers")
    moved = [earlier(getattr(found, field)) for field in fields]
    return eqx.tree_at(lambda found: [getattr(found, field) for field in fields], found, moved)


SET_HEADINGS = ("case", "how", "no iteration", "iterations", "failed", f"ms for {PROBLEMS}", "ms for one")


def set_cells(row: ActiveSetRow) -> tuple[str, ...]:
    """A line of the table, under `SET_HEADINGS`."""
    times = (f"{row.milliseconds:.2f}", f"{row.alone:.3f}")
    return (
        row.case,
        row.how,
        f"{100 * row.without:.1f} %",
        f"{row.iterations:.1f}",
        f"{100 * row.failed:.1f} %",
        *times,
    )
