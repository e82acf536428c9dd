"""The two learners of `stable_baselines.py`, as sequences of policies: one after every so many steps of a training."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from planahead.interop.parameter_mdp import ParameterMDP
from planahead.learning import make_algorithm
from planahead.policies import Steering
from planahead.tasks import Task


class Checkpoint(NamedTuple):
    """A policy, and what it took."""

    steps: int
    """Environment steps so far."""
    choose: Callable[[np.ndarray], np.ndarray]
    """Parameters in [-1, 1] `[n, φ]` for observations `[n, …]`; valid until the training goes on."""
    seconds: float | None
    """Of processor time for training so far, compilation in it; `None` where nothing was trained."""


def untrained(steering: Steering) -> Iterator[Checkpoint]:
    """The planner with its own parameters, whatever is seen."""
    default = np.asarray(steering.default_unit(), np.float32)
    yield Checkpoint(0, lambda seen: np.tile(default, (len(seen), 1)), None)


def theirs(task: Task, steering: Steering, marks: Sequence[int], seed: int) -> Iterator[Checkpoint]:
    """Stable-Baselines3's SAC, with the settings that sac-zop has on the task, after as many steps as `marks` say."""
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import Logger

    settings: Any = make_algorithm("sac-zop", task, jax.random.key(0)).learner
    learner = SAC(
        "MlpPolicy",
        ParameterMDP(task, steering),
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        gamma=settings.discount,
        tau=settings.polyak,
        train_freq=settings.steps_per_update,
        learning_starts=min(settings.warm_up_steps, marks[-1] // 4),
        ent_coef=f"auto_{settings.initial_temperature}",
        target_entropy=settings.target_entropy * steering.space.size,  # planahead's is per number that is drawn, too
        policy_kwargs={"net_arch": [settings.hidden_units] * settings.hidden_layers},
        seed=seed,
        device="cpu",
    )
    learner.set_logger(Logger(folder=None, output_formats=[]))  # its own leaves a folder in the temporary one

    seconds = 0.0
    for mark in marks:
        start = time.process_time()
        learner.learn(mark - learner.num_timesteps, reset_num_timesteps=False)
        seconds += time.process_time() - start
        yield Checkpoint(mark, lambda seen: learner.predict(seen, deterministic=True)[0], seconds)


def ours(task: Task, steering: Steering, marks: Sequence[int], seed: int) -> Iterator[Checkpoint]:
    """planahead's sac-zop, after as many steps as `marks` say, rounded up to whole chunks."""
    del steering  # sac-zop makes it as `task_steering` does
    policy_key, init_key, run_key = jax.random.split(jax.random.key(seed), 3)
    start = time.process_time()
    policy, learner = make_algorithm("sac-zop", task, policy_key)
    state, chunk = learner.init(task, policy, init_key), learner.steps_per_chunk
    chunks = [-(-mark // chunk) for mark in marks]
    keys = jax.random.split(run_key, chunks[-1])
    seconds = time.process_time() - start
    for before, after in zip([0, *chunks[:-1]], chunks, strict=True):
        if before == after:
            continue
        start = time.process_time()
        for key in keys[before:after]:
            state, _ = learner.advance(state, key)
        jax.block_until_ready(state)
        seconds += time.process_time() - start
        trained = learner.policy(state)
        yield Checkpoint(after * chunk, lambda seen, policy=trained: np.asarray(_proposed(policy, seen)), seconds)


@eqx.filter_jit
def _proposed(policy: Any, seen: Float[Array, "n observation"]) -> Float[Array, "n drawn"]:
    return jax.vmap(lambda observation: policy.propose(observation).unit)(seen)
