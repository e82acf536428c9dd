"""Sequential quadratic programming over batches of optimal control problems.

Each iteration linearises all lanes, solves their QPs together, and moves along the steps:

    z ← trial(z, d, α),     (π, λ, s, …) ← (1 - α) old + α QP's

Hard rows other than the control box are elastic inside the iteration: priced at ρ per unit, ρ raised while a violation
remains. For ρ above the multipliers the solution is the same (an exact penalty), and a problem without a feasible
trajectory still has a best one. What is left of a violation at the largest ρ makes the lane infeasible. Lanes that have
ended stay as they are, bit for bit.

References: J. Nocedal, S. Wright, *Numerical Optimization*, 2nd ed., ch. 18; the real-time iteration: M. Diehl et al.,
J. Process Control 12 (2002).
"""

import dataclasses
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from planahead.planning.elastic import PRICE_RANGE, Elastic
from planahead.planning.globalisation import FullStep, Globalisation, Step
from planahead.planning.line_search import LineSearch
from planahead.planning.linearisation import Exact, GaussNewton, Hessian
from planahead.planning.problem_batch import ProblemBatch, lanes_in_cache
from planahead.problem import Problem
from planahead.qp import InteriorPoint, Status, backend, interior_point, newton
from planahead.qp.batching import VECTOR
from planahead.qp.interior_point import (
    Arithmetic,
    Backend,
    check_arithmetic,
    check_backend,
    check_count,
    check_positive,
)
from planahead.qp.lanes import along, choose, largest
from planahead.qp.newton import Rows, net
from planahead.qp.types import LaneQP, Point, QPGuess


class SQP(eqx.Module):
    """Settings of the planner. `None` means: chosen from the number format."""

    hessian: Hessian = eqx.field(static=True, default=GaussNewton())
    globalisation: Globalisation = eqx.field(static=True, default=LineSearch())
    tau: float | None = eqx.field(static=True, default=None)
    """The barrier at the solution, in units of cost. The default is next to exact; 1e-3 or so smooths the plan as a
    function of the problem across active-set changes, in the plan and in its derivative alike."""
    tolerance: float | None = eqx.field(static=True, default=None)
    """Largest relative optimality residual of a solved lane: 1e-8 in float64, 1e-4 in float32."""
    iterations: int = eqx.field(static=True, default=200)
    """At most. Gauss-Newton steps shrink only linearly where residuals stay large: of 512 cart-poles from a guess of
    zeros the slowest takes 188, their mean 21."""
    gradient_tolerance: float | None = eqx.field(static=True, default=None)
    """Derivatives are kept up to this residual; by default the tolerance, so that only solved lanes have them."""

    backend: Backend = eqx.field(static=True, default="auto")
    """Who solves the QPs; see `InteriorPoint`."""
    arithmetic: Arithmetic = eqx.field(static=True, default="float64")
    """What the native kernel solves the QPs of float32 problems in; see `InteriorPoint`. With "float32" they are solved
    in the square-root form, where the Hessian is convex. Derivatives are computed in float64 all the same, and the
    residual that makes a plan a solution does not depend on it."""

    derivative: Literal["solution", "step"] = eqx.field(static=True, default="solution")
    """Whose derivative a plan has: that of the conditions of a solution at the point reached, or that of one full
    Gauss-Newton step from the guess as it is (`step.py`), which takes no second derivatives by states and controls."""
    shooting: Literal["multiple", "single"] = eqx.field(static=True, default="multiple")
    """What is found: states and controls of all stages, or the controls alone, for horizons of a few steps; see
    `single_shooting.py`."""

    def __check_init__(self):
        check_count("SQP(iterations=", self.iterations)
        check_backend("SQP(backend=", self.backend)
        check_arithmetic("SQP(arithmetic=", self.arithmetic)
        for name in ("tau", "tolerance", "gradient_tolerance"):
            check_positive(f"SQP({name}=", getattr(self, name))
        if self.derivative not in ("solution", "step"):
            raise ValueError(f"SQP(derivative={self.derivative!r}); 'solution' or 'step' was expected.")
        one_step = self.iterations == 1 and isinstance(self.globalisation, FullStep)
        if self.derivative == "step" and not (one_step and isinstance(self.hessian, GaussNewton)):
            raise ValueError(
                "SQP(derivative='step') is the derivative of one full Gauss-Newton step; use "
                "SQP.real_time(derivative='step'), or derivative='solution'."
            )
        if self.shooting not in ("multiple", "single"):
            raise ValueError(f"SQP(shooting={self.shooting!r}); 'multiple' or 'single' was expected.")
        if not isinstance(self.hessian, GaussNewton | Exact):
            raise ValueError(f"SQP(hessian={self.hessian!r}); pa.GaussNewton() or pa.Exact() was expected.")
        if not isinstance(self.globalisation, Globalisation):
            raise ValueError(
                f"SQP(globalisation={self.globalisation!r}); pa.LineSearch() or pa.FullStep() was expected."
            )

    @classmethod
    def real_time(cls, *, iterations: int = 1, gradient_tolerance: float = jnp.inf, **settings: Any) -> "SQP":
        """One full step from the guess. Derivatives are those of the conditions at the point reached, however close
        that is, or with `derivative="step"` those of the step itself."""
        return cls(
            iterations=iterations, globalisation=FullStep(), gradient_tolerance=float(gradient_tolerance), **settings
        )

    def resolved_tolerance(self, dtype) -> float:
        return self.tolerance if self.tolerance is not None else (1e-8 if dtype == jnp.float64 else 1e-4)

    def largest_violation(self, dtype) -> float:
        """Of a hard row or of the dynamics, in their own units, in a solved plan: 1e-6 in float64, 1e-3 in float32.
        An elastic row keeps about τ/ρ, which is less."""
        return 1e-6 if dtype == jnp.float64 else 1e-3

    def inner(self, dtype) -> InteriorPoint:
        """The solver of the QPs. Where it computes in float32 and the Hessian is convex, it takes the square-root form:
        the classic one loses definiteness to rounding."""
        convex = isinstance(self.hessian, GaussNewton) or self.hessian.convexify != "none"
        return InteriorPoint(
            tau=self.tau,
            tolerance=0.1 * self.resolved_tolerance(dtype),
            backend=self.backend,
            arithmetic=self.arithmetic,
            riccati="square-root" if convex and self._in_single(dtype) else "classic",
        )

    def block(self, problem: Problem, dtype) -> int:
        """How many lanes to plan for at a time: as many as fit into the cache, and a vector of the kernel's at least.
        Hanging chains, of which 5 fit, take a fifth to a quarter less time by 16 than by 8."""
        return max(lanes_in_cache(problem, dtype), (2 if self._in_single(dtype) else 1) * VECTOR)

    def _in_single(self, dtype) -> bool:
        return dtype == jnp.float32 and self.arithmetic == "float32"

    def resolved_gradient_tolerance(self, dtype) -> float:
        return self.resolved_tolerance(dtype) if self.gradient_tolerance is None else self.gradient_tolerance


