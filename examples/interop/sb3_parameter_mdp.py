"""Stable-Baselines3 trains MPC without knowing of it: its action is the planner's parameters, the planner is part of
the environment (`ParameterMDP`).

    python examples/interop/sb3_parameter_mdp.py                  # SAC, a thousand steps, under a minute
    python examples/interop/sb3_parameter_mdp.py --algorithm ppo
    python examples/interop/sb3_parameter_mdp.py --task cartpole --steps 30000 --compare

`--compare` then trains planahead's own sac-zop, the same idea in one JAX program, on the same task for as many steps,
and evaluates both in the same episodes. SAC has sac-zop's settings where Stable-Baselines3 has them too: rates, batch,
steps per update, networks, discount, target entropy. Needs `pip install 'planahead[sb3]'`.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm

import planahead as pa
from planahead.interop.gymnasium_vector import GymnasiumVectorTask
from planahead.interop.parameter_mdp import ParameterMDP, VectorParameterMDP, task_steering

EPISODES = 20


@dataclasses.dataclass(frozen=True)
class Score:
    """Deterministic episodes of one policy."""

    mean_return: float
    success: float
    """Share of episodes whose last state counts as success."""
    failed_plans: float
    """Share of steps."""
    seconds: float
    """Of training."""

    def __str__(self) -> str:
        return (
            f"return {self.mean_return:8.3f}, success {100 * self.success:3.0f} %, failed plans "
            f"{100 * self.failed_plans:.1f} %, trained in {self.seconds:.0f} s"
        )


def main(arguments: Sequence[str] | None = None) -> dict[str, Score]:
    """Train and print what came of it; returns the scores by name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="mass-spring-damper", choices=pa.task_names())
    parser.add_argument("--algorithm", default="sac", choices=("sac", "ppo"))
    parser.add_argument("--steps", type=int, default=1000, help="environment steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", action="store_true", help="train planahead's sac-zop beside it")
    given = parser.parse_args(arguments)
    task = pa.make_task(given.task)
    zop: Any = pa.make_algorithm("sac-zop", task, jax.random.key(0)).policy
    steering = task_steering(task, planner=zop.steering.planner)
    middle = np.zeros(steering.space.size, np.float32)
    default = np.asarray(steering.default_unit(), np.float32)
    scores = {
        "planner as it is": evaluate(task, steering, lambda seen: np.tile(default, (len(seen), 1))),
        "middle of the parameter box": evaluate(task, steering, lambda seen: np.tile(middle, (len(seen), 1))),
    }
    start = time.perf_counter()
    learner = algorithm(given.algorithm, task, steering, given.steps, given.seed).learn(given.steps)
    seconds = time.perf_counter() - start
    scores[f"Stable-Baselines3 {given.algorithm}"] = evaluate(
        task, steering, lambda seen: learner.predict(seen, deterministic=True)[0], seconds
    )
    if given.compare:
        scores["planahead sac-zop"] = own(task, steering, given.steps, given.seed)
    for name, score in scores.items():
        print(f"{name:28s} {score}")
    return scores


def algorithm(name: str, task: pa.Task, steering: pa.Steering, steps: int, seed: int) -> BaseAlgorithm:
    """Stable-Baselines3's algorithm as it comes, with the settings of planahead's where both have them."""
    env = ParameterMDP(task, steering)
    if name == "ppo":
        noise = {"log_std_init": -1.0}
        return PPO("MlpPolicy", env, n_steps=256, batch_size=64, policy_kwargs=noise, seed=seed, device="cpu")
    own: Any = pa.make_algorithm("sac-zop", task, jax.random.key(0)).learner
    return SAC(
        "MlpPolicy",
        env,
        learning_rate=own.learning_rate,
        batch_size=own.batch_size,
        gamma=own.discount,
        tau=own.polyak,
        train_freq=own.steps_per_update,
        learning_starts=min(own.warm_up_steps, steps // 4),
        ent_coef=f"auto_{own.initial_temperature}",
        target_entropy=own.target_entropy * steering.space.size,  # planahead's is per number that is drawn, too
        policy_kwargs={"net_arch": [own.hidden_units] * own.hidden_layers},
        seed=seed,
        device="cpu",
    )


def own(task: pa.Task, steering: pa.Steering, steps: int, seed: int) -> Score:
    """planahead's sac-zop, trained for as many steps, rounded up to its chunks."""
    start_key, init_key, run_key = jax.random.split(jax.random.key(seed), 3)
    policy, learner = pa.make_algorithm("sac-zop", task, start_key)
    start = time.perf_counter()
    state = learner.init(task, policy, init_key)
    for key in jax.random.split(run_key, -(-steps // learner.steps_per_chunk)):
        state, _ = learner.advance(state, key)
    jax.block_until_ready(state)
    seconds = time.perf_counter() - start
    trained: Any = learner.policy(state)
    propose = jax.jit(jax.vmap(lambda seen: trained.propose(seen).unit))
    return evaluate(task, steering, lambda seen: np.asarray(propose(seen)), seconds)


def evaluate(
    task: pa.Task,
    steering: pa.Steering,
    choose: Callable[[np.ndarray], np.ndarray],
    seconds: float = 0.0,
    seed: int = 1_000_000,
) -> Score:
    """One episode in each of `EPISODES` worlds, the same starts for all."""
    envs = VectorParameterMDP(GymnasiumVectorTask(task, EPISODES), steering)
    seen, _ = envs.reset(seed=seed)
    going = np.ones(EPISODES, bool)
    returns, successes, failed, steps = np.zeros(EPISODES), np.zeros(EPISODES, bool), 0, 0
    while going.any():
        seen, rewards, terminated, truncated, info = envs.step(choose(seen))
        returns += np.where(going, rewards, 0.0)
        failed, steps = failed + int((info["plan_failed"] & going).sum()), steps + int(going.sum())
        ended = going & (terminated | truncated)
        successes[ended] = info["success"][ended]
        going &= ~ended
    return Score(float(returns.mean()), float(successes.mean()), failed / steps, seconds)


if __name__ == "__main__":
    main()
