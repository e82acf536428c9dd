"""The benchmarks that have a command of their own, since they train no cells of tasks x algorithms x seeds alone."""

from planahead.experiments.commands.bench_actor import ACTOR_BENCHMARKS
from planahead.experiments.commands.bench_flight import FLIGHT_BENCHMARKS
from planahead.experiments.commands.bench_guides import GUIDE_BENCHMARKS
from planahead.experiments.commands.bench_outside import OUTSIDE_BENCHMARKS
from planahead.experiments.commands.bench_parts import PARTS_BENCHMARKS
from planahead.experiments.commands.bench_safety import SAFETY_BENCHMARKS
from planahead.experiments.commands.bench_solver import SOLVER_BENCHMARKS
from planahead.experiments.commands.command import Command

OWN_BENCHMARKS: dict[str, type[Command]] = {
    command.name: command
    for command in (
        *SOLVER_BENCHMARKS,
        *FLIGHT_BENCHMARKS,
        *SAFETY_BENCHMARKS,
        *ACTOR_BENCHMARKS,
        *GUIDE_BENCHMARKS,
        *PARTS_BENCHMARKS,
        *OUTSIDE_BENCHMARKS,
    )
}
"""By what is typed, `bench table1`."""
