"""What a tuning has seen so far, in a file from which one that was interrupted goes on.

    about         what it depends on
    generations   every candidate in unit coordinates, and the mean return of its episodes
    curve         the validations so far, and what was best

What the optimiser has learned follows from candidates and returns, so that it is not in the file.
"""

import dataclasses
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np

from planahead.experiments.bench.results import CURVE
from planahead.experiments.episodes import Step
from planahead.experiments.errors import UserError
from planahead.experiments.experiment import require_same
from planahead.experiments.files import make_folder, plain, read_json, write_json


@dataclasses.dataclass(frozen=True)
class EpisodeSums:
    """Sums over training episodes."""

    steps: int = 0
    episodes: int = 0
    rewards: float = 0.0
    violated_steps: int = 0
    violated_episodes: int = 0
    failed_solves: int = 0

    def with_steps(self, seen: Step) -> "EpisodeSums":
        """And those of `seen`, [candidate, step, episode]."""
        alive = np.asarray(seen.alive)
        violated = alive & np.asarray(seen.violation)
        return EpisodeSums(
            steps=self.steps + int(alive.sum()),
            episodes=self.episodes + alive.shape[0] * alive.shape[2],
            rewards=self.rewards + float(np.where(alive, seen.reward, 0.0).sum(dtype=np.float64)),
            violated_steps=self.violated_steps + int(violated.sum()),
            violated_episodes=self.violated_episodes + int(violated.any(1).sum()),
            failed_solves=self.failed_solves + int((alive & np.asarray(seen.failed)).sum()),
        )

    def means(self) -> dict[str, float]:
        """As a learner's curve has them."""
        if self.episodes == 0:
            return {}
        return {
            "train_episodes": float(self.episodes),
            "train_return": self.rewards / self.episodes,
            "train_episode_length": self.steps / self.episodes,
            "train_violations_per_step": self.violated_steps / self.steps,
            "train_violations_per_episode": self.violated_episodes / self.episodes,
            "train_failed_solves": self.failed_solves / self.steps,
        }


class Generation(NamedTuple):
    """Candidates of one distribution."""

    candidates: np.ndarray
    """[candidate, parameter], unit coordinates."""
    returns: np.ndarray
    """Mean over each one's episodes [candidate]; all finite."""


@dataclasses.dataclass
class Progress:
    """A tuning so far."""

    about: dict[str, Any]
    """What it depends on, of JSON's kinds; only `steps`, how many were asked for, may be others when it goes on."""
    generations: list[Generation] = dataclasses.field(default_factory=list)
    step: int = 0
    """Environment steps of all generations."""
    seconds: float = 0.0
    """Of all sittings."""
    sums: EpisodeSums = EpisodeSums()
    """Since the last validation."""
    curve: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best: np.ndarray | None = None
    """The mean of the distribution that validated best, in unit coordinates; `None` before the first validation."""
    best_step: int = 0

    @classmethod
    def read(cls, path: pathlib.Path, about: dict[str, Any]) -> "Progress":
        """What is at `path`, or a beginning where nothing is. Raises `UserError` where it is about something else, or
        no such file.
        """
        if not path.exists():
            return cls(about)
        content = read_json(path, "the tuning")
        try:
            require_same(path, "settings", content["about"], plain(about), but="steps")
            return _parsed(content, about)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"«{path}» is damaged ({error!r}). Move it away, and the tuning starts anew.") from error

    def write(self, path: pathlib.Path) -> None:
        make_folder(path.parent)
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        generations = [{"candidates": g.candidates.tolist(), "returns": g.returns.tolist()} for g in self.generations]
        best = None if self.best is None else self.best.tolist()
        write_json(path, content | {"generations": generations, "sums": dataclasses.asdict(self.sums), "best": best})


def _parsed(content: dict[str, Any], about: dict[str, Any]) -> Progress:
    """The tuning in a file. Raises where one could not go on with it."""
    size, rewards = len(about["start"]), content["sums"]["rewards"]
    if not content["curve"] or any(row.keys() != set(CURVE) for row in content["curve"]):
        raise ValueError("its curve has no rows, or other columns than a curve")
    return Progress(
        about,
        generations=[
            Generation(
                _finite(each["candidates"], (about["population"], size)),
                _finite(each["returns"], (about["population"],)),
            )
            for each in content["generations"]
        ],
        step=int(content["step"]),
        seconds=float(content["seconds"]),
        sums=EpisodeSums(**content["sums"] | {"rewards": math.nan if rewards is None else rewards}),
        curve=[{name: math.nan if value is None else value for name, value in row.items()} for row in content["curve"]],
        best=_finite(content["best"], (size,)),
        best_step=int(content["best_step"]),
    )


def _finite(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(values, np.float64).reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError("a number in it is not finite")
    return array
