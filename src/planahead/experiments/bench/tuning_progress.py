"""What a tuning has seen so far, in a file from which one that was interrupted goes on.

The optimiser itself is not kept: it asks for the same candidates again when it is told the same returns.
"""

import dataclasses
import math
import pathlib

import numpy as np

from planahead.experiments.episodes import Step
from planahead.experiments.errors import UserError
from planahead.experiments.files import make_folder, read_json, write_json


@dataclasses.dataclass(frozen=True)
class Counted:
    """Sums over training episodes."""

    steps: int = 0
    episodes: int = 0
    rewards: float = 0.0
    violated_steps: int = 0
    violated_episodes: int = 0
    failed_solves: int = 0

    def with_steps(self, seen: Step) -> "Counted":
        """And those of `seen`, [candidate, step, episode]."""
        alive = np.asarray(seen.alive)
        violated = alive & np.asarray(seen.violation)
        return Counted(
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


@dataclasses.dataclass
class Progress:
    """A tuning so far."""

    asked: str
    """Its conditions in words. With others, a budget for instance, its generations would have been other ones."""
    generations: list[list[float]] = dataclasses.field(default_factory=list)
    """Mean returns of each one's candidates."""
    step: int = 0
    seconds: float = 0.0
    """Of all sittings."""
    counted: Counted = Counted()
    """Since the last validation."""
    curve: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best: list[float] | None = None
    """The mean of the distribution that validated best, in unit coordinates."""
    best_step: int = 0

    @classmethod
    def read(cls, path: pathlib.Path, asked: str) -> "Progress":
        """What is at `path`, or a beginning where nothing is or what was asked for was something else. Raises
        `UserError` where it is no such file.
        """
        if not path.exists():
            return cls(asked)
        content = read_json(path, "the tuning")
        if content.get("asked") != asked:
            return cls(asked)
        try:
            content["counted"] = Counted(**content["counted"])
            content["curve"] = [
                {name: math.nan if value is None else value for name, value in row.items()} for row in content["curve"]
            ]
            return cls(**content)
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(f"«{path}» is damaged ({error!r}). Move it away, and the tuning starts anew.") from error

    def write(self, path: pathlib.Path) -> None:
        make_folder(path.parent)
        write_json(path, dataclasses.asdict(self))
