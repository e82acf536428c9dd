"""A problem that is another one but for some of its functions: what wraps a problem says only what is different.

    problem(method) = base(method),   except what the concrete class writes itself

Everything else (sizes, discount, costs, bounds, constraints) is the base's, and so are the parameters: they are found,
read and replaced in the wrapped problem by the names they have in it, `ParameterSpace(wrapped)` lists them.
"""

from typing import Any, ClassVar

import equinox as eqx

from planahead.problem.fields import WRAPS, parameter_boxes
from planahead.problem.problem import Problem


def _delegated(name: str) -> Any:
    def method(self: "WrappedProblem", *arguments: Any) -> Any:
        return getattr(self.base, name)(*arguments)

    method.__name__ = name
    method.delegates = True  # pyright: ignore[reportFunctionMemberAccess]  # which `writes` looks behind
    return method


def _of_base(name: str) -> Any:
    return property(lambda self: getattr(self.base, name))


class WrappedProblem(Problem):
    """Delegates to `base` whatever a subclass does not write. Wrap again to change more.

    >>> import jax.numpy as jnp, planahead as pa
    >>> class Windy(pa.WrappedProblem):
    ...     def dynamics(self, x, u):
    ...         return self.base.dynamics(x, u) + jnp.array([0.0, 0.1])
    >>> windy = Windy(pa.make_task("mass-spring-damper").problem)
    >>> print(windy.horizon, float(windy.stiffness), windy.dynamics(jnp.zeros(2), jnp.zeros(1)))
    20 2.0 [0.  0.1]
    """

    base: Problem = eqx.field(metadata={WRAPS: True})  # pyright: ignore[reportGeneralTypeIssues]  # the only field

    horizon = _of_base("horizon")
    state_size = _of_base("state_size")
    control_size = _of_base("control_size")
    discount: ClassVar[Any] = _of_base("discount")  # pyright: ignore[reportIncompatibleVariableOverride]  # no field

    dynamics = _delegated("dynamics")
    stage_cost = _delegated("stage_cost")
    stage_residual = _delegated("stage_residual")
    terminal_cost = _delegated("terminal_cost")
    terminal_residual = _delegated("terminal_residual")
    initial_cost = _delegated("initial_cost")
    control_bounds = _delegated("control_bounds")
    control_guess = _delegated("control_guess")
    action = _delegated("action")
    state_bounds = _delegated("state_bounds")
    terminal_bounds = _delegated("terminal_bounds")
    constraints = _delegated("constraints")
    constraint_slack = _delegated("constraint_slack")
    terminal_constraints = _delegated("terminal_constraints")
    terminal_constraint_slack = _delegated("terminal_constraint_slack")

    def writes(self, method: str) -> bool:
        if getattr(getattr(type(self), method), "delegates", False):
            return self.base.writes(method)
        return super().writes(method)

    def __check_init__(self):
        own = {*dir(type(self)), *vars(self)}
        taken = [
            name for name in parameter_boxes(self.base) if name in own and name != "discount"
        ]  # which is passed on
        if taken:
            raise ValueError(
                f"{type(self.base).__name__} has a parameter {', '.join(map(repr, taken))}, and so has "
                f"{type(self).__name__}, around it, something of that name; rename one of them"
            )

    def __getattr__(self, name: str) -> Any:
        """The base's parameters and settings, where the wrapper has nothing of that name."""
        if name.startswith("__") or name == "base":  # which a module under construction does not have yet
            raise AttributeError(name)
        return getattr(self.base, name)


def wraps(problem: Problem, kind: type[WrappedProblem]) -> bool:
    """Whether `problem` is a `kind`, or wraps one.

    >>> import jax, planahead as pa
    >>> value = pa.QuadraticTerminalCost(pa.make_task("linear").problem)
    >>> wraps(value, pa.QuadraticTerminalCost), wraps(value, pa.ResidualDynamics)
    (True, False)
    """
    return isinstance(problem, kind) or (isinstance(problem, WrappedProblem) and wraps(problem.base, kind))
