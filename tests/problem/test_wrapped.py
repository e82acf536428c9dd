"""Problems that are others but for some functions: what is not written is the base's, parameters and plans included."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.problem import Quadratic, with_value, wraps
from planahead.problem.problem import overrides

STATE = np.array([0.3, 0.2])


def corrected(base: pa.Problem) -> pa.ResidualDynamics:
    return pa.ResidualDynamics(base, (1.0, 1.0), (1.0,), key=jax.random.key(0))


def solved(problem: pa.Problem) -> pa.Plan:
    return pa.solve(problem, jnp.asarray(STATE))


def same(one: pa.Plan, other: pa.Plan) -> bool:
    parts = (one.controls, other.controls), (one.states, other.states), (one.cost, other.cost)
    return all(np.array_equal(a, b) for a, b in parts)


@pytest.mark.long
@pytest.mark.parametrize("name", ["linear", "mass-spring-damper"])
def test_an_untrained_network_changes_no_bit_of_a_plan(name: str, x64):
    base = pa.make_task(name).problem
    assert same(solved(corrected(base)), solved(base))


def test_a_network_corrects_the_next_state_as_the_formula_says(x64):
    problem = corrected(pa.make_task("linear").problem)
    problem = eqx.tree_at(lambda p: p.residual_network.layers[-1].bias, problem, jnp.array([0.5, -1.0]))
    u = jnp.array([0.1])
    np.testing.assert_allclose(
        problem.dynamics(jnp.asarray(STATE), u) - problem.base.dynamics(jnp.asarray(STATE), u), [0.05, -0.1], rtol=1e-12
    )
    assert not same(solved(problem), solved(problem.base))


def test_parameters_of_the_base_are_those_of_what_wraps_it(x64):
    base = pa.make_task("linear").problem
    problem = pa.QuadraticTerminalCost(corrected(base))
    space, known = pa.ParameterSpace(problem), pa.ParameterSpace(base)
    assert (space.names, space.shapes, space.low_entries) == (known.names, known.shapes, known.low_entries)
    values = known.flatten(base) + 0.01
    moved = space.insert(problem, values)
    np.testing.assert_array_equal(known.flatten(moved.base.base), values)  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_array_equal(space.flatten(moved), values)
    staged = pa.per_stage(problem, "model_offset", range(0, 10))
    assert pa.ParameterSpace(staged, "model_offset").size == 20
    with pytest.raises(AttributeError, match="no attribute 'mass'"):
        _ = problem.mass


def test_what_is_left_to_the_base_counts_as_written_where_the_base_writes_it():
    problem = corrected(pa.make_task("linear").problem)
    written = {name for name in ("stage_cost", "terminal_cost", "stage_residual", "action") if overrides(problem, name)}
    assert written == {"stage_residual"} and overrides(pa.QuadraticTerminalCost(problem), "terminal_cost")
    assert wraps(pa.QuadraticTerminalCost(problem), pa.ResidualDynamics)
    assert not wraps(problem, pa.QuadraticTerminalCost)


@pytest.mark.long
def test_a_terminal_value_starts_as_the_quadratic_cost_that_it_replaces(x64):
    base = pa.make_task("mass-spring-damper", matched=True).problem
    problem = pa.QuadraticTerminalCost(base)
    np.testing.assert_allclose(solved(problem).controls, solved(base).controls, atol=1e-9)
    assert float(pa.value(problem, jnp.asarray(STATE))) == pytest.approx(
        float(pa.value(base, jnp.asarray(STATE))), rel=1e-9
    )


def test_a_value_is_what_it_was_made_of_and_convex(x64):
    problem = pa.QuadraticTerminalCost(pa.make_task("linear").problem)
    curvature, slope = jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([0.3, -0.7])
    found = with_value(problem, Quadratic(curvature, slope, jnp.array(0.2)))
    assert isinstance(found, pa.QuadraticTerminalCost)
    x = jnp.array([1.5, -0.4])
    assert float(found.value(x)) == pytest.approx(float(0.2 + slope @ x + x @ curvature @ x / 2), rel=1e-12)
    for part, given in zip(found.quadratic, (curvature, slope, 0.2), strict=True):
        np.testing.assert_allclose(part, given, atol=1e-12)
    bent = with_value(problem, Quadratic(jnp.diag(jnp.array([2.0, -1.0])), slope, jnp.array(0.2)))
    assert isinstance(bent, pa.QuadraticTerminalCost)
    np.testing.assert_allclose(bent.quadratic.curvature, np.diag([2.0, 0.0]), atol=1e-12)
    np.testing.assert_allclose(bent.quadratic.slope, slope, atol=1e-12)


def test_scales_that_do_not_fit_are_refused():
    base = pa.make_task("linear").problem
    message = r"dynamics of LinearSystemProblem came with the scales \(1.0,\) and \(1.0,\); 2 positive, finite numbers"
    with pytest.raises(ValueError, match=message):
        pa.ResidualDynamics(base, (1.0,), (1.0,), key=jax.random.key(0))


def test_a_wrapper_does_not_hide_a_parameter():
    class Windy(pa.WrappedProblem):
        offset: pa.Array

    message = (
        "LinearSystemProblem has a parameter 'offset', and so has Windy, around it, something of that name; rename"
    )
    with pytest.raises(ValueError, match=message):
        Windy(pa.make_task("linear").problem, jnp.zeros(()))  # pyright: ignore[reportCallIssue]
