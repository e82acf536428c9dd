"""Tasks behind Gymnasium's interface."""

import functools
from typing import Any

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from planahead.interop import register_gymnasium
from planahead.interop.gymnasium import GymnasiumTask
from planahead.interop.gymnasium_vector import GymnasiumVectorTask
from planahead.tasks import CartPoleTask, make_task, task_names
from planahead.tasks.names import gymnasium_name

register_gymnasium()
every_task = pytest.mark.parametrize(
    "task", [name for name in task_names() if name == "race-split-s" or not name.startswith("race")]
)
"""Every class of tasks: races differ in their gates alone, and their episodes are long."""


# Recommendations that the tasks depart from on purpose: physical units, and no bound where there is none.
@pytest.mark.filterwarnings("ignore:.*For Box action spaces, we recommend")
@pytest.mark.filterwarnings("ignore:.*A Box observation space m")
@every_task
def test_gymnasiums_own_checks_pass(task):
    check_env(gymnasium.make(gymnasium_name(task)).unwrapped)


@functools.cache
def resting_action(task):
    """Doing nothing, which for a quadrotor is hovering."""
    return np.asarray(make_task(task).problem.control_guess())


def quiet_action(task, step):
    """Next to doing nothing: no episode ends before its time."""
    return (resting_action(task) + 0.1 * np.sin(step)).astype(np.float32)


def test_the_names_are_those_of_the_environments():
    names = [gymnasium_name(task) for task in ("cartpole", "mass-spring-damper", "windmaze-walls")]
    assert names == ["planahead/CartPole-v0", "planahead/MassSpringDamper-v0", "planahead/WindMazeWalls-v0"]
    register_gymnasium()


STILL: dict[str, dict[str, Any]] = {
    "linear": {"disturbance": 0.0},
    # Straight towards a pillar, rounding decides on which side of it a reference is planned.
    "pillars": {"course_spread": 0.0, "reference": "goal"},
}
"""Options without which a world draws numbers at every step, or magnifies rounding."""


@every_task
def test_an_episode_is_that_of_the_pure_environment(task):
    """Same start, same numbers, `terminated` and `truncated` apart, plain Python values."""
    still: dict[str, Any] = {"start_spread": 0.0, **STILL.get(task, {})}
    world, env = make_task(task, **still).environment, gymnasium.make(gymnasium_name(task), **still)
    observation, info = env.reset(seed=0)
    assert info == {} and observation.dtype == np.float32
    key = jax.random.key(0)  # The worlds and their undisturbed starts use no randomness.
    state, ended, truncated, step = world.reset(key), False, False, 0
    pure_step = eqx.filter_jit(type(world).step)
    while not ended:
        action = quiet_action(task, step)
        expected = pure_step(world, state, jnp.asarray(action), key)
        observation, reward, terminated, truncated, info = env.step(action)
        np.testing.assert_allclose(observation, expected.observation, rtol=1e-5, atol=1e-5)
        assert reward == pytest.approx(float(expected.reward), rel=1e-5, abs=1e-6)
        assert (terminated, truncated) == (bool(expected.terminated), bool(expected.truncated))
        assert info == {"violation": bool(expected.info.violation), "success": bool(expected.info.success)}
        assert {type(value) for value in (terminated, truncated, *info.values())} == {bool}
        state, ended, step = expected.state, terminated or truncated, step + 1
    assert truncated and step == world.episode_steps


@every_task
def test_the_seed_decides_all_episodes_that_follow(task):
    def starts(seed):
        env = GymnasiumTask(task, start_spread=0.1)
        return [env.reset(seed=seed)[0].tolist(), env.reset()[0].tolist(), env.reset()[0].tolist()]

    assert starts(1) == starts(1) != starts(2)
    assert len({tuple(start) for start in starts(1)}) == 3


@pytest.mark.long
@every_task
def test_worlds_that_step_together_match_worlds_that_step_alone(task):
    """Also across the ends of episodes: the step after one starts the next, with no reward."""
    world = make_task(task).environment
    together, alone = (
        gymnasium.make_vec(gymnasium_name(task), num_envs=3, vectorization_mode=mode, start_spread=0.1)
        for mode in ("vector_entry_point", "sync")
    )
    assert type(together) is GymnasiumVectorTask
    np.testing.assert_allclose(together.reset(seed=5)[0], alone.reset(seed=5)[0], rtol=1e-6)
    ends = 0
    for step in range(world.episode_steps + 5):
        action = np.tile(quiet_action(task, step), (3, 1))
        *left, left_info = together.step(action)
        *right, right_info = alone.step(action)
        for ours, theirs in zip(left, right, strict=True):
            assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
        for name, value in right_info.items():
            np.testing.assert_array_equal(left_info[name], value)
        ends += int((left[2] | left[3]).sum())
    assert ends >= 3


def test_make_vec_takes_the_fast_path_by_itself():
    envs = gymnasium.make_vec("planahead/CartPole-v0", num_envs=4)
    observations, _ = envs.reset(seed=0)
    assert type(envs) is GymnasiumVectorTask and observations.shape == (4, 4)
    envs.action_space.seed(0)
    assert envs.step(envs.action_space.sample())[0].shape == (4, 4)
    envs.close()


def test_a_finished_task_can_be_wrapped():
    env = GymnasiumTask(CartPoleTask())
    assert env.reset(seed=0)[0] == pytest.approx([0, np.pi, 0, 0])
    with pytest.raises(ValueError, match=r"options \['pole_mass'\] came beside a finished task"):
        GymnasiumTask(CartPoleTask(), pole_mass=0.2)


def test_pictures_have_the_pace_of_the_world():
    env = gymnasium.make("planahead/CartPole-v0", render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert isinstance(picture, np.ndarray) and picture.shape == (320, 480, 3)
    assert env.metadata["render_fps"] == 20
    with pytest.raises(ValueError, match="render_mode is 'human'; use None or 'rgb_array'"):
        GymnasiumTask("cartpole", render_mode="human")


def test_wrong_use_is_an_error_that_says_so():
    env = GymnasiumTask("cartpole")
    with pytest.raises(RuntimeError, match="step was called before the first reset"):
        env.step(np.zeros(1))
    with pytest.raises(RuntimeError, match="render was called before the first reset"):
        env.render()
    with pytest.raises(ValueError, match=r"reset got options \['mode'\]; the start is set by options of the task"):
        env.reset(options={"mode": "train"})
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"an action of shape \(2,\) came; expected \(1,\)"):
        env.step(np.zeros(2))
    with pytest.raises(ValueError, match=r"the action \[nan\] is not finite; look for a NaN in the policy"):
        env.step(np.array([np.nan]))


def test_wrong_use_of_many_worlds_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="num_envs is 0; expected at least 1"):
        GymnasiumVectorTask("cartpole", num_envs=0)
    envs = GymnasiumVectorTask("cartpole", num_envs=2)
    with pytest.raises(RuntimeError, match="step was called before the first reset"):
        envs.step(np.zeros((2, 1)))
    with pytest.raises(ValueError, match="3 seeds came for 2 worlds"):
        envs.reset(seed=[1, 2, 3])
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"an action of shape \(1,\) came; expected \(2, 1\)"):
        envs.step(np.zeros(1))
