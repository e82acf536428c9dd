"""The planner against IPOPT on the same problem: cost within 1e-6 relative, controls within 1e-4, in float64.

IPOPT solves a transcription that shares no code with the package (`ipopt.py`). V is the best plan from a state, Q the
best plan whose first control is given. In float32 the planner has to solve too; `float32_table.py` prints how far.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from tests.planning.ipopt import Optimum
from tests.planning.reference_problems import Reference
from tests.planning.study import best_plans, each_reference, optimum, pinned_plan, planner, quick_jit


def assert_same(plan: pa.Plan, expected: Optimum, cost: float, controls: float) -> None:
    assert int(plan.status) == pa.Status.SOLVED, plan.explain()
    assert bool(plan.gradient_valid)
    np.testing.assert_allclose(float(plan.cost), expected.cost, rtol=cost, atol=cost * 1e-2)
    magnitude = max(1.0, np.abs(expected.controls).max())
    np.testing.assert_allclose(plan.controls, expected.controls, atol=controls * magnitude, rtol=0)


@each_reference(heavy_is_slow=True)
def test_best_plan(reference: Reference):
    for point, study in best_plans(reference).items():
        expected = optimum(reference, point)
        assert_same(study.plan, expected, cost=1e-6, controls=1e-4)
        np.testing.assert_allclose(
            study.plan.states, expected.states, atol=1e-4 * max(1.0, np.abs(expected.states).max())
        )
    if reference.known_cost is not None:
        found = best_plans(reference)[reference.state].plan.cost
        assert float(found) == pytest.approx(reference.known_cost, rel=1e-7)


@each_reference(heavy_is_slow=True)
def test_best_plan_with_a_pinned_first_control(reference: Reference):
    plan = pinned_plan(reference).plan
    assert_same(plan, optimum(reference, reference.state, reference.action), cost=1e-6, controls=1e-4)
    np.testing.assert_array_equal(plan.controls[0], reference.action)


@each_reference(heavy_is_slow=True)
def test_cost_gradients_are_the_multipliers_of_ipopt(reference: Reference):
    """∂Q/∂s and ∂Q/∂a are the multipliers of the rows that pin s and a in IPOPT's program."""
    study, expected = pinned_plan(reference), optimum(reference, reference.state, reference.action)
    gradients = dict(zip(study.inputs, study.gradients["cost"], strict=True))
    weight = study.weights["cost"][0]
    assert expected.control_gradient is not None
    scale = np.abs(expected.state_gradient).max()
    np.testing.assert_allclose(gradients["['state']"] / weight, expected.state_gradient, atol=1e-5 * scale)
    np.testing.assert_allclose(gradients["['control']"] / weight, expected.control_gradient, atol=1e-5 * scale)


@pytest.mark.parametrize("arithmetic", ["float64", "float32"])
@each_reference(heavy_is_slow=True)
def test_float32_solves_what_float64_solves(reference: Reference, arithmetic):
    problem, chosen = reference.build(), dataclasses.replace(planner(reference), arithmetic=arithmetic)
    plan = quick_jit(lambda state: pa.solve(problem, state, planner=chosen))(jnp.asarray(reference.state, float))
    assert plan.controls.dtype == np.float32
    assert_same(plan, optimum(reference, reference.state), cost=1e-3, controls=2e-2)
