"""`planahead bench stable-baselines`."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command, Folder

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class BenchStableBaselines(Command):
    """Train planners as a part of the world, by Stable-Baselines3's SAC and by planahead's sac-zop, which share no
    learner, for as many steps: what both have learned, and how much of a processor's time it took (the extra `sb3`).
    Into a CSV file, a table and a figure; a training whose end is in the file is not repeated.
    """

    tasks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TASK")] = ("cartpole", "windmaze-easy")
    """Which tasks."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="SEED")] = (0, 1, 2)
    """A training of either for each."""
    steps: int = 50_000
    """Environment steps per training."""
    validate_every: int = 5_000
    """Environment steps between policies that are judged."""
    episodes: int = 100
    """Deterministic ones, in which a policy is judged."""
    out: Folder = pathlib.Path("runs/bench-stable-baselines")
    """Where scores.csv, scores.md and learning.png go."""

    name: ClassVar[str] = "bench stable-baselines"
    examples: ClassVar[tuple[str, ...]] = ("", "--tasks mass-spring-damper --seeds 0 --steps 2000")

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.benchmarks import stable_baselines as bench
        from planahead.experiments.benchmarks.rows import csv_text, markdown, read_csv, table
        from planahead.experiments.benchmarks.stable_baselines_figure import learning_figure
        from planahead.experiments.errors import UserError, at_least
        from planahead.experiments.figures import save
        from planahead.experiments.files import make_folder, write_text
        from planahead.experiments.versions import versions

        for option in ("steps", "validate_every", "episodes"):
            at_least(f"--{option.replace('_', '-')}", getattr(self, option), 1)
        if not self.tasks or not self.seeds:
            raise UserError("there is nothing to compare: give --tasks and --seeds")
        make_folder(self.out)
        written = [self.out / "scores.csv", self.out / "scores.md"]

        def keep(rows: list[bench.Row]) -> None:
            for path, text in zip(written, (csv_text(rows), markdown(bench.HEADINGS, bench.cells(rows))), strict=True):
                write_text(path, text)

        def told(line: str) -> None:
            console.print(line, highlight=False)

        known = read_csv(written[0], bench.Row)
        rows = bench.run(self.tasks, self.seeds, self.steps, self.validate_every, self.episodes, known, told, keep)
        picture = self.out / "learning.png"
        save(learning_figure(rows), picture)
        console.print(table(bench.HEADINGS, bench.cells(rows)))
        console.print(", ".join(map(str, [*written, picture])), highlight=False, soft_wrap=True)
        return {"scores": [dataclasses.asdict(row) for row in rows], "versions": versions()}


OUTSIDE_BENCHMARKS: tuple[type[Command], ...] = (BenchStableBaselines,)
"""Benchmarks beside other people's learners."""
