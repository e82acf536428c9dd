"""`planahead bench safety-filter`."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from planahead.experiments.commands.command import Command, Folder

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class BenchSafetyFilter(Command):
    """Propose uniform and half-trained actions to the safety filters of cart-pole and obstacles, with the exact model
    and under bounded gusts, beside the same worlds without a filter: violations, corrections and times, into a CSV and
    a table. What it helps that learning knows of the filter is `bench filter-awareness`.
    """

    steps: int = 100_000
    """Steps per row."""
    seed: int = 0
    """Of the half-trained policies, and of the steps."""
    out: Folder = pathlib.Path("runs/bench-safety-filter")
    """Where steps.csv and steps.md go."""

    name: ClassVar[str] = "bench safety-filter"
    examples: ClassVar[tuple[str, ...]] = ("", "--steps 5000", "--out benchmarks/safety-filter")

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.benchmarks import safety_filter
        from planahead.experiments.benchmarks.rows import csv_text, markdown, table
        from planahead.experiments.errors import at_least
        from planahead.experiments.files import make_folder, write_text
        from planahead.experiments.versions import versions

        at_least("--steps", self.steps, 1)
        make_folder(self.out)

        def told(row: safety_filter.FilterRow) -> None:
            line = f"{row.world}, {row.proposals} proposals, {row.protection}: {row.violations} of {row.steps} violate"
            console.print(line, highlight=False)

        rows = safety_filter.run(self.steps, self.seed, told)
        lines = [safety_filter.cells_of(row) for row in rows]
        console.print(table(safety_filter.HEADINGS, lines, words=3))
        written = [self.out / "steps.csv", self.out / "steps.md"]
        for path, text in zip(written, (csv_text(rows), markdown(safety_filter.HEADINGS, lines)), strict=True):
            write_text(path, text)
        console.print(", ".join(map(str, written)), highlight=False, soft_wrap=True)
        return {"steps": self.steps, "rows": [dataclasses.asdict(row) for row in rows], "versions": versions()}


SAFETY_BENCHMARKS: tuple[type[Command], ...] = (BenchSafetyFilter,)
"""Benchmarks of safety filters that compare no learners."""
