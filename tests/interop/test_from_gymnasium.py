"""Gymnasium's environments as worlds of planahead: the same numbers, pure, and learned in."""

import math
from typing import Any

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.wrappers import TransformAction

import planahead as pa
from planahead.experiments.episodes import run_episodes
from planahead.interop.from_gymnasium import FromGymnasium
from planahead.learning.rollout import start_lanes, step_lanes
from tests.interop.test_parameter_mdp import Upright


class PendulumTask(pa.Task[FromGymnasium, Upright]):
    """Gymnasium's pendulum, with a planner that knows it."""

    environment: FromGymnasium
    problem: Upright
    name: str = pa.static("gymnasium-pendulum")
    learned_parameters: tuple[str, ...] = pa.static(("rate_weight",))
    state_names: tuple[str, ...] = pa.static(("angle [rad]", "rate [rad/s]"))

    def __init__(self, steps: int = 20):
        self.environment = FromGymnasium(lambda: gymnasium.make("Pendulum-v1", max_episode_steps=steps))
        self.problem = Upright()

    def planner_state(self, observation):
        return jnp.stack([jnp.arctan2(observation[1], observation[0]), observation[2]])


@pytest.fixture(scope="module")
def task() -> PendulumTask:
    return PendulumTask()


def test_an_episode_is_that_of_gymnasium(task: PendulumTask):
    world, bare = task.environment, gymnasium.make("Pendulum-v1", max_episode_steps=20)
    state, key = world.reset(jax.random.key(3)), jax.random.key(0)
    seen, _ = bare.reset(seed=int(state.seed))
    moved, truncated = None, False
    np.testing.assert_array_equal(world.observe(state), seen)
    for step in range(20):
        action = np.array([3.0 * math.sin(step)], np.float32)  # clipped to 2
        moved = world.step(state, jnp.asarray(action), key)
        seen, reward, _, truncated, _ = bare.step(np.clip(action, -2, 2))
        np.testing.assert_allclose(moved.observation, seen, rtol=1e-6)
        assert float(moved.reward) == pytest.approx(float(reward), rel=1e-6)
        assert (bool(moved.truncated), bool(moved.terminated)) == (truncated, False)
        state = moved.state
    assert truncated and moved is not None
    after = world.step(state, jnp.zeros(1), key)
    assert float(after.reward) == 0.0 and not after.truncated
    np.testing.assert_array_equal(after.observation, moved.observation)


def test_steps_are_pure(task: PendulumTask):
    """The same state and action give the same answer again, and a state that was left can be left another way."""
    world, key = task.environment, jax.random.key(0)
    first = world.reset(jax.random.key(5))
    second = world.step(first, jnp.array([1.0]), key).state
    one = world.step(second, jnp.array([0.5]), key)
    other = world.step(second, jnp.array([-0.5]), key)
    again = world.step(second, jnp.array([0.5]), key)
    assert eqx.tree_equal(one, again) and not eqx.tree_equal(one.observation, other.observation)
    bare = gymnasium.make("Pendulum-v1")
    bare.reset(seed=int(first.seed))
    bare.step(np.array([1.0], np.float32))
    np.testing.assert_allclose(other.observation, bare.step(np.array([-0.5], np.float32))[0], rtol=1e-6)


def test_lanes_begin_anew_and_hand_out_their_last_observation(task: PendulumTask):
    world = task.environment
    lanes = start_lanes(world, 3, None, jax.random.key(0))
    assert len({float(lane) for lane in lanes.observation[:, 0]}) == 3

    @jax.jit
    def advance(lanes: Any, key: Any) -> Any:
        return step_lanes(world, lanes, jnp.ones((3, 1)), jnp.zeros(3, bool), None, None, key)

    for step in range(21):
        before = lanes
        lanes, moved, _ = advance(before, jax.random.key(step + 1))
        ended = step == 19
        assert moved.truncated.tolist() == [ended] * 3
        assert bool((moved.observation == lanes.observation).all()) is not ended
        assert lanes.state.step.tolist() == [0 if ended else (step + 1) % 20] * 3


