"""`planahead bench guides`."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from planahead.experiments.commands.command import Command, Folder

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class BenchGuides(Command):
    """Learn to guide a solver, and measure what it is worth: where solves of problems with bad local optima end, cold,
    from the shifted plan, from a network's guess and from the cheapest of them; what proposed active sets save an
    interior-point method; and closed loops that decide when and how far ahead to plan. Three CSV files and tables; what
    is in them is not made again.
    """

    parts: Annotated[tuple[Literal["guesses", "active-sets", "loops"], ...], tyro.conf.arg(metavar="PART")] = (
        "guesses",
        "active-sets",
        "loops",
    )
    """`guesses`, `active-sets`, `loops`."""
    seed: int = 0
    """Of states, networks and worlds."""
    rows: int = 800
    """States that guesses are learned from, and closed loops that active sets are learned from."""
    starts: int = 256
    """States from which guesses are compared."""
    worlds: int = 32
    """In which regrets are measured."""
    episodes: int = 25
    """Of every policy."""
    out: Folder = pathlib.Path("runs/bench-guides")
    """Where guesses.csv, active-sets.csv, loops.csv and tables.md go."""

    name: ClassVar[str] = "bench guides"
    examples: ClassVar[tuple[str, ...]] = ("", "--parts active-sets", "--seed 1 --rows 2000 --out runs/guides-1")

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.benchmarks import guides as bench
        from planahead.experiments.benchmarks.rows import markdown, table
        from planahead.experiments.errors import at_least
        from planahead.experiments.files import make_folder, write_text
        from planahead.experiments.versions import versions

        for option, least in (("rows", 20), ("starts", 1), ("worlds", 2), ("episodes", 1)):
            at_least(f"--{option}", getattr(self, option), least)
        make_folder(self.out)

        def told(line: str) -> None:
            console.print(line, highlight=False)

        found = bench.run(self.out, self.parts, self.seed, self.rows, self.starts, self.worlds, self.episodes, told)
        tables = bench.tables(found)
        for headings, lines in tables:
            console.print(table(headings, lines))
        path = self.out / "tables.md"
        write_text(path, "\n".join(markdown(headings, lines) for headings, lines in tables))
        console.print(f"{path}", highlight=False, soft_wrap=True)
        return {
            "guesses": [dataclasses.asdict(row) for row in found.guesses],
            "active_sets": [dataclasses.asdict(row) for row in found.active_sets],
            "loops": [dataclasses.asdict(row) for row in found.loops],
            "versions": versions(),
        }


GUIDE_BENCHMARKS: tuple[type[Command], ...] = (BenchGuides,)
"""Benchmarks of networks that guide a solver."""
