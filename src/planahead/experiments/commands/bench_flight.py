"""`planahead bench time-optimal` and `robustness`."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command, Folder

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class BenchTimeOptimal(Command):
    """Compute a time-optimal lap of a race track for the nominal quadrotor, or one with drag and lags; one that can be
    flown again and again, by optimal control (IPOPT through CasADi, in the extra `bench`); and write it as CSV: what
    racing policies are to come near, and what planners track.
    """

    track: str = "split-s"
    """A track that is a loop; `planahead list` names the race tasks."""
    thrust: float = 1.0
    """Share of the largest thrust that may be used."""
    rates: float = 1.0
    """Share of the largest body rates that may be used."""
    opening: float = 1.0
    """Share of the gates' openings that may be used."""
    clearance: float = 0.0
    """From the ground, in metres, beyond the 0.1 m where the arena ends."""
    lags: bool = False
    """Fly with drag, and with the lags of rotors and rate loop, as planners for the realistic quadrotor believe it."""
    rate_price: float = 0.0
    """Seconds that body rates cost, per their square's integral: a gentle lap instead of the fastest one."""
    out: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The CSV; time-optimal-TRACK.csv unless given, or time-optimal-TRACK-2.csv where that is."""

    name: ClassVar[str] = "bench time-optimal"
    examples: ClassVar[tuple[str, ...]] = ("", "--thrust 0.8 --opening 0.5 --out laps/split-s-80.csv", "--lags")

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.benchmarks.time_optimal import known_tracks, time_optimal_lap
        from planahead.experiments.errors import UserError, known_names
        from planahead.experiments.files import require_writable, unused, write_text

        if self.track not in known_tracks():
            raise UserError(f"--track got «{self.track}»; tracks that are loops are {known_names(known_tracks())}.")
        for option in ("thrust", "rates", "opening"):
            if not 0 < getattr(self, option) <= 1:
                raise UserError(f"--{option} got {getattr(self, option)}; a share above 0 and at most 1 was expected.")
        for option in ("clearance", "rate_price"):
            if not 0 <= getattr(self, option) < math.inf:
                name = option.replace("_", "-")
                raise UserError(f"--{name} got {getattr(self, option)}; a number of 0 or more was expected.")
        out = self.out or unused(pathlib.Path(f"time-optimal-{self.track}.csv"))
        require_writable(out, "--out")
        try:
            found = time_optimal_lap(
                self.track,
                thrust=self.thrust,
                rates=self.rates,
                opening=self.opening,
                clearance=self.clearance,
                lags=self.lags,
                rate_price=self.rate_price,
            )
        except ImportError as error:
            raise UserError(
                "CasADi is needed, and is not installed: pip install casadi, or the extra `bench`."
            ) from error
        lap = found.lap
        if not found.solved:
            raise UserError(f"IPOPT did not converge; it had reached {float(lap.duration):.4f} s. Nothing is written.")
        write_text(out, lap.text())
        console.print(
            f"{self.track}: {float(lap.duration):.4f} s, at most {float(lap.peak_speed):.2f} m/s, "
            f"{len(lap.commands)} steps of {1e3 * float(lap.duration) / len(lap.commands):.1f} ms on average",
            highlight=False,
        )
        console.print(str(out), highlight=False, soft_wrap=True)
        return {"track": self.track, "seconds": float(lap.duration), "peak_speed": float(lap.peak_speed)}


@dataclasses.dataclass(frozen=True)
class BenchRobustness(Command):
    """Fly the policies that `planahead bench racing` trained, and planners that follow a lap, in worlds with wind,
    other masses, rates, inertias and starts; write every flight, a table with intervals and a figure. Run again after
    an interruption, it goes on.
    """

    racing: Folder = pathlib.Path("runs/bench-racing")
    """Where `bench racing` put its runs."""
    task: str = "race-split-s+plant=realistic"
    """Which of its tasks they were trained on."""
    baselines: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = ("tracking", "contouring", "l1")
    """Planners that fly beside them: `tracking`, `contouring`, `l1`, or none."""
    episodes: int = 100
    """Flights per policy and world."""
    simulator: Annotated[str, tyro.conf.arg(metavar="NAME")] = "planahead"
    """Whose dynamics fly: `planahead`, or `rotorpy`, which was written elsewhere, for transfer without retuning (the
    extra `rotorpy`; some ten flights a minute)."""
    out: Folder = pathlib.Path("runs/bench-robustness")
    """Where flights, table and figure go; those of several simulators may share it."""
    report_only: bool = False
    """Make table and figure anew from the flights that are there."""

    name: ClassVar[str] = "bench robustness"
    examples: ClassVar[tuple[str, ...]] = (
        "--racing benchmarks/racing --out benchmarks/robustness",
        "--episodes 20",
        "--simulator rotorpy --episodes 25 --racing benchmarks/racing --out benchmarks/robustness",
    )

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.bench.robustness import collect, fly, write_robustness
        from planahead.experiments.bench.robustness_figure import robustness_figure
        from planahead.experiments.bench.robustness_pilots import baselines, pilots_of_runs
        from planahead.experiments.bench.robustness_simulators import known_simulator
        from planahead.experiments.errors import UserError, at_least
        from planahead.experiments.figures import save

        at_least("--episodes", self.episodes, 1)
        simulator = known_simulator(self.simulator)
        if not self.report_only:
            simulator.require()
        pilots = [*pilots_of_runs(self.racing, self.task), *baselines(self.baselines)]
        if not self.report_only:
            fly(pilots, self.out, self.episodes, console, simulator)
        rows = collect(pilots, self.out, simulator)
        if not rows:
            raise UserError(f"«{self.out}» holds no flights; run it without --report-only.")
        written = write_robustness(rows, self.out, simulator)
        save(robustness_figure(rows), written.with_suffix(".png"))
        console.print(f"{written}, {written.with_suffix('.png')}", highlight=False, soft_wrap=True)
        return {"rows": [row.flat() for row in rows]}


FLIGHT_BENCHMARKS: tuple[type[Command], ...] = (BenchTimeOptimal, BenchRobustness)
"""Benchmarks of racing that train nothing."""
