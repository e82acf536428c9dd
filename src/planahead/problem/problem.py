"""The optimal control problem as a class: the problem is the parameter.

    minimise    Σ_{k<N} γ^k [ ℓ(x_k, u_k) + ½‖r(x_k, u_k)‖² ] + γ^N [ ℓ_N(x_N) + ½‖r_N(x_N)‖² ] + prices of soft rows
                + λ(x_0)
    subject to  x_{k+1} = f(x_k, u_k),   x_0 given
                u_k within `control_bounds` (k = 0…N-1),  x_k within `state_bounds` (k = 1…N-1),
                x_N within `terminal_bounds`
                g(x_k, u_k) <= 0 (k = 0…N-1),   g_N(x_N) <= 0

    symbol    method                                   shape
    f         `dynamics(x, u)`                         [nx]
    ℓ, ℓ_N    `stage_cost(x, u)`, `terminal_cost(x)`   []
    r, r_N    `stage_residual`, `terminal_residual`    [any]
    λ         `initial_cost(x)`                        []
    g, g_N    `constraints`, `terminal_constraints`    [ng], [ng_N]
    γ         `discount`                               []

Every array in a problem is a leaf of a pytree: `jax.grad` with respect to the problem gives every sensitivity,
`jax.vmap` solves a batch of different problems, and an optimiser can train any part of it.
"""

import abc
import difflib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from planahead.problem.bounds import Bounds, Slack
from planahead.problem.fields import parameter_boxes, static

_NEARLY = 0.92
"""Of two names: `stage_costs` is 0.95 like `stage_cost`, `state_cost` 0.9, which may well be another thing."""


