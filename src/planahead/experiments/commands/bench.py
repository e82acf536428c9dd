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
    """Train tasks x algorithms x interfaces x seeds, and write curves, a table with intervals and figures. Run again
    after an interruption, it goes on; what is finished is not trained again. Several may run at once with the same
    --out.
    """

    benchmark: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="BENCHMARK")]
    """`swing-up`: the cart-pole with a horizon of 0.25 s. `mpc-prior`: what a planner is worth to a learner, on
    cart-pole, wind maze and chain; `mpc-prior-tuned` the same at tuned learning rates. `expert`:
    networks that imitate a planner. `mpc-rl`: planners that learn their own parameters, on a linear system.
    `aligned`: models and values fitted, beside them. `mpc-critic`: a planner in the critic of SAC, with a right and
    with a wrong model. `filter-awareness`: what it helps that learning knows of the safety filter behind it. `skip`:
    SAC with an expert that a skip policy trusts for a while. `racing`: quadrotors through the gates of Split-S, with
    a planner in their policy and without. `ablations`: what each choice of AC-MPC is worth there, in fewer steps.
    The benchmarks of solvers, `table1`, `nmpc`, `scaling`, `latency`, `inference` and `torch`, those of flight,
    `time-optimal` and `robustness`, `safety-filter`, `actor-in-loop`, `cacto` and `guides`, those of compositions
    against their parts, `reference-generator` and `residual`, and the one beside Stable-Baselines3,
    `stable-baselines`, have options of their own: `planahead bench table1 --help`."""
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TASK[+OPTION=VALUE...]")] = ()
    """Which tasks, each with options that differ from its own; the benchmark's own unless given. Where a
    benchmark has variants, as `ablations` and `aligned` have, tasks and algorithms choose among them."""
    algorithms: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME[+SETTING=VALUE...]")] = ()
    """Which algorithms, each with settings that differ from its own; `planner` is the planner as it comes."""
    interfaces: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = ()
    """What a policy writes: `global`, one value per parameter, or `stage`, one per stage."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="SEED")] = ()
    """Which seeds: a run for every combination."""
    steps: int | None = None
    """Environment steps per run."""
    episodes: int | None = None
    """Deterministic episodes per evaluation."""
    jobs: int = 1
    """Processes at a time, each on cores of its own where there are enough."""
    out: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where runs, curves, tables and pictures go; runs/bench-BENCHMARK unless given."""
    report_only: bool = False
    """Make tables and pictures anew from rows and curves of DIR, and train nothing."""

    name: ClassVar[str] = "bench"
    examples: ClassVar[tuple[str, ...]] = (
        "swing-up",
        "swing-up --algorithms sac-zop sac --seeds 0 --steps 50000 --out runs/quick",
        "mpc-prior --jobs 2",
        "mpc-prior --tasks cartpole --algorithms sac-fop sac-fop+entropy=action sac-fop+prior_weight=0.1",
        "mpc-prior --report-only --out benchmarks/mpc-prior",
        "racing --tasks race-split-s+plant=realistic --algorithms ac-mpc --seeds 0",
        "ablations --tasks race-split-s race-split-s+horizon=5 --algorithms ac-mpc",
    )

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.bench.ablations import ablation_path, variant_summaries
        from planahead.experiments.bench.definition import cells
        from planahead.experiments.bench.jobs import run_cells_at_once
        from planahead.experiments.bench.named import known_benchmark
        from planahead.experiments.bench.report import picture_path, write_benchmark_report
        from planahead.experiments.bench.results import read_results
        from planahead.experiments.bench.running import results_locked, run_cells
        from planahead.experiments.bench.summary import summary_table
        from planahead.experiments.commands.own_benchmarks import OWN_BENCHMARKS
        from planahead.experiments.errors import UserError, at_least

        others = [name.removeprefix("bench ") for name in OWN_BENCHMARKS]
        benchmark = known_benchmark(self.benchmark, others)
        for option in ("steps", "episodes", "jobs"):
            value = getattr(self, option)
            if value is not None:
                at_least(f"--{option}", value, 1)
        wanted = cells(benchmark, self.tasks, self.algorithms, self.interfaces, self.seeds, self.steps, self.episodes)
        out = self.out or pathlib.Path("runs") / f"bench-{self.benchmark}"
        failed: Mapping[str, str] = {}
        if not self.report_only:
            console.print(benchmark.summary, highlight=False, soft_wrap=True)
            console.print(f"{_cells(len(wanted))} in {out}", highlight=False, soft_wrap=True)
            if self.jobs == 1:
                outcome = run_cells(wanted, out, console)
            else:
                outcome = run_cells_at_once(wanted, out, self.jobs, console)
            failed = outcome.failed
            if outcome.taken:
                console.print(f"left to the processes that are at work at them: {', '.join(outcome.taken)}")
        if failed and not read_results(out / "results.csv"):
            raise UserError(_told(failed))
        with results_locked(out):
            summaries = write_benchmark_report(out, ablations=benchmark.ablations)
        shown = {
            ablation.name: (variant_summaries(ablation, summaries), ablation_path(out, ablation))
            for ablation in benchmark.ablations
        } or {
            task: ([summary for summary in summaries if summary.task == task], picture_path(out, task))
            for task in dict.fromkeys(summary.task for summary in summaries)
        }
        for name, (lines, picture) in shown.items():
            if lines:
                title = f"{name}: interquartile means over seeds, and their 95 % intervals"
                console.print(summary_table(lines, title))
                console.print(f"{picture}", highlight=False, soft_wrap=True)
        console.print(f"{out / 'results.csv'}, {out / 'summary.md'}", highlight=False, soft_wrap=True)
        if failed:
            raise UserError(_told(failed))
        keys = {cell.key for cell in wanted}
        results = read_results(out / "results.csv")
        return {
            "benchmark": self.benchmark,
            "cells": [dataclasses.asdict(result) for key, result in results.items() if key in keys],
            "summary": [summary.flat() for summary in summaries],
        }


def _told(failed: Mapping[str, str]) -> str:
    return f"{_cells(len(failed))} failed. " + " ".join(f"{name}: {reason}" for name, reason in failed.items())


def _cells(number: int) -> str:
    return f"{number} cell{'s' * (number != 1)}"
