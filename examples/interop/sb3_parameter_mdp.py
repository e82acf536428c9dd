"""Stable-Baselines3 trains MPC without knowing of it: its action is the planner's parameters, the planner is part of
the environment (`ParameterMDP`).

    python examples/interop/sb3_parameter_mdp.py                  # SAC, a thousand steps, under a minute
    python examples/interop/sb3_parameter_mdp.py --algorithm ppo
    python examples/interop/sb3_parameter_mdp.py --task cartpole --steps 30000

Whether it learns what planahead's own sac-zop learns: `planahead bench stable-baselines`. Needs
`pip install 'planahead[sb3]'`.
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import planahead as pa
from planahead.interop.parameter_mdp import ParameterMDP, task_steering

EPISODES = 20


@dataclasses.dataclass(frozen=True)
class Constant:
    """A policy that writes the same parameters whatever it sees."""

    unit: np.ndarray

    def predict(self, observation: np.ndarray, *_: Any, **__: Any) -> tuple[np.ndarray, None]:
        return np.tile(self.unit, (len(observation), 1)), None


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print what came of it; returns mean returns by name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="mass-spring-damper", choices=pa.task_names())
    parser.add_argument("--algorithm", default="sac", choices=("sac", "ppo"))
    parser.add_argument("--steps", type=int, default=1000, help="environment steps")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)

    steering = task_steering(given.task)  # the task's planner, and which of its parameters are written
    world = ParameterMDP(given.task, steering)
    if given.algorithm == "sac":
        learner = SAC("MlpPolicy", world, learning_starts=given.steps // 4, seed=given.seed, device="cpu")
    else:
        quiet = {"log_std_init": -1.0}
        learner = PPO(
            "MlpPolicy", world, n_steps=256, batch_size=64, policy_kwargs=quiet, seed=given.seed, device="cpu"
        )
    start = time.perf_counter()
    learner.learn(given.steps)
    seconds = time.perf_counter() - start

    policies: dict[str, Any] = {
        "planner as it is": Constant(np.asarray(steering.default_unit(), np.float32)),
        "middle of the parameter box": Constant(np.zeros(steering.space.size, np.float32)),
        f"Stable-Baselines3 {given.algorithm}": learner,
    }
    returns = {}
    for name, policy in policies.items():
        episodes = Monitor(ParameterMDP(given.task, steering))
        episodes.reset(seed=1_000_000)  # the same starts for all
        mean, _ = evaluate_policy(policy, episodes, n_eval_episodes=EPISODES)
        returns[name] = float(np.mean(mean))
        print(f"{name:28s} return {returns[name]:8.3f}")
    print(f"trained in {seconds:.0f} s")
    return returns


if __name__ == "__main__":
    main()
