"""Stable-Baselines3 trains planners: as part of the environment, and in its actor. The examples run."""

import pathlib
import runpy
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.wrappers import RescaleAction

import planahead as pa

pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed: pip install '.[sb3]'")

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.torch_layers import CombinedExtractor

from planahead.interop.gymnasium import GymnasiumTask
from planahead.interop.parameter_mdp import ParameterMDP, task_steering
from planahead.interop.stable_baselines import PlannerActorCriticPolicy

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples" / "interop"
TASK = "mass-spring-damper"
QUICK = pa.SQP.real_time(derivative="step", gradient_tolerance=np.inf)


def example(name: str) -> Any:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


def unit_world() -> gymnasium.Env[Any, Any]:
    return RescaleAction(GymnasiumTask(TASK), np.float32(-1.0), np.float32(1.0))


def learner(**options: Any) -> PPO:
    steering = task_steering(TASK, planner=QUICK)
    return PPO(
        PlannerActorCriticPolicy,
        unit_world(),
        n_steps=16,
        batch_size=16,
        n_epochs=1,
        policy_kwargs={"steering": steering, **options},
        seed=0,
        device="cpu",
    )


@pytest.fixture(scope="module")
def trained() -> PPO:
    return learner().learn(16)


def test_stable_baselines_own_checks_pass():
    check_env(ParameterMDP(TASK))


@pytest.mark.long
@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
def test_its_algorithms_train_the_planner_as_part_of_the_world(algorithm, capsys):
    returns = example("sb3_parameter_mdp")(["--algorithm", algorithm, "--steps", "300"])
    assert list(returns) == ["planner as it is", "middle of the parameter box", f"Stable-Baselines3 {algorithm}"]
    assert np.isfinite(list(returns.values())).all() and len(set(returns.values())) == 3
    assert "trained in" in capsys.readouterr().out


@pytest.mark.long
def test_the_example_of_a_planner_in_the_actor_runs(capsys):
    returns = example("sb3_planner_actor")(["--steps", "512"])
    assert -20 < returns.after < 0 and returns.after != returns.before
    assert f"{TASK}: mean return" in capsys.readouterr().out


def test_an_untrained_actor_plans_with_the_problems_own_parameters():
    task = pa.make_task(TASK)
    observation = np.array([0.3, -0.2], np.float32)
    steering = task_steering(task, planner=QUICK)
    policy: Any = learner().policy
    policy.action_net.write.weight.data.zero_()
    action, _ = policy.predict(observation, deterministic=True)
    expected = steering.decide(steering.default_unit(), jnp.asarray(observation)).action
    np.testing.assert_allclose(action * task.environment.action_high[0], expected, rtol=2e-2)


@pytest.mark.parametrize("names", [("stiffness",), ()], ids=["steered too", "planned as it comes"])
def test_an_actor_corrects_what_was_planned(names: tuple[str, ...]):
    task = pa.make_task(TASK)
    steering = pa.Steering(
        task.problem, task.planner_state, task.action_box, names=names, planner=QUICK, correction=0.5
    )
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "device": "cpu"}
    policy: Any = PPO(PlannerActorCriticPolicy, unit_world(), policy_kwargs={"steering": steering}, **settings).policy
    policy.action_net.write.weight.data.zero_()
    policy.action_net.write.bias.data[-1] = np.arctanh(0.4)
    observation = np.array([0.05, 0.0], np.float32)
    action, _ = policy.predict(observation, deterministic=True)
    written = steering.default_unit().at[-1].set(0.4)
    expected = steering.decide(written, jnp.asarray(observation)).action
    np.testing.assert_allclose(action * task.environment.action_high[0], expected, atol=5e-3)
    plain = steering.decide(steering.default_unit(), jnp.asarray(observation)).action
    assert abs(float(expected[0] - plain[0])) == pytest.approx(0.1, abs=1e-4)


def test_the_policy_gradient_goes_through_the_plan(trained: PPO):
    """d log p / d bias of the written parameters, against differences."""
    policy: Any = trained.policy
    seen, actions = torch.tensor([[0.05, 0.1], [-0.1, 0.05]]), torch.tensor([[0.4], [-0.2]])
    bias = policy.action_net.write.bias

    def score() -> torch.Tensor:
        return policy.evaluate_actions(seen, actions)[1].sum()

    policy.zero_grad()
    score().backward()
    slope, step = bias.grad.clone(), 3e-3  # the cube root of float32's 1e-7 relative to values of order 1
    assert (slope.abs() > 1e-3).sum() >= 4
    with torch.no_grad():
        for entry in range(bias.numel()):
            ends = []
            for sign in (1.0, -1.0):
                bias[entry] += sign * step
                ends.append(float(score()))
                bias[entry] -= sign * step
            assert float(slope[entry]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=3e-2, abs=3e-3)


def test_what_was_trained_can_be_saved_and_loaded(trained: PPO, tmp_path: pathlib.Path):
    observation = np.array([0.3, -0.2], np.float32)
    trained.save(tmp_path / "policy.zip")
    again = PPO.load(tmp_path / "policy.zip", device="cpu")
    expected, _ = trained.predict(observation, deterministic=True)
    np.testing.assert_array_equal(again.predict(observation, deterministic=True)[0], expected)


def test_what_cannot_be_planned_for_is_refused_in_words():
    steering = task_steering(TASK)
    with pytest.raises(ValueError, match=r"the policy needs Box\(-1.0, 1.0, \(1,\), float32\): wrap it in"):
        PPO(PlannerActorCriticPolicy, GymnasiumTask(TASK), policy_kwargs={"steering": steering}, device="cpu")
    with pytest.raises(ValueError, match="the planner starts from the observation itself"):
        learner(features_extractor_class=CombinedExtractor)
