"""`planahead bench`."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class Bench(Command):
    """Train algorithms with several seeds, one after the other, and write one CSV. Run again after an interruption, it
    goes on. Several may run at once with the same --out and other algorithms or seeds.
    """

    benchmark: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="BENCHMARK")]
    """`swing-up`: the cart-pole with a horizon of 0.25 s. The benchmarks of solvers, `table1`, `nmpc`, `scaling` and
    `latency`, have options of their own: `planahead bench table1 --help`."""
    algorithms: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = ("sac-zop", "sac-fop", "sac-foa", "sac")
    """Which algorithms."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="SEED")] = (0, 1, 2)
    """One run per algorithm and seed."""
    steps: int = 100_000
    """Environment steps per run."""
    episodes: int = 100
    """Deterministic episodes per evaluation."""
    out: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where runs, CSV and picture go; runs/bench-BENCHMARK unless given."""

    name: ClassVar[str] = "bench"
    examples: ClassVar[tuple[str, ...]] = (
        "swing-up",
        "swing-up --algorithms sac-zop sac --seeds 0 --steps 50000 --out runs/quick",
    )

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments import bench
        from planahead.experiments.commands.bench_solver import SOLVER_BENCHMARKS
        from planahead.experiments.errors import UserError, at_least
        from planahead.experiments.experiment import known_algorithm
        from planahead.experiments.tables import benchmark_table

        others = [command.name.removeprefix("bench ") for command in SOLVER_BENCHMARKS]
        task = bench.benchmark_task(self.benchmark, others)
        at_least("--episodes", self.episodes, 1)
        for algorithm in self.algorithms:
            known_algorithm(algorithm)
        if not self.algorithms or not self.seeds:
            raise UserError("nothing to do: give at least one name to --algorithms and one number to --seeds.")
        out = self.out or pathlib.Path("runs") / f"bench-{self.benchmark}"
        cells = bench.bench(task, self.algorithms, self.seeds, self.steps, out, self.episodes, console)
        console.print(
            benchmark_table(
                cells, f"{self.benchmark}: {self.steps:,} steps per run, {self.episodes} episodes per evaluation"
            )
        )
        console.print(f"{out / 'results.csv'}, {out / 'learning.png'}", highlight=False, soft_wrap=True)
        return {"benchmark": self.benchmark, "task": task, "steps": self.steps, "cells": bench.summaries(cells)}