class Iterate(eqx.Module):
    """Where every lane is, and how it ended."""

    z: Float[Array, "nodes nz B"]
    point: Point
    """Multipliers and row variables at z; its `z` is a step and means nothing between iterations."""
    tau: Float[Array, " B"]
    status: Int[Array, " B"]
    iterations: Int[Array, " B"]
    residual: Float[Array, " B"]
    violation: Float[Array, " B"]


class _Loop(eqx.Module):
    """The state of the iteration, lane by lane."""

    z: Float[Array, "nodes nz B"]
    point: Point
    tau: Float[Array, " B"]
    price: Float[Array, " B"]  # ρ
    first_price: Float[Array, " B"]
    status: Int[Array, " B"]
    iterations: Int[Array, " B"]
    residual: Float[Array, " B"]
    violation: Float[Array, " B"]
    active: Bool[Array, " B"]
    memory: Any  # of the globalisation
    iteration: Int[Array, ""]


def solve(
    settings: SQP,
    problems: ProblemBatch,
    state: Float[Array, "nx B"],
    control: Float[Array, "nu B"] | None,
    guess: Float[Array, "nodes nz B"],
) -> Iterate:
    """Solve all lanes of `problems` from `state`, starting at `guess`."""
    nu, lanes = problems.control_size, state.shape[-1]
    dtype = state.dtype
    tolerance, feasible = settings.resolved_tolerance(dtype), settings.largest_violation(dtype)
    globalisation, pinned = settings.globalisation, control is not None
    z = begun(guess, state, control, nu)
    data = problems.row_data(dtype, pinned)
    elastic = Elastic(data, nu)
    inner = settings.inner(dtype)
    blank = jnp.zeros_like(data.bound)
    nothing = Point(jnp.zeros_like(z), jnp.zeros((z.shape[0], *state.shape), dtype), blank + 1, blank, blank, blank)

    def iteration(loop: _Loop) -> _Loop:
        """Look at where the lanes are, then move those that are not done."""
        qp = problems.linearise(state, loop.z, loop.point.pi, net(loop.point.lam), data, settings.hessian, pinned)
        first = loop.iteration == 0
        # Looking at every number takes as long as linearising, and later ones are watched by the steps they lead to.
        usable = jax.lax.cond(first, interior_point.valid, lambda _: jnp.ones(lanes, bool), qp)
        price = jnp.where(first, elastic.first_price(qp, usable), loop.price)
        first_price = jnp.where(first, price, loop.first_price)
        limit = PRICE_RANGE * first_price
        qp = elastic.priced(qp, price)
        error = optimality(qp, loop.point, loop.tau)
        violation = jnp.maximum(elastic.violation(qp), largest(qp.c))

        invalid = loop.active & ~usable & first
        active = loop.active & ~invalid
        optimal = active & (error <= tolerance) & (loop.iterations > 0)
        solved = optimal & (violation <= feasible)
        infeasible = optimal & ~solved & (price >= limit)
        status = jnp.where(invalid, Status.INVALID_INPUT, loop.status)
        status = jnp.where(solved, Status.SOLVED, jnp.where(infeasible, Status.INFEASIBLE, status))
        loop = dataclasses.replace(
            loop,
            price=jnp.where(optimal & ~solved, jnp.minimum(10 * price, limit), price),
            first_price=first_price,
            status=status,
            residual=jnp.where(active, error, loop.residual),
            violation=jnp.where(active, violation, loop.violation),
            active=active & ~solved & ~infeasible & (loop.iterations < settings.iterations),
            memory=globalisation.look(loop.memory, error),
            iteration=loop.iteration + 1,
        )
        # When the last lane has just ended there is nothing left to move.
        return jax.lax.cond(jnp.any(loop.active), lambda loop: move(loop, qp, limit), lambda loop: loop, loop)

    def move(loop: _Loop, qp: LaneQP, limit: Float[Array, " B"]) -> _Loop:
        # The step is unknown, but the multipliers are those of the last QP.
        guess = QPGuess(jnp.zeros_like(loop.z), loop.point.pi, loop.point.lam)
        outcome = backend.solve(
            qp, backend.everywhere(qp), inner, loop.active, gain=globalisation.uses_gain, guess=guess
        )
        usable = loop.active & (outcome.status != Status.INVALID_INPUT) & jnp.isfinite(outcome.residual)
        violated = loop.violation > feasible
        step = Step(loop.z, qp, outcome, data.bound, loop.active, usable, violated)
        end = globalisation.move(problems, loop.memory, step)
        point = jax.tree.map(lambda new, old: old + along(end.alpha, old) * (new - old), outcome.point, loop.point)
        point = choose(end.restarted, nothing, choose(usable, point, loop.point))

        costlier = (usable & (elastic.remaining(qp, outcome.point) > feasible)) | (~(usable & end.accepted) & violated)
        price = jnp.where(costlier, jnp.minimum(10 * loop.price, limit), loop.price)
        stalled = end.stuck & ~(violated & (loop.price < limit))
        return dataclasses.replace(
            loop,
            z=choose(usable | end.restarted, end.z, loop.z),
            point=point,
            tau=jnp.where(usable, outcome.tau, loop.tau),
            price=jnp.where(end.restarted, loop.first_price, price),
            status=jnp.where(stalled, jnp.where(violated, Status.INFEASIBLE, Status.STALLED), loop.status),
            iterations=loop.iterations + loop.active,
            active=loop.active & ~stalled,
            memory=end.memory,
        )

    ones = jnp.ones(lanes, dtype)
    loop = _Loop(
        z=z,
        point=nothing,
        tau=ones,
        price=ones,
        first_price=ones,
        status=jnp.full(lanes, Status.ITERATION_LIMIT),
        iterations=jnp.zeros(lanes, int),
        residual=jnp.inf * ones,
        violation=jnp.inf * ones,
        active=jnp.ones(lanes, bool),
        memory=globalisation.begin(z),
        iteration=jnp.zeros((), int),
    )
    end = jax.lax.while_loop(lambda loop: jnp.any(loop.active), iteration, loop)
    return Iterate(end.z, end.point, end.tau, end.status, end.iterations, end.residual, end.violation)


def begun(
    guess: Float[Array, "nodes nz B"], state: Float[Array, "nx B"], control: Float[Array, "nu B"] | None, nu: int
) -> Float[Array, "nodes nz B"]:
    """The guess, from the given state and with the pinned control."""
    first = guess[:1, :nu] if control is None else control[None]
    return jnp.concatenate([jnp.concatenate([first, state[None]], 1), guess[1:]])


def optimality(qp: LaneQP, point: Point, tau: Float[Array, " B"]) -> Float[Array, " B"]:
    """The relative residual of the conditions at the place where `qp` was made."""
    rows = Rows(qp)
    here = eqx.tree_at(lambda point: point.z, point, jnp.zeros_like(point.z))
    return interior_point.relative_error(qp, rows, here, newton.residuals(qp, rows, here, tau, at_zero=True), tau)
