"""Stable-Baselines3's SAC, to which the planner is a part of the world (`ParameterMDP`), beside planahead's sac-zop:
one idea, two implementations that share no learner. If both are right, they learn the same from as many steps.

SAC has sac-zop's settings where Stable-Baselines3 has them too: rates, batch, steps per update, networks, discount,
target entropy. It keeps its own way of everything else: one environment where sac-zop steps 16 in turn, its own replay,
its own initial weights and normalisation (none). Policies are judged every so many steps, in the same deterministic
episodes.
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from planahead.experiments.benchmarks.rows import NOTHING
from planahead.experiments.benchmarks.stable_baselines_learners import Checkpoint, ours, theirs, untrained
from planahead.experiments.errors import UserError
from planahead.experiments.experiment import make_known_task
from planahead.experiments.statistics import interquartile_estimate
from planahead.interop.gymnasium_vector import GymnasiumVectorTask
from planahead.interop.parameter_mdp import VectorParameterMDP, task_steering
from planahead.learning import make_algorithm
from planahead.policies import Steering
from planahead.tasks import Task

PLANNER, THEIRS, OURS = "the planner as it is", "Stable-Baselines3", "planahead"
TRAINED: Mapping[str, Callable[[Task, Steering, Sequence[int], int], Iterator[Checkpoint]]] = {
    OURS: ours,
    THEIRS: theirs,
}
FIRST_EPISODE = 1_000_000
"""Seed of the first evaluation episode; trainings begin at the small ones."""
INSTALL = "pip install '.[sb3]'"


@dataclasses.dataclass(frozen=True)
class Row:
    """Deterministic episodes of one policy."""

    task: str
    learner: str
    seed: int
    training_steps: int
    """Environment steps that were asked for; the training ends with the first policy that has seen them."""
    steps: int
    """Those that this policy has seen."""
    episodes: int
    mean_return: float
    success: float
    """Share of episodes whose last state counts as success."""
    failed_plans: float
    """Share of steps."""
    seconds: float | None
    """Of processor time for training so far; `None` where nothing was trained."""

    @property
    def training(self) -> tuple[str, str, int, int, int]:
        """What was asked; rows with the same are of one training."""
        return self.task, self.learner, self.seed, self.training_steps, self.episodes

    @property
    def last(self) -> bool:
        """Whether its training was over."""
        return self.steps >= self.training_steps


class Contest(NamedTuple):
    """A task, the planner that both learners steer, and the worlds in which they are judged."""

    task: Task
    steering: Steering
    worlds: VectorParameterMDP

    @classmethod
    def on(cls, name: str, episodes: int) -> "Contest":
        """Worlds for as many episodes; **raises** `UserError` for a task that nobody knows."""
        task = make_known_task(name)
        policy: Any = make_algorithm("sac-zop", task, jax.random.key(0)).policy
        steering = task_steering(task, planner=policy.steering.planner)
        return cls(task, steering, VectorParameterMDP(GymnasiumVectorTask(task, episodes), steering))


def run(
    names: Sequence[str],
    seeds: Sequence[int],
    steps: int,
    every: int,
    episodes: int,
    known: Sequence[Row] = (),
    report: Callable[[str], None] = lambda _: None,
    keep: Callable[[list[Row]], None] = lambda _: None,
) -> list[Row]:
    """`known` rows and those that are missing, a row `every` so many steps; `keep` is called with all rows after each.
    A training whose last row is not known starts anew, without its earlier ones."""
    if importlib.util.find_spec("stable_baselines3") is None:
        raise UserError(f"bench stable-baselines trains with Stable-Baselines3, which is not installed: {INSTALL}")
    rows = list(known)
    contests = {name: Contest.on(name, episodes) for name in names}
    marks = [*range(every, steps, every), steps]

    def add(blank: Row, contest: Contest, train: Callable[[], Iterator[Checkpoint]]) -> None:
        if any(row.last and row.training == blank.training for row in rows):
            return
        rows[:] = [row for row in rows if row.training != blank.training]
        for steps, choose, seconds in train():
            found = evaluated(contest.worlds, choose)
            rows.append(dataclasses.replace(blank, steps=steps, seconds=seconds, **found))
            keep(rows)
        report(_told(rows[-1]))

    for name, contest in contests.items():
        blank = Row(name, PLANNER, 0, 0, 0, episodes, 0.0, 0.0, 0.0, None)
        add(blank, contest, functools.partial(untrained, contest.steering))
        for seed in seeds:
            for learner, train in TRAINED.items():
                asked = dataclasses.replace(blank, learner=learner, seed=seed, training_steps=steps)
                add(asked, contest, functools.partial(train, contest.task, contest.steering, marks, seed))
    return rows


def evaluated(worlds: VectorParameterMDP, choose: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """One episode in each world, from the same starts whatever was judged there before."""
    seen, _ = worlds.reset(seed=FIRST_EPISODE)
    episodes = len(seen)
    going = np.ones(episodes, bool)
    returns, successes, failed, steps = np.zeros(episodes), np.zeros(episodes, bool), 0, 0
    while going.any():
        seen, rewards, terminated, truncated, info = worlds.step(choose(seen))
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
    """Lines of the table, under `HEADINGS`, of what trainings ended with: interquartile means over seeds and their
    95 % intervals; median processor times."""
    lines = []
    last = [row for row in rows if row.last]
    for key in dict.fromkeys((row.task, row.learner, row.steps, row.episodes) for row in last):
        some = [row for row in last if (row.task, row.learner, row.steps, row.episodes) == key]
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
