"""What counts as a failed solve: one definition for the trained policy and for the planner it is compared with."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import pytest

from planahead.experiments import FixedPlanner, fixed_planner
from planahead.planning import SQP, Plan, solve
from planahead.policies import plan_failed, steering
from planahead.qp import Status
from tests.learning.probes import ProbeTask, SteeredProblem, probe
from tests.policies.test_planned import OBSERVATION, planner_policy

CONTENT = SQP(gradient_tolerance=1e-2)


def ended(status: Status, residual: float, gradient_valid: bool = True) -> Plan:
    """A plan that ended like this."""
    fields = jnp.array(int(status)), jnp.array(residual), jnp.array(gradient_valid)
    plan = solve(SteeredProblem(), OBSERVATION)
    return eqx.tree_at(lambda plan: (plan.status, plan.residual, plan.gradient_valid), plan, fields)


@pytest.mark.parametrize("gradient_valid", [True, False])
@pytest.mark.parametrize("residual", [0.0, 9e-3, 2e-2, float("nan")])
@pytest.mark.parametrize("status", list(Status))
def test_the_residual_decides_at_the_iteration_limit(status: Status, residual: float, gradient_valid: bool):
    plan = ended(status, residual, gradient_valid)
    good = status is Status.SOLVED or (status is Status.ITERATION_LIMIT and residual <= 1e-2)
    assert plan_failed(plan, CONTENT) == (not good)


@pytest.mark.parametrize(("residual", "failed"), [(9e-5, False), (2e-4, True)])
def test_the_default_is_the_tolerance_of_a_solved_plan(residual: float, failed: bool):
    assert plan_failed(ended(Status.ITERATION_LIMIT, residual), SQP()) == failed


def test_precision_decides_the_default(x64):
    assert plan_failed(ended(Status.ITERATION_LIMIT, 9e-5), SQP())


@pytest.mark.parametrize("residual", [9e-3, 2e-2])
@pytest.mark.parametrize("status", list(Status))
def test_policy_and_fixed_planner_agree(monkeypatch: pytest.MonkeyPatch, status: Status, residual: float):
    plan = ended(status, residual)

    def answer(*_: Any, **__: Any) -> Plan:
        return plan

    monkeypatch.setattr(steering, "solve", answer)
    monkeypatch.setattr(fixed_planner, "solve", answer)
    learned = planner_policy(planner=CONTENT).decide(OBSERVATION)
    fixed = FixedPlanner(ProbeTask(environment=probe()), CONTENT).decide(OBSERVATION)
    assert learned.failed == fixed.failed == plan_failed(plan, CONTENT)


def test_the_fixed_planner_says_what_decides_it():
    settings = FixedPlanner(ProbeTask(environment=probe()), CONTENT).settings()
    assert (settings["planner"], settings["planner_gradient_tolerance"], settings["planner_iterations"]) == (
        "SQP",
        1e-2,
        CONTENT.iterations,
    )
