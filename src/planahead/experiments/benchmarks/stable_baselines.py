"""Stable-Baselines3's SAC, to which the planner is a part of the world (`ParameterMDP`), beside planahead's sac-zop:
one idea, two implementations that share no learner. If both are right, they learn the same from as many steps.

SAC has sac-zop's settings where Stable-Baselines3 has them too: rates, batch, steps per update, networks, discount,
target entropy. It keeps its own way of everything else: one environment where sac-zop steps 16 in turn, its own replay,
its own initial weights and normalisation (none). Policies are those of the last step, in the same deterministic
episodes.
"""

import dataclasses
import functools
import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from planahead.experiments.benchmarks.rows import NOTHING
from planahead.experiments.errors import UserError
from planahead.experiments.experiment import make_known_task
from planahead.experiments.statistics import interquartile_estimate
from planahead.interop.gymnasium_vector import GymnasiumVectorTask
from planahead.interop.parameter_mdp import ParameterMDP, VectorParameterMDP, task_steering
from planahead.learning import make_algorithm
from planahead.policies import Steering
from planahead.tasks import Task

PLANNER, THEIRS, OURS = "the planner as it is", "Stable-Baselines3", "planahead"
FIRST_EPISODE = 1_000_000
"""Seed of the first evaluation episode; trainings begin at the small ones."""
INSTALL = "pip install '.[sb3]'"


@dataclasses.dataclass(frozen=True)
class Row:
    """Deterministic episodes of one policy."""

    task: str
    learner: str
    seed: int
    steps: int
    episodes: int
    mean_return: float
    success: float
    """Share of episodes whose last state counts as success."""
    failed_plans: float
    """Share of steps."""
    seconds: float | None
    """Of training; `None` where nothing was trained."""

    @property
    def key(self) -> tuple[str, str, int, int, int]:
        """What was asked; two rows with the same say the same."""
        return self.task, self.learner, self.seed, self.steps, self.episodes


class Trained(NamedTuple):
    """A policy, and how long it was trained."""

    choose: Callable[[np.ndarray], np.ndarray]
    """Parameters in [-1, 1] `[n, φ]` for observations `[n, …]`."""
    seconds: float | None


def run(
    names: Sequence[str],
    seeds: Sequence[int],
    steps: int,
    episodes: int,
    known: Sequence[Row] = (),
    report: Callable[[str], None] = lambda _: None,
    keep: Callable[[list[Row]], None] = lambda _: None,
) -> list[Row]:
    """`known` rows and those that are missing; `keep` is called with all rows after every training."""
    if importlib.util.find_spec("stable_baselines3") is None:
        raise UserError(f"bench stable-baselines trains with Stable-Baselines3, which is not installed: {INSTALL}")
    rows, done = list(known), {row.key for row in known}
    steered = {name: _steered(name) for name in names}

    def add(row: Row, task: Task, steering: Steering, made: Callable[[], Trained]) -> None:
        if row.key in done:
            return
        choose, seconds = made()
        rows.append(dataclasses.replace(row, seconds=seconds, **_evaluated(task, steering, choose, episodes)))
        done.add(row.key)
        keep(rows)
        report(_told(rows[-1]))

    for name, (task, steering) in steered.items():
        blank = Row(name, PLANNER, 0, 0, episodes, 0.0, 0.0, 0.0, None)
        add(blank, task, steering, functools.partial(_untrained, steering))
        for seed in seeds:
            for learner, train in ((OURS, _ours), (THEIRS, _theirs)):
                asked = dataclasses.replace(blank, learner=learner, seed=seed, steps=steps)
                add(asked, task, steering, functools.partial(train, task, steering, steps, seed))
    return rows


def _steered(name: str) -> tuple[Task, Steering]:
    """A task and the planner that both learners steer."""
    task = make_known_task(name)
    policy: Any = make_algorithm("sac-zop", task, jax.random.key(0)).policy
    return task, task_steering(task, planner=policy.steering.planner)


def _untrained(steering: Steering) -> Trained:
    default = np.asarray(steering.default_unit(), np.float32)
    return Trained(lambda seen: np.tile(default, (len(seen), 1)), None)