class Problem(eqx.Module):
    """An optimal control problem over a finite horizon. Subclass it and write its functions for one stage.

    Required are the static fields `horizon`, `state_size`, `control_size` and the method `dynamics`. All costs are
    minimised. A residual contributes ½‖r‖² and gives the Gauss-Newton Hessian its curvature; prefer it where a cost is
    a sum of squares. A method that is misspelled is refused, since its default would be planned with.

    >>> import jax.numpy as jnp
    >>> import planahead as pa
    >>> class DoubleIntegrator(pa.Problem):
    ...     horizon: int = pa.static(10)
    ...     state_size: int = pa.static(2)                       # position, velocity
    ...     control_size: int = pa.static(1)                     # acceleration
    ...     target: pa.Array = pa.parameter(0.0, low=-1.0, high=1.0)
    ...     def dynamics(self, x, u):
    ...         return jnp.stack([x[0] + 0.1 * x[1], x[1] + 0.1 * u[0]])
    ...     def stage_residual(self, x, u):
    ...         return jnp.stack([x[0] - self.target, 0.1 * x[1], 0.1 * u[0]])
    ...     def control_bounds(self):
    ...         return pa.Bounds(-1.0, 1.0)
    >>> plan = pa.solve(DoubleIntegrator(), jnp.array([1.0, 0.0]))
    >>> pa.Status(int(plan.status)).name, round(float(plan.controls[0, 0]), 3)
    ('SOLVED', -1.0)
    """

    horizon: eqx.AbstractVar[int]
    """Number of intervals N: controls at the stages 0…N-1, states at 0…N."""
    state_size: eqx.AbstractVar[int]
    control_size: eqx.AbstractVar[int]
    discount: Float[Array, ""] | float = static(1.0)
    """γ: stage k weighs γ^k. Declare it as a `parameter()` to learn it."""

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        _check_spelling(cls)

    def __check_init__(self):
        name = type(self).__name__
        for field in ("horizon", "state_size", "control_size"):
            size = getattr(self, field)
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
                raise ValueError(f"{name}.{field} is {size!r}; an integer of at least 1 is expected.")
        for field in parameter_boxes(self):
            value = getattr(self, field)
            if isinstance(value, str):
                raise TypeError(f"{name}.{field} is {value!r}; a number or an array is expected.")
            for array in jax.tree.leaves(value):
                known = isinstance(array, jax.Array | np.ndarray) and not isinstance(array, Tracer)
                if known and np.isnan(np.asarray(array, float)).any():
                    raise ValueError(f"{name}.{field} is not a number: {array}.")

    @abc.abstractmethod
    def dynamics(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> Float[Array, " nx"]:
        """The next state x_{k+1}."""

    def stage_cost(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> Float[Array, ""]:
        """A scalar cost of stage k < N."""
        del x, u
        return jnp.zeros(())

    def stage_residual(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> Float[Array, " residuals"]:
        """Residuals of stage k < N; they cost ½‖r‖²."""
        del x, u
        return jnp.zeros(0)

    def terminal_cost(self, x: Float[Array, " nx"]) -> Float[Array, ""]:
        """A scalar cost of the last state."""
        del x
        return jnp.zeros(())

    def terminal_residual(self, x: Float[Array, " nx"]) -> Float[Array, " residuals"]:
        """Residuals of the last state; they cost ½‖r‖²."""
        del x
        return jnp.zeros(0)

    def initial_cost(self, x: Float[Array, " nx"]) -> Float[Array, ""]:
        """A scalar cost of the given state x_0: an offset, a storage function, the price of a violation that is there
        already. It counts in the plan's cost, in `value` and in `action_value`, and moves no plan."""
        del x
        return jnp.zeros(())

    def control_bounds(self) -> Bounds:
        """Bounds on u_k. Hard ones can always be kept; every plan's controls are inside."""
        return Bounds()

    def control_guess(self) -> Float[Array, " nu"]:
        """The control of every stage that a planner starts from where it is given no guess; it is moved into the
        bounds first. A control at which others have an effect is a good one: without thrust a quadrotor's rates move
        nothing."""
        return jnp.zeros(self.control_size)

    def action(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> Float[Array, " action"]:
        """What a policy tells the plant where a plan has the control u in state x: u itself, unless the problem plans
        in other terms than the plant is commanded in."""
        del x
        return u

    @property
    def plans_actions(self) -> bool:
        """Whether a control is the action itself, so that `action` translates nothing."""
        return not overrides(self, "action")

    def writes(self, method: str) -> bool:
        """Whether the class writes `method` itself; a problem around another one answers for the one inside."""
        return getattr(type(self), method) is not getattr(Problem, method)

    def state_bounds(self) -> Bounds:
        """Bounds on x_k for k = 1…N-1 (the initial state is given). Soft bounds never make a problem infeasible."""
        return Bounds()

    def terminal_bounds(self) -> Bounds:
        """Bounds on x_N; as `state_bounds` unless overridden."""
        return self.state_bounds()

    def constraints(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> Float[Array, " ng"]:
        """Values that must not be positive, at the stages k = 0…N-1."""
        del x, u
        return jnp.zeros(0)

    def constraint_slack(self) -> Slack | None:
        """The price of violating `constraints`; `None` makes them hard."""
        return None

    def terminal_constraints(self, x: Float[Array, " nx"]) -> Float[Array, " ng_N"]:
        """Values that must not be positive, at the last stage."""
        del x
        return jnp.zeros(0)

    def terminal_constraint_slack(self) -> Slack | None:
        """The price of violating `terminal_constraints`; `None` makes them hard."""
        return None


def _check_spelling(kind: type[Problem]) -> None:
    """Refuse methods that nobody will call, and whose names are nearly those of methods that the class lacks."""
    known = [name for name in vars(Problem) if not name.startswith("_")]
    for name in vars(kind).keys() - dir(Problem) - vars(kind).get("__annotations__", {}).keys():
        for meant in difflib.get_close_matches(name, known, n=1, cutoff=_NEARLY):
            if all(meant not in vars(base) for base in kind.__mro__[: kind.__mro__.index(Problem)]):
                raise TypeError(
                    f"{kind.__name__} writes `{name}`, which no planner calls, and has the default `{meant}`; call it "
                    f"`{meant}` if that is what it is, or something less like it."
                )


def overrides(problem: Problem, method: str) -> bool:
    """Whether the problem writes `method` itself, so that work for the defaults can be left out."""
    return problem.writes(method)
