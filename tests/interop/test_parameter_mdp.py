"""A planner behind Gymnasium's interface, its parameters the action."""

from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import planahead as pa
from planahead.interop.gymnasium_vector import GymnasiumVectorTask
from planahead.interop.parameter_mdp import ParameterMDP, VectorParameterMDP, action_box, task_steering


class Upright(pa.Problem):
    """Gymnasium's pendulum as its documentation has it: m = l = 1, dt = 0.05."""

    horizon: int = pa.static(8)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    rate_weight: pa.Array = pa.parameter(0.1, low=0.01, high=1.0, scale="log")

    def dynamics(self, x, u):
        rate = x[1] + 0.05 * (15.0 * jnp.sin(x[0]) + 3.0 * u[0])
        return jnp.stack([x[0] + 0.05 * rate, rate])

    def stage_residual(self, x, u):
        return jnp.stack([2.0 * jnp.sin(x[0] / 2), jnp.sqrt(self.rate_weight) * x[1], 0.03 * u[0]])

    def control_bounds(self):
        return pa.Bounds(-2.0, 2.0)


def pendulum_steering(env: gymnasium.Env[Any, Any]) -> pa.Steering:
    return pa.Steering(
        Upright(), lambda seen: jnp.stack([jnp.arctan2(seen[1], seen[0]), seen[2]]), action_box(env.action_space)
    )


@pytest.mark.filterwarnings("ignore:.*A Box observation space m")
@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_gymnasiums_own_checks_pass():
    check_env(ParameterMDP("mass-spring-damper"), skip_render_check=True)


def test_a_step_is_the_worlds_step_under_the_planned_action():
    """The same rewards and observations as those of the planned actions, from the same seed."""
    env, bare = ParameterMDP("mass-spring-damper"), gymnasium.make("planahead/MassSpringDamper-v0")
    steering = task_steering("mass-spring-damper")
    observation, _ = env.reset(seed=3)
    bare.reset(seed=3)
    random = np.random.default_rng(0)
    for _ in range(5):
        unit = random.uniform(-1, 1, steering.space.size).astype(np.float32)
        expected = steering.decide(jnp.asarray(unit), jnp.asarray(observation))
        observation, reward, terminated, truncated, info = env.step(unit)
        np.testing.assert_allclose(info["planned_action"], expected.action, atol=1e-4)
        np.testing.assert_allclose(info["parameters"], steering.space.from_unit(jnp.asarray(unit)), rtol=1e-5)
        assert info["plan_status"] == pa.Status.SOLVED and info["plan_failed"] is False
        there, bare_reward, *_ = bare.step(info["planned_action"])
        np.testing.assert_allclose(observation, there, rtol=1e-5)
        assert reward == pytest.approx(bare_reward) and not (terminated or truncated)


@pytest.mark.parametrize("names", [("stiffness",), ()], ids=["steered too", "planned as it comes"])
def test_a_corrected_planner_takes_its_correction_behind_the_parameters(names: tuple[str, ...]):
    task = pa.make_task("mass-spring-damper")
    steering = pa.Steering(task.problem, task.planner_state, task.action_box, names=names, correction=0.5)
    env = ParameterMDP("mass-spring-damper", steering)
    together = VectorParameterMDP(GymnasiumVectorTask("mass-spring-damper", 2), steering)
    assert env.action_space.shape == (len(names) + 1,) == together.single_action_space.shape
    found = []
    for correction in (0.0, 0.4):
        env.reset(seed=0)
        together.reset(seed=0)
        unit = np.array([*np.zeros(len(names)), correction], np.float32)
        found.append(env.step(unit)[-1]["planned_action"])
        np.testing.assert_allclose(together.step(np.stack([unit, unit]))[-1]["planned_action"][0], found[-1], atol=1e-5)
    assert found[1] < 0.4  # so that nothing is cut off at 0.5
    np.testing.assert_allclose(found[1] - found[0], 0.5 * 0.4 * 0.5, atol=1e-5)  # κ c (high - low)/2


def test_worlds_that_step_together_match_worlds_that_step_alone():
    """Warm-started, across the end of an episode: the plan of a new episode starts cold."""
    steering = task_steering("mass-spring-damper", warm_start=True)
    together = VectorParameterMDP(GymnasiumVectorTask("mass-spring-damper", 2), steering)
    alone = [ParameterMDP("mass-spring-damper", steering) for _ in range(2)]
    seen = together.reset(seed=7)[0]
    np.testing.assert_allclose(seen, [env.reset(seed=7 + lane)[0] for lane, env in enumerate(alone)], rtol=1e-6)
    resetting = False
    for step in range(54):
        units = np.full((2, steering.space.size), np.sin(step), np.float32)
        seen, rewards, _, truncated, info = together.step(units)
        if resetting:
            expected = [(*env.reset(), 0.0) for env in alone]
            np.testing.assert_allclose(seen, [e[0] for e in expected], rtol=1e-5)
            assert (rewards == 0).all() and not info["_plan_status"].any()
            assert not np.asarray(together._memory.known).any()
        else:
            for lane, env in enumerate(alone):
                there, reward, _, _, found = env.step(units[lane])
                np.testing.assert_allclose(seen[lane], there, rtol=1e-3, atol=1e-4)
                assert rewards[lane] == pytest.approx(reward, rel=1e-3, abs=1e-4)
                np.testing.assert_allclose(info["planned_action"][lane], found["planned_action"], atol=1e-3)
            assert info["_plan_status"].all()
        resetting = bool(truncated.all())
    assert np.asarray(together._memory.known).all()


def test_any_environment_can_have_a_planner_in_it():
    """Gymnasium's own pendulum: plans without a policy hold it upright."""
    bare = gymnasium.make("Pendulum-v1")
    env = ParameterMDP(bare, pendulum_steering(bare))
    env.reset(seed=0)
    bare.unwrapped.state = np.array([0.3, 0.0])  # pyright: ignore[reportAttributeAccessIssue]
    env._observation = np.array([np.cos(0.3), np.sin(0.3), 0.0], np.float32)
    rewards = [env.step(np.zeros(1))[1] for _ in range(60)]
    assert min(rewards[-20:]) > -0.01


def test_environments_of_gymnasium_that_step_together_have_one_too():
    envs = gymnasium.make_vec("Pendulum-v1", num_envs=2, vectorization_mode="sync")
    mdp = VectorParameterMDP(envs, pendulum_steering(gymnasium.make("Pendulum-v1")))
    mdp.reset(seed=0)
    *_, info = mdp.step(np.zeros((2, 1)))
    assert info["planned_action"].shape == (2, 1) and info["plan_status"].shape == (2,)


def test_wrong_use_is_an_error_that_says_so():
    env = ParameterMDP("mass-spring-damper")
    with pytest.raises(RuntimeError, match="step was called before the first reset"):
        env.step(np.zeros(8))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"an action of shape \(1,\) came; expected \(8,\)"):
        env.step(np.zeros(1))
    with pytest.raises(ValueError, match="brings no planner; give one: ParameterMDP"):
        ParameterMDP(gymnasium.make("Pendulum-v1"))
    with pytest.raises(ValueError, match=r"the environment's actions are Discrete\(2\); the planner plans 1 real"):
        ParameterMDP(gymnasium.make("CartPole-v1"), task_steering("cartpole"))
    with pytest.raises(ValueError, match=r"the actions are Discrete\(2\); a Box with one axis was expected"):
        action_box(gymnasium.make("CartPole-v1").action_space)
