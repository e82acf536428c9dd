"""An actor in the planner's loop: what is applied is the cheapest of all, and never worse than what was there."""

import math
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, PRNGKeyArray

import planahead as pa
from planahead.planning import simulated
from planahead.policies import AC4MPC, Decision, Policy
from planahead.policies.ac4mpc import winner
from planahead.problem import EndingInValue, QuadraticValue
from planahead.tasks.cart_pole import CartPoleProblem

TASK = pa.make_task("cartpole")
PROBLEM = CartPoleProblem(either_side=True, horizon=8, discount=0.95)
STATES = jnp.array([[0.0, 3.0, 0.0, 0.0], [0.5, 0.3, -0.4, 0.2], [-1.0, 2.0, 1.0, -3.0]])


@final
class Pushing(Policy):
    """Pushes with the same force everywhere."""

    force: Array
    remembers: bool = pa.static(False)

    def initial_memory(self) -> Any:
        return jnp.zeros(()) if self.remembers else None

    def settings(self) -> dict[str, Any]:
        return {"force": float(self.force)}

    def decide(self, observation: Float[Array, " 4"], memory: Any = None, key: PRNGKeyArray | None = None) -> Decision:
        del observation, memory, key
        return Decision(self.force[None], jnp.zeros(()))


BAD = Pushing(jnp.array(80.0))


def after(policy: AC4MPC, x: Array) -> Decision:
    """The second decision of an episode in the planner's model."""
    first = policy.decide(x, policy.initial_memory())
    return policy.decide(PROBLEM.dynamics(x, first.action), first.memory)


@pytest.mark.long
@pytest.mark.parametrize("planner", [None, pa.SQP.real_time()], ids=["solves", "real-time"])
def test_what_acts_costs_no_more_than_the_actor_or_the_shifted_plan(planner):
    policy = AC4MPC.of(TASK, PROBLEM, BAD, planner=planner)
    decide = eqx.filter_jit(policy.decide)
    for x in STATES:
        first = decide(x, policy.initial_memory())
        x = PROBLEM.dynamics(x, first.action)
        second = decide(x, first.memory)
        shifted = jnp.concatenate([first.plan.controls[1:], jnp.array([[80.0]])])  # closed by the actor
        for controls in (shifted, jnp.full((8, 1), 80.0)):
            assert second.plan.cost <= simulated(PROBLEM, x, controls).cost * (1 + 1e-6)
        np.testing.assert_allclose(second.plan.cost, simulated(PROBLEM, x, second.plan.controls).cost, rtol=1e-5)
        assert second.memory.costs[second.memory.chosen] == second.memory.costs.min() == second.plan.cost
        np.testing.assert_array_equal(second.action, second.plan.controls[0])


@pytest.mark.long
def test_a_bad_actor_does_not_harm():
    """With one that is no help what acts is at least as good as what the planner alone comes to from the same plan."""
    for x in STATES:
        alone, both = (
            AC4MPC.of(TASK, PROBLEM, BAD, starts=starts, race_guesses=False).decide(x)
            for starts in (("cold",), ("actor", "cold"))
        )
        assert both.plan.cost <= alone.plan.cost * (1 + 1e-6)


@pytest.mark.long
def test_hanging_is_a_trap_that_a_roll_out_leads_out_of(x64):
    """From exactly below the cost is level: a cold solve is content there, one from a push is not."""
    task, hanging = pa.make_task("cartpole"), jnp.array([0.0, math.pi, 0.0, 0.0])
    problem = CartPoleProblem(either_side=True, horizon=16, position_weight=jnp.array(10.0))
    cold, guided = (
        AC4MPC.of(task, problem, Pushing(jnp.array(20.0)), starts=(start,), race_guesses=False).decide(hanging)
        for start in ("cold", "actor")
    )
    assert int(cold.plan.status) == pa.Status.SOLVED and not bool(guided.failed)
    np.testing.assert_allclose(cold.action, 0.0, atol=1e-6)
    assert guided.plan.cost < 0.95 * cold.plan.cost


@pytest.mark.long
def test_where_both_solves_fail_the_better_guess_acts_and_that_is_counted():
    strict = pa.SQP(iterations=1, gradient_tolerance=1e-12, tolerance=1e-12)
    decision = after(AC4MPC.of(TASK, PROBLEM, Pushing(jnp.array(3.0)), planner=strict), STATES[0])
    assert bool(decision.failed) and np.isinf(decision.memory.costs[:2]).all()
    assert int(decision.memory.chosen) >= 2
    alone = AC4MPC.of(TASK, PROBLEM, Pushing(jnp.array(3.0)), planner=strict, starts=("actor",)).decide(STATES[0])
    assert bool(alone.failed)
    np.testing.assert_array_equal(alone.action, [3.0])


def test_lanes_are_independent():
    policy = AC4MPC.of(TASK, PROBLEM, Pushing(jnp.array(5.0)), planner=pa.SQP(iterations=5, gradient_tolerance=1e-2))
    lanes = jax.jit(jax.vmap(lambda x: policy.decide(x, policy.initial_memory())))
    good, spoilt = lanes(STATES), lanes(STATES.at[1].set(jnp.nan))
    for lane in (0, 2):
        np.testing.assert_array_equal(good.action[lane], spoilt.action[lane])
        np.testing.assert_array_equal(good.memory.costs[lane], spoilt.memory.costs[lane])
    assert bool(spoilt.failed[1]) and np.isfinite(spoilt.action).all() and not bool(spoilt.memory.known[1])


@pytest.mark.long
def test_a_value_moves_the_plan():
    """With a price on where the cart ends, a planner of two steps pushes it there."""
    actor, x = Pushing(jnp.array(0.0)), jnp.zeros(4)
    pushes = []
    for target in (-1.0, 1.0):
        value = QuadraticValue(jnp.diag(jnp.array([300.0, 0.0, 0.0, 0.0])), jnp.array([target, 0.0, 0.0, 0.0]))
        policy = AC4MPC.of(TASK, EndingInValue(PROBLEM, value, horizon=2), actor)
        pushes.append(float(policy.decide(x).action[0]))
    assert pushes[0] < 0.0 < pushes[1]
    np.testing.assert_allclose(pushes[0], -pushes[1], rtol=1e-3)


def test_of_violations_the_least_wins():
    costs = jnp.array([1.0, 2.0, jnp.inf])
    assert int(winner(costs, jnp.array([0.3, 0.2, jnp.inf]), 1e-6)) == 1
    assert int(winner(costs, jnp.array([0.0, 0.0, jnp.inf]), 1e-6)) == 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="Pushing remembers from step to step"):
        AC4MPC.of(TASK, PROBLEM, Pushing(jnp.array(0.0), remembers=True))
    for starts in ((), ("actor", "actor")):
        with pytest.raises(ValueError, match="some of 'actor', 'shift', 'cold' were expected, each once"):
            AC4MPC.of(TASK, PROBLEM, BAD, starts=starts)
    race = pa.make_task("race-split-s")
    with pytest.raises(ValueError, match="task 'race-split-s' cannot tell what its policies would observe"):
        AC4MPC.of(race, race.problem, BAD)
