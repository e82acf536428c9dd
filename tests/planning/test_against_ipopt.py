"""The planner against IPOPT on the same problem: cost within 1e-6 relative, controls within 1e-4, in float64.

IPOPT solves a transcription that shares no code with the package (`ipopt.py`). V is the best plan from a state, Q the
best plan whose first control is given. In float32 the planner has to solve too; `float32_table.py` prints how far.
"""

import numpy as np
import pytest

import planahead as pa
from tests.planning.compiled import FLOAT64_TOLERANCE, each_reference, lane, optimum, plans
from tests.planning.reference_problems import Reference


def assert_same(plan: pa.Plan, expected, cost: float, controls: float) -> None:
    assert pa.Status(int(plan.status)) == pa.Status.SOLVED, plan.explain()
    assert bool(plan.gradient_valid)
    np.testing.assert_allclose(float(plan.cost), expected.cost, rtol=cost, atol=cost * 1e-2)
    magnitude = max(1.0, np.abs(expected.controls).max())
    np.testing.assert_allclose(plan.controls, expected.controls, atol=controls * magnitude, rtol=0)


@each_reference()
def test_best_plan(reference: Reference, x64):
    points = [point for point in (reference.state, reference.inactive, reference.weak) if point is not None]
    found = plans(reference, points, tolerance=FLOAT64_TOLERANCE)
    for index, point in enumerate(points):
        plan, expected = lane(found, index), optimum(reference, point)
        assert plan.cost.dtype == np.float64
        assert_same(plan, expected, cost=1e-6, controls=1e-4)
        np.testing.assert_allclose(plan.states, expected.states, atol=1e-4 * max(1.0, np.abs(expected.states).max()))
    if reference.known_cost is not None:
        assert float(found.cost[0]) == pytest.approx(reference.known_cost, rel=1e-7)


@each_reference()
def test_best_plan_with_a_pinned_first_control(reference: Reference, x64):
    found = plans(reference, [reference.state], [reference.action], tolerance=FLOAT64_TOLERANCE)
    expected = optimum(reference, reference.state, reference.action)
    assert_same(lane(found, 0), expected, cost=1e-6, controls=1e-4)
    np.testing.assert_array_equal(found.controls[0, 0], reference.action)


@each_reference()
def test_float32_solves_what_float64_solves(reference: Reference):
    found = plans(reference, [reference.state])
    assert found.controls.dtype == np.float32
    assert_same(lane(found, 0), optimum(reference, reference.state), cost=1e-4, controls=1e-2)
