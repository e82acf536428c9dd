"""Messages for arguments and problems that cannot be planned with, and what a list of numbers costs."""

from typing import Any, cast

import jax.numpy as jnp
import jaxtyping
import pytest

import planahead as pa


@pytest.fixture(autouse=True)
def unchecked():
    """Users have no type checks at run time; the messages are for them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class Push(pa.Problem):
    """A mass on a line, three steps long."""

    horizon: int = pa.static(3)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    mass: pa.Array = pa.parameter(1.0, low=0.5, high=2.0)

    def dynamics(self, x, u):
        return jnp.stack([x[0] + 0.1 * x[1], x[1] + 0.1 * u[0] / self.mass])

    def stage_residual(self, x, u):
        return jnp.concatenate([x, u])


STATE = jnp.array([1.0, 0.0])


def changed(**methods) -> pa.Problem:
    """`Push` with other methods."""
    return type("Push", (Push,), {"__module__": __name__, **methods})()


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((Push, STATE), {}, r"problem is the class Push; .* build one with Push\(\)"),
        (("cartpole", STATE), {}, r"problem is a str; an instance of a subclass of planahead.Problem is expected"),
        ((Push(), STATE), {"guess": STATE}, r"guess is a .*; a Guess, a Plan \(plan.shift\(\)\) or None is expected"),
        ((Push(), STATE), {"planner": pa.SQP}, r"planner is the class SQP; planner settings such as planahead.SQP"),
    ],
)
@pytest.mark.parametrize("function", [pa.solve, pa.value])
def test_arguments_of_another_kind_are_named(function, arguments, settings, message):
    with pytest.raises(TypeError, match=message):
        function(*arguments, **settings)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (
            changed(dynamics=lambda self, x, u: [x[0], x[1]]),
            r"Push.dynamics returns a list; an array is expected \(use jnp.stack",
        ),
        (
            changed(dynamics=lambda self, x, u: x[:1]),
            r"Push.dynamics returns shape \(1,\); with state_size = 2 it must return \(2,\)",
        ),
        (
            changed(stage_cost=lambda self, x, u: x),
            r"Push.stage_cost returns shape \(2,\); a cost is a scalar \(use stage_residual",
        ),
        (
            changed(initial_cost=lambda self, x: x),
            r"Push.initial_cost returns shape \(2,\); a cost is a scalar\.\s",
        ),
        (
            changed(terminal_cost=lambda self, x: x),
            r"Push.terminal_cost returns .* \(use terminal_residual for squares\)",
        ),
        (
            changed(constraints=lambda self, x, u: x[:, None]),
            r"Push.constraints returns shape \(2, 1\); .* one axis is expected",
        ),
        (
            changed(stage_residual=lambda self, x, u: jnp.array([0, 1])),
            r"Push.stage_residual returns int\d+, which has no derivative; floating-point numbers are expected",
        ),
        (
            changed(constraints=lambda self, x, u: x[0] > 1),
            r"Push.constraints returns bool, which has no derivative; .* x\[0\] - 1\.0 and not x\[0\] > 1\.0",
        ),
        (
            changed(control_bounds=lambda self: (-1.0, 1.0)),
            r"Push.control_bounds returns a tuple; Bounds\(lower, upper\) is expected",
        ),
        (
            changed(constraint_slack=lambda self: 10.0),
            r"Push.constraint_slack returns a float; a Slack or None is expected",
        ),
        (
            Push(mass=cast(Any, pa.PerStage(jnp.ones(3)))),
            r"Push.mass is PerStage with values of shape \(3,\); .* N \+ 1 = 4 long",
        ),
    ],
)
def test_what_a_problem_returns_is_checked(problem, message):
    with pytest.raises((TypeError, ValueError), match=message):
        pa.solve(problem, STATE)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (pa.LineSearch, {"reduction": 1.0}, r"LineSearch\(reduction=1.0\): .* between 0 and 1"),
        (pa.LineSearch, {"sufficient_decrease": 0.0}, r"LineSearch\(sufficient_decrease=0.0\)"),
        (pa.LineSearch, {"full_steps": -1}, r"LineSearch\(full_steps=-1\): at least 0"),
        (pa.LineSearch, {"trials": 0}, r"LineSearch\(trials=0\): at least 1"),
        (pa.Exact, {"convexify": "flip"}, r"Exact\(convexify='flip'\): the known ones are 'mirror', 'project', 'none'"),
        (pa.SQP, {"arithmetic": "half"}, r"SQP\(arithmetic='half'\); the known ones are 'float64', 'float32'"),
        (pa.SQP, {"backend": "gpu"}, r"SQP\(backend='gpu'\); the known ones are 'auto', 'native', 'portable'"),
        (pa.InteriorPoint, {"arithmetic": None}, r"InteriorPoint\(arithmetic=None\); the known ones are 'float64',"),
        (pa.InteriorPoint, {"riccati": "root"}, r"InteriorPoint\(riccati='root'\); the known ones are 'classic',"),
        (pa.Exact, {"smallest": -1.0}, r"Exact\(smallest=-1.0\): .* must not be negative"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)


def test_lists_of_numbers_compile_once():
    traced = []

    class Counted(Push):
        def dynamics(self, x, u):
            traced.append(None)
            return Push.dynamics(self, x, u)

    problem, near, far = Counted(), cast(Any, [0.5, 0.0]), cast(Any, [1.0, 0.0])
    first = pa.value(problem, far)
    compiled = len(traced)
    assert pa.value(problem, near) < first and pa.value(problem, STATE) == first
    assert len(traced) == compiled


def test_a_pinned_control_and_a_guess_may_be_lists():
    guess = pa.Guess(jnp.zeros((4, 2), int), jnp.zeros((3, 1), int))
    plan = pa.solve(Push(), cast(Any, [1, 0]), cast(Any, [0]), guess=guess)
    assert plan.status == pa.Status.SOLVED and plan.controls[0] == 0.0


@pytest.mark.parametrize("problem, state, said", [
    (pa.make_task("mass-spring-damper").problem, [1.0, 0.0, 0.0], r"state has shape \(3,\); state_size = 2"),
    (type(pa.make_task("mass-spring-damper").problem), [1.0, 0.0], "problem is the class"),
])  # fmt: skip
def test_cold_starts_ask_for_the_same(problem, state, said):
    with pytest.raises((ValueError, TypeError), match=said):
        pa.cold_start(problem, state)


def test_a_cold_start_takes_whole_numbers_and_lists():
    problem = pa.make_task("mass-spring-damper").problem
    listed: Any = [1, 0]
    assert (pa.cold_start(problem, listed).states == pa.cold_start(problem, jnp.array([1.0, 0.0])).states).all()
