"""`planahead bench reference-generator` and `residual`."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class _BenchParts(Command):
    parts: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = ()
    """Which parts; all unless given, and an unknown one is answered with the known ones."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="SEED")] = ()
    """Of what is trained; 0, 1 and 2 unless given."""
    steps: int | None = None
    """Environment steps per training."""
    episodes: int = 100
    """Deterministic episodes per policy and world."""
    out: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where runs, episodes, table and figure go; runs/bench-NAME unless given."""
    report_only: bool = False
    """Make table and figure anew from the episodes that are there."""

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.bench.parts import COMPARISONS
        from planahead.experiments.bench.robustness import collect, fly, write_robustness
        from planahead.experiments.bench.robustness_figure import robustness_figure
        from planahead.experiments.errors import UserError, at_least, known_names
        from planahead.experiments.figures import save

        name = self.name.removeprefix("bench ")
        comparison = COMPARISONS[name]
        for part in self.parts:
            if part not in comparison.parts:
                raise UserError(f"--parts got «{part}»; the known ones are {known_names(tuple(comparison.parts))}.")
        at_least("--episodes", self.episodes, 1)
        if self.steps is not None:
            at_least("--steps", self.steps, 1)
        out, worlds = self.out or pathlib.Path("runs") / f"bench-{name}", comparison.conditions
        pilots = []
        for pilot in comparison.pilots(self.parts, self.seeds, self.steps, out, None if self.report_only else console):
            pilots.append(pilot)
            if not self.report_only:
                fly([pilot], out, self.episodes, console, conditions=worlds)
        rows = collect(pilots, out, conditions=worlds)
        if not rows:
            raise UserError(f"«{out}» holds no episodes; run it without --report-only.")
        written = write_robustness(rows, out)
        save(robustness_figure(rows), written.with_suffix(".png"))
        console.print(written.read_text(), highlight=False, markup=False, soft_wrap=True)
        console.print(f"{written}, {written.with_suffix('.png')}", highlight=False, soft_wrap=True)
        return {"rows": [row.flat() for row in rows]}


@dataclasses.dataclass(frozen=True)
class BenchReferenceGenerator(_BenchParts):
    """Fly a quadrotor between pillars: a network that follows what a planner plans, trained with the planner or with
    references that cost nothing, beside a network alone and the planner with controllers that nothing trained; in
    worlds with wind, other masses and lags. Run again after an interruption, it goes on.
    """

    name: ClassVar[str] = "bench reference-generator"
    examples: ClassVar[tuple[str, ...]] = (
        "",
        "--seeds 0 --steps 500000 --episodes 25",
        "--report-only --out benchmarks/reference-generator",
    )


@dataclasses.dataclass(frozen=True)
class BenchResidual(_BenchParts):
    """Keep an unstable system that the planner mistakes in its box: planner and correcting network, beside each alone
    and a planner that knows it, with other disturbances, inputs and poles. Run again after an interruption, it goes on.
    """

    name: ClassVar[str] = "bench residual"
    examples: ClassVar[tuple[str, ...]] = ("", "--seeds 0 --episodes 25")


PARTS_BENCHMARKS: tuple[type[Command], ...] = (BenchReferenceGenerator, BenchResidual)
"""Benchmarks of compositions against their parts."""
