"""A planner inside the actor of Stable-Baselines3's PPO: the network writes the planner's parameters, and the policy
gradient goes through the plan (`PlannerActorCriticPolicy`).

    python examples/interop/sb3_planner_actor.py                      # two thousand steps, under a minute
    python examples/interop/sb3_planner_actor.py --task cartpole --steps 50000

Prints the return of deterministic episodes before and after training. Needs `pip install 'planahead[sb3]'`.
"""

import argparse
import dataclasses
from collections.abc import Sequence

import gymnasium
import numpy as np
from gymnasium.wrappers import RescaleAction
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import planahead as pa
from planahead.interop.gymnasium import GymnasiumTask
from planahead.interop.parameter_mdp import task_steering
from planahead.interop.stable_baselines import PlannerActorCriticPolicy

EPISODES = 10


@dataclasses.dataclass(frozen=True)
class Returns:
    """Mean returns of deterministic episodes."""

    before: float
    after: float


def main(arguments: Sequence[str] | None = None) -> Returns:
    """Train, print and return what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="mass-spring-damper", choices=pa.task_names())
    parser.add_argument("--steps", type=int, default=2048, help="environment steps")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    # One iteration per plan, whose own derivative is exact: what a policy in training can afford.
    steering = task_steering(given.task, planner=pa.SQP.real_time(derivative="step", gradient_tolerance=np.inf))

    def world() -> gymnasium.Env:
        return Monitor(RescaleAction(GymnasiumTask(given.task), np.float32(-1.0), np.float32(1.0)))

    learner = PPO(
        PlannerActorCriticPolicy,
        world(),
        n_steps=512,
        batch_size=128,
        n_epochs=5,
        learning_rate=1e-3,
        policy_kwargs={"steering": steering, "log_std_init": -1.5},
        seed=given.seed,
        device="cpu",
    )
    judge = world()
    judge.reset(seed=given.seed + 1)
    before, _ = evaluate_policy(learner, judge, EPISODES)
    learner.learn(given.steps)
    judge.reset(seed=given.seed + 1)
    after, _ = evaluate_policy(learner, judge, EPISODES)
    assert isinstance(before, float) and isinstance(after, float)
    returns = Returns(before, after)
    print(f"{given.task}: mean return {returns.before:.3f} with the planner as it is, {returns.after:.3f} trained")
    return returns


if __name__ == "__main__":
    main()
