"""Model-predictive value expansion: what the targets are, and that only the critic learns from them."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.learning import make_algorithm
from planahead.learning.ppo import PPO
from planahead.learning.value_expansion import expansion_loss
from planahead.policies import GaussianPolicy
from planahead.tasks import make_task
from tests.learning.linear_quadratic import DISCOUNT, WRONG_A, WRONG_B, Believer, PlantTask, optimum

KEY = jax.random.key(0)


def test_the_loss_of_every_known_depth_by_hand():
    values, rewards = jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([0.5, 0.25, 0.125])
    for known in range(4):
        mask = jnp.arange(3) < known
        errors = []
        for k in range(known):
            goal = sum(0.9 ** (j - k) * float(rewards[j]) for j in range(k, known)) + 0.9 ** (known - k) * float(
                values[known]
            )
            errors.append(0.5 * (float(values[k]) - goal) ** 2)
        expected = np.mean(errors) if errors else 0.0
        assert float(expansion_loss(values, rewards, mask, 0.9)) == pytest.approx(expected, rel=1e-6)


def test_no_gradient_flows_into_the_goals():
    slope = jax.grad(lambda v: expansion_loss(v, jnp.zeros(2), jnp.array([True, True]), 0.9))(
        jnp.array([0.0, 0.0, 1.0])
    )
    np.testing.assert_allclose(slope, [-0.5 * 0.81, -0.5 * 0.9, 0.0], rtol=1e-6)


def test_nothing_is_left_to_learn_where_model_and_value_are_right(x64):
    """With V* and the world's own model every goal is V* again. An error ε of all values leaves (1 - γ^{H-k}) ε at step
    k, and a wrong model its own."""
    x, P = jnp.array([0.7, -1.1]), jnp.asarray(optimum().P)

    def loss(problem: Believer, error: float) -> float:
        plan = pa.solve(problem, x, planner=pa.SQP(tolerance=1e-10))
        told = PlantTask(problem=problem).imagined(x, plan.states, plan.controls)
        values = -0.5 * jnp.sum(told.observations @ P * told.observations, axis=1) + error
        return float(expansion_loss(values, told.rewards, told.known, DISCOUNT))

    right, H = Believer(), Believer().horizon
    assert loss(right, 0.0) < 1e-16
    lefts = [(1 - DISCOUNT ** (H - k)) * 2.0 for k in range(H)]
    assert loss(right, 2.0) == pytest.approx(0.5 * np.mean(np.square(lefts)), rel=1e-6)
    wrong = Believer(state_matrix=jnp.asarray(WRONG_A), control_matrix=jnp.asarray(WRONG_B))
    assert loss(wrong, 0.0) > 1e-4


@pytest.mark.long
def test_the_critic_learns_from_it_and_the_policy_does_not():
    task = make_task("race-split-s")
    small: dict[str, Any] = {"environments": 8, "rollout_steps": 4, "batch_size": 32, "epochs": 1, "hidden_units": 8}
    slopes = {}
    for weight in (0.0, 1.0):
        policy, learner = make_algorithm("ac-mpc", task, KEY, value_expansion=weight, **small)
        assert isinstance(learner, PPO) and isinstance(policy, GaussianPolicy)

        @eqx.filter_jit
        def slope(learner, policy):
            state, seen, _ = learner._act(learner.init(task, policy, jax.random.key(1)), jax.random.key(2))
            batch = jax.tree.map(lambda leaf: leaf.reshape(32, *leaf.shape[2:]), seen)
            trained = learner._trained(state.policy, state.critic)
            fixed = eqx.partition(state.policy, state.policy.trainable())[1]
            return eqx.filter_grad(learner._loss, has_aux=True)(trained, fixed, batch, state)[0]

        slopes[weight] = slope(learner, policy)
    plain, expanded = slopes[0.0], slopes[1.0]
    for without, with_it in zip(jax.tree.leaves(plain.policy), jax.tree.leaves(expanded.policy), strict=True):
        np.testing.assert_allclose(without, with_it, atol=1e-7)
    pairs = zip(jax.tree.leaves(plain.critic), jax.tree.leaves(expanded.critic), strict=True)
    assert any(np.abs(without - with_it).max() > 1e-3 for without, with_it in pairs)


def test_settings_that_cannot_work_are_refused():
    task = make_task("race-split-s")
    policy, learner = make_algorithm("ppo-zop", task, KEY, value_expansion=1.0)
    with pytest.raises(ValueError, match="needs a plan behind the mean"):
        learner.init(task, policy, KEY)
    cartpole = make_task("cartpole")
    policy, learner = make_algorithm("ac-mpc", cartpole, KEY, value_expansion=1.0)
    with pytest.raises(ValueError, match="cartpole cannot tell"):
        learner.init(cartpole, policy, KEY)
    with pytest.raises(ValueError, match="no planner in its policy, so no setting 'value_expansion'"):
        make_algorithm("ac-mlp", task, KEY, value_expansion=1.0)


@pytest.mark.parametrize(
    ("options", "control"),
    [
        ({}, [20.0, 0.5, 1.0, 0.1]),
        ({"observes_rates": True, "speed_limit": 9.0}, [20.0, 0.5, 1.0, 0.1]),
        ({"model": "rotors"}, [5.0, 5.05, 5.0, 5.02]),
    ],
    ids=["rates", "rates observed, too fast", "rotors"],
)
def test_a_race_is_imagined_as_it_is_flown(options, control):
    """The plan's model is the world's: observations, rewards and the passage of a gate have to agree with it."""
    task = make_task("race-split-s", start_spread=0.0, **options)
    race = task.environment
    state = race.reset(KEY)
    start = jnp.asarray(race.gates[0, :3]) + jnp.array([-0.9, 0.1, 0.0])
    state = dataclasses.replace(state, x=state.x.at[:3].set(start).at[7:10].set(jnp.array([10.0, 0.0, 1.0])))
    controls = jnp.array([control] * 6)
    observation = race.observe(state)
    x = task.planner_state(observation)
    states = [x]
    for u in controls:
        states.append(task.problem.dynamics(states[-1], u))
    told = task.imagined(observation, jnp.stack(states), controls)
    assert told is not None
    known = np.asarray(told.known)
    assert known.any() and not known.all() and (np.diff(known.astype(int)) <= 0).all()
    np.testing.assert_allclose(told.observations[0], observation, atol=1e-5)
    for k, u in enumerate(controls):
        moved = race.step(state, task.problem.action(states[k], u), KEY)
        assert bool(known[k]) == (int(moved.state.passed) == 0), "until the gate is passed"
        if not known[k]:
            break
        np.testing.assert_allclose(told.observations[k + 1], moved.observation, atol=2e-4)
        assert float(told.rewards[k]) == pytest.approx(float(moved.reward), abs=1e-4)
        state = moved.state


def test_commands_beyond_the_limits_lead_to_what_is_not_known():
    task = make_task("race-split-s", model="rotors")
    observation = task.environment.observe(task.environment.reset(KEY))
    states = jnp.broadcast_to(task.planner_state(observation), (4, 13))
    tumbling = jnp.array([[0.0, 8.5, 0.0, 8.5]] * 3)
    told = task.imagined(observation, states, tumbling)
    assert told is not None and not np.asarray(told.known).any()