@pytest.mark.long
@pytest.mark.parametrize("algorithm", ["sac", "sac-zop"])
def test_learners_learn_in_it(task: PendulumTask, algorithm: str):
    """A chunk of the learner, and deterministic episodes of what it learned."""
    settings = {"environments": 4, "steps_per_chunk": 48, "warm_up_steps": 24, "batch_size": 8}
    policy, learner = pa.make_algorithm(algorithm, task, jax.random.key(0), hidden_units=8, **settings)
    state = learner.init(task, policy, jax.random.key(1))
    state, metrics = learner.advance(state, jax.random.key(2))
    assert float(metrics["episodes"]) == 0 and np.isfinite(float(metrics["critic_loss"]))
    state, metrics = learner.advance(state, jax.random.key(3))
    assert float(metrics["episodes"]) == 4 and float(metrics["episode_length"]) == 20
    assert float(metrics["return"]) < 0
    episodes = run_episodes(task, learner.policy(state), jax.random.key(4), 3)
    assert episodes.steps.reward.shape == (20, 3) and (episodes.steps.reward <= 0).all()
    assert episodes.steps.alive.all()


def test_a_planner_without_a_policy_holds_gymnasiums_pendulum(task: PendulumTask):
    policy = pa.TunedPlanner(task.problem, task.planner_state, task.action_box, names=("rate_weight",))
    world = PendulumTask(60)
    episodes = run_episodes(world, policy, jax.random.key(0), 8)
    caught = episodes.steps.reward[-1] > -0.05
    assert caught.any()  # those that start low, it cannot: eight steps do not see over a swing


def test_mujoco_is_one_of_them():
    pytest.importorskip("mujoco", reason="MuJoCo is not installed: pip install '.[mujoco]'")
    world, key = FromGymnasium("InvertedPendulum-v5"), jax.random.key(0)
    assert (world.observation_size, world.action_size, world.episode_steps) == (4, 1, 1000)
    assert world.time_step == pytest.approx(0.04)
    states = jax.vmap(world.reset)(jax.random.split(key, 2))
    lengths = np.zeros(2, int)
    for _ in range(30):
        moved = jax.vmap(world.step, in_axes=(0, 0, None))(states, jnp.array([[1.0], [-1.0]]), key)
        lengths += ~np.asarray(moved.terminated | states.ended)
        states = moved.state
    assert (lengths > 2).all() and (lengths < 29).all()  # pushed over, which terminates, and then nothing moves


def test_what_cannot_be_used_is_refused_in_words():
    with pytest.raises(ValueError, match=r"the actions are Discrete\(2\); a Box with one axis was expected"):
        FromGymnasium("CartPole-v1")
    with pytest.raises(ValueError, match="has no time limit; make it with"):
        FromGymnasium(lambda: gymnasium.make("Pendulum-v1", max_episode_steps=-1))
    with pytest.raises(ValueError, match="observation_scale has 2 entries and an observation 3; give the typical"):
        FromGymnasium("Pendulum-v1", observation_scale=(1.0, 1.0))
    unbounded = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    with pytest.raises(ValueError, match=r"have no bounds; give them finite ones: gymnasium.wrappers.TransformAction"):
        FromGymnasium(lambda: TransformAction(gymnasium.make("Pendulum-v1"), lambda action: action, unbounded))
    bounded = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)  # as the message says
    world = FromGymnasium(lambda: TransformAction(gymnasium.make("Pendulum-v1"), lambda action: action, bounded))
    assert world.action_high == (1.0,)
    few = FromGymnasium("Pendulum-v1", copies=1)
    state = few.reset(jax.random.key(0))
    stranger = eqx.tree_at(lambda s: s.step, state, jnp.array(7))
    with pytest.raises(Exception, match="is not known after 7 steps: it is that of another process"):
        few.step(stranger, jnp.zeros(1), jax.random.key(0))