def _theirs(task: Task, steering: Steering, steps: int, seed: int) -> Trained:
    from stable_baselines3 import SAC

    ours: Any = make_algorithm("sac-zop", task, jax.random.key(0)).learner
    learner = SAC(
        "MlpPolicy",
        ParameterMDP(task, steering),
        learning_rate=ours.learning_rate,
        batch_size=ours.batch_size,
        gamma=ours.discount,
        tau=ours.polyak,
        train_freq=ours.steps_per_update,
        learning_starts=min(ours.warm_up_steps, steps // 4),
        ent_coef=f"auto_{ours.initial_temperature}",
        target_entropy=ours.target_entropy * steering.space.size,  # planahead's is per number that is drawn, too
        policy_kwargs={"net_arch": [ours.hidden_units] * ours.hidden_layers},
        seed=seed,
        device="cpu",
    )
    start = time.perf_counter()
    learner.learn(steps)
    return Trained(lambda seen: learner.predict(seen, deterministic=True)[0], time.perf_counter() - start)


def _ours(task: Task, steering: Steering, steps: int, seed: int) -> Trained:
    """For as many steps, rounded up to whole chunks."""
    policy_key, init_key, run_key = jax.random.split(jax.random.key(seed), 3)
    policy, learner = make_algorithm("sac-zop", task, policy_key)
    start = time.perf_counter()
    state = learner.init(task, policy, init_key)
    for key in jax.random.split(run_key, -(-steps // learner.steps_per_chunk)):
        state, _ = learner.advance(state, key)
    jax.block_until_ready(state)
    seconds = time.perf_counter() - start
    trained: Any = learner.policy(state)
    propose = jax.jit(jax.vmap(lambda seen: trained.propose(seen).unit))
    return Trained(lambda seen: np.asarray(propose(seen)), seconds)


def _evaluated(
    task: Task, steering: Steering, choose: Callable[[np.ndarray], np.ndarray], episodes: int
) -> dict[str, float]:
    """One episode in each of as many worlds, the same starts for all."""
    envs = VectorParameterMDP(GymnasiumVectorTask(task, episodes), steering)
    seen, _ = envs.reset(seed=FIRST_EPISODE)
    going = np.ones(episodes, bool)
    returns, successes, failed, steps = np.zeros(episodes), np.zeros(episodes, bool), 0, 0
    while going.any():
        seen, rewards, terminated, truncated, info = envs.step(choose(seen))
        returns += np.where(going, rewards, 0.0)
        failed, steps = failed + int((info["plan_failed"] & going).sum()), steps + int(going.sum())
        ended = going & (terminated | truncated)
        successes[ended] = info["success"][ended]
        going &= ~ended
    return {
        "mean_return": float(returns.mean()),
        "success": float(successes.mean()),
        "failed_plans": failed / steps,
    }


def _told(row: Row) -> str:
    trained = "" if row.seconds is None else f", seed {row.seed}, {row.steps:,} steps in {row.seconds:.0f} s"
    return f"{row.task}, {row.learner}{trained}: success {100 * row.success:.0f} %, return {row.mean_return:.4g}"


HEADINGS = ("task", "learner", "steps", "seeds", "episodes", "success", "return", "failed plans", "trained in")


def cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Lines of the table, under `HEADINGS`: interquartile means over seeds and their 95 % intervals; median times."""
    lines = []
    for key in dict.fromkeys((row.task, row.learner, row.steps, row.episodes) for row in rows):
        some = [row for row in rows if (row.task, row.learner, row.steps, row.episodes) == key]
        seconds = [row.seconds for row in some if row.seconds is not None]
        lines.append(
            (
                key[0],
                key[1],
                f"{key[2]:,}" if key[2] else NOTHING,
                str(len(some)) if seconds else NOTHING,
                str(key[3]),
                _over_seeds([100 * row.success for row in some], "{:.0f}") + " %",
                _over_seeds([row.mean_return for row in some], "{:.2f}"),
                _over_seeds([100 * row.failed_plans for row in some], "{:.1f}") + " %",
                f"{np.median(seconds):.0f} s" if seconds else NOTHING,
            )
        )
    return lines


def _over_seeds(values: Sequence[float], form: str) -> str:
    estimate = interquartile_estimate(np.array(values))
    value = form.format(estimate.value)
    return value if np.isnan(estimate.low) else f"{value} [{form.format(estimate.low)}, {form.format(estimate.high)}]"
