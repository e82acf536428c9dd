"""The two ways of writing a reference problem say the same thing, and its points are what they are called.

Checked before any planner runs, so that a disagreement with IPOPT is a planner's and not a transcription's.
"""

import casadi as ca
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.problem import at_stage
from tests.planning.reference_problems import REFERENCES, Reference

references = pytest.mark.parametrize("reference", REFERENCES, ids=lambda reference: reference.name)


@references
def test_dynamics_and_costs_agree_with_the_transcription(reference: Reference, x64):
    problem, oracle = reference.build(), reference.oracle()
    random = np.random.default_rng(1)

    @eqx.filter_jit
    def written_in_jax(stage_problem, x, u):
        residual, last = stage_problem.stage_residual(x, u), stage_problem.terminal_residual(x)
        return (
            stage_problem.dynamics(x, u),
            stage_problem.stage_cost(x, u) + residual @ residual / 2,
            stage_problem.terminal_cost(x) + last @ last / 2,
        )

    for stage in (0, 3, problem.horizon):
        x = np.array(reference.state) + 0.3 * random.normal(size=problem.state_size)
        u = np.array(reference.action) + 0.3 * random.normal(size=problem.control_size)
        following, cost, terminal = written_in_jax(at_stage(problem, stage), jnp.asarray(x), jnp.asarray(u))
        if stage == problem.horizon:
            np.testing.assert_allclose(terminal, float(oracle.terminal_cost(ca.DM(x))), rtol=1e-12)
        else:
            expected = np.array(oracle.dynamics(ca.DM(x), ca.DM(u), stage)).ravel()
            np.testing.assert_allclose(following, expected, rtol=1e-12, atol=1e-13)
            np.testing.assert_allclose(cost, float(oracle.stage_cost(ca.DM(x), ca.DM(u), stage)), rtol=1e-12)


@references
def test_points_are_as_active_as_they_are_called(reference: Reference):
    oracle = reference.oracle()
    margin = {
        name: oracle.margins(oracle.solve(point)).min()
        for name, point in (("active", reference.state), ("inactive", reference.inactive), ("weak", reference.weak))
        if point is not None
    }
    assert margin["active"] < 1e-7
    assert margin.get("inactive", 1.0) > 0.01
    assert 0.0 < margin.get("weak", 1e-5) < 1e-3


@pytest.mark.parametrize("reference", [entry for entry in REFERENCES if entry.known_cost], ids=lambda entry: entry.name)
def test_published_costs_are_reproduced_by_the_oracle(reference: Reference):
    assert reference.oracle().solve(reference.state).cost == pytest.approx(reference.known_cost, rel=1e-8)


def test_the_oracle_differentiates_its_own_cost():
    """The multipliers it reports are the derivatives of its cost, by central differences."""
    oracle, step = REFERENCES[0].oracle(), 1e-4
    state, control = np.array(REFERENCES[0].state), np.array(REFERENCES[0].action)
    optimum = oracle.solve(state, control)
    for axis in np.eye(2):
        difference = oracle.solve(state + step * axis, control).cost - oracle.solve(state - step * axis, control).cost
        assert optimum.state_gradient @ axis == pytest.approx(difference / (2 * step), rel=1e-6)
    difference = oracle.solve(state, control + step).cost - oracle.solve(state, control - step).cost
    assert optimum.control_gradient is not None
    assert optimum.control_gradient[0] == pytest.approx(difference / (2 * step), rel=1e-6)
