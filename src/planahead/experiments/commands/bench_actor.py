"""`planahead bench actor-in-loop`, `cacto`."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command, Folder

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class BenchActorInLoop(Command):
    """Swing a pole up to either side with an actor, with a planner, and with the planner guided by the actor, ended in
    its value, or both (AC4MPC), in full solves and in real time; and solve the planner's problem from cold, guided and
    random guesses. Success, return, cost, iterations and times, into two CSV files and tables.
    """

    runs: Annotated[tuple[pathlib.Path, ...], tyro.conf.arg(metavar="RUN")] = ()
    """Finished runs on the cart-pole whose best policies are the actors; SAC is trained unless given."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="SEED")] = (0, 1, 2)
    """Of the actors that are trained."""
    steps: int = 50_000
    """Environment steps per actor that is trained."""
    horizons: Annotated[tuple[int, ...], tyro.conf.arg(metavar="STEPS")] = (5, 10, 20)
    """Of the planner, 0.05 s each."""
    episodes: int = 50
    """Per policy, and starts of the solves."""
    repeats: int = 20
    """How often a decision is timed at each of 20 observations, with the first actor."""
    out: Folder = pathlib.Path("runs/bench-actor-in-loop")
    """Where episodes.csv, solves.csv and tables.md go."""

    name: ClassVar[str] = "bench actor-in-loop"
    examples: ClassVar[tuple[str, ...]] = (
        "",
        "--seeds 0 --horizons 5 --episodes 25",
        "--runs runs/sac-0 runs/sac-1 --out benchmarks/ac4mpc",
    )

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.benchmarks import actor_in_loop as bench, actor_tables
        from planahead.experiments.benchmarks.rows import csv_text, markdown, table
        from planahead.experiments.errors import UserError, at_least
        from planahead.experiments.files import make_folder, write_text
        from planahead.experiments.versions import versions

        for option in ("steps", "episodes"):
            at_least(f"--{option}", getattr(self, option), 1)
        at_least("--repeats", self.repeats, 0)
        for horizon in self.horizons:
            at_least("--horizons", horizon, 1)
        if not self.horizons or not (self.runs or self.seeds):
            raise UserError("there is nothing to compare: give --runs or --seeds, and --horizons")
        make_folder(self.out)
        written = [self.out / "episodes.csv", self.out / "solves.csv", self.out / "tables.md"]

        def tables(found: bench.Found) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
            return [
                (actor_tables.LOOP_HEADINGS, actor_tables.loop_cells(found.loops)),
                (actor_tables.START_HEADINGS, actor_tables.start_cells(found.starts)),
            ]

        def keep(found: bench.Found) -> None:
            texts = [
                csv_text(found.loops),
                csv_text(found.starts),
                "\n".join(markdown(*each) for each in tables(found)),
            ]
            for path, text in zip(written, texts, strict=True):
                write_text(path, text)

        def told(line: str) -> None:
            console.print(line, highlight=False)

        named = bench.actors(self.runs, self.seeds, self.steps)
        found = bench.run(named, self.horizons, self.episodes, self.repeats, told, keep)
        for headings, lines in tables(found):
            console.print(table(headings, lines))
        console.print(", ".join(map(str, written)), highlight=False, soft_wrap=True)
        return {
            "episodes": [dataclasses.asdict(row) for row in found.loops],
            "solves": [dataclasses.asdict(row) for row in found.starts],
            "versions": versions(),
        }


@dataclasses.dataclass(frozen=True)
class BenchCacto(Command):
    """Train CACTO with and without slopes, and count from how many starts a solve ends in the best optimum known: begun
    cold, from random controls, and from the actor's roll-out as the loop goes on. Into a CSV file and a table.
    """

    tasks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TASK")] = ("cartpole", "obstacles", "mass-spring-damper")
    """Of these three."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="SEED")] = (0, 1, 2)
    chunks: int = 64
    """Of 64 problems each, for every seed."""
    starts: int = 64
    """From which solves are compared."""
    out: Folder = pathlib.Path("runs/bench-cacto")
    """Where solves.csv and tables.md go."""

    name: ClassVar[str] = "bench cacto"
    examples: ClassVar[tuple[str, ...]] = ("", "--tasks cartpole --seeds 0 --chunks 16")

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.benchmarks import cacto as bench
        from planahead.experiments.benchmarks.rows import csv_text, markdown, table
        from planahead.experiments.errors import UserError, at_least, known_names
        from planahead.experiments.files import make_folder, write_text
        from planahead.experiments.versions import versions

        for option in ("chunks", "starts"):
            at_least(f"--{option}", getattr(self, option), 1)
        for task in self.tasks:
            if task not in bench.SETTINGS:
                raise UserError(
                    f"--tasks {task}: there is no setting for it; known are {known_names(list(bench.SETTINGS))}"
                )
        if not self.tasks or not self.seeds:
            raise UserError("there is nothing to compare: give --tasks and --seeds")
        make_folder(self.out)
        written = [self.out / "solves.csv", self.out / "tables.md"]

        def keep(rows: list[bench.Row]) -> None:
            for path, text in zip(written, (csv_text(rows), markdown(bench.HEADINGS, bench.cells(rows))), strict=True):
                write_text(path, text)

        def told(line: str) -> None:
            console.print(line, highlight=False)

        rows = bench.run(self.tasks, self.seeds, self.chunks, self.starts, told, keep)
        console.print(table(bench.HEADINGS, bench.cells(rows)))
        console.print(", ".join(map(str, written)), highlight=False, soft_wrap=True)
        return {"solves": [dataclasses.asdict(row) for row in rows], "versions": versions()}


ACTOR_BENCHMARKS: tuple[type[Command], ...] = (BenchActorInLoop, BenchCacto)
"""Benchmarks of actors in a planner's loop."""
