"""How policies fly in worlds that they have not been trained for: success over wind, mass, rates, inertia, starts.

    policies     the best checkpoints of the runs of `bench racing`, and planners that follow a lap
    worlds       the realistic quadrotor, changed in one respect at a time, see `CONDITIONS`
    simulator    whose dynamics fly, planahead's unless told
    flights      deterministic episodes, from the same starts for all policies and simulators

The undisturbed world is part of every sweep and is flown once. A pair of policy and world is finished where its
`episodes/POLICY--WORLD.csv` is there (`POLICY--WORLD-SIMULATOR.csv` in a simulator by other people), so an interrupted
benchmark goes on. All else is made anew from these files and the table of `bench racing`.
"""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from rich.console import Console

from planahead.experiments.bench.outcomes import episodes_path, read_episodes, write_episodes
from planahead.experiments.bench.robustness_pilots import Pilot
from planahead.experiments.bench.robustness_simulators import OWN, Simulator
from planahead.experiments.episodes import run_episodes
from planahead.experiments.errors import UserError
from planahead.experiments.evaluation import Evaluation
from planahead.experiments.experiment import Stream, stream_key
from planahead.experiments.files import make_folder, write_text
from planahead.experiments.statistics import Interval, wilson_interval
from planahead.tasks import Task
from planahead.tasks.environment import with_constants
from planahead.tasks.flight.quadrotor import INERTIA, LIFT, MASS
from planahead.tasks.flight.race import START_SPREAD


@dataclasses.dataclass(frozen=True)
class Condition:
    """A world: one constant of the realistic race at one value."""

    sweep: str
    """What is changed, with its unit: the axis of a panel."""
    value: float
    """How much, as the axis says it."""
    constants: dict[str, Any]
    """What is not as it was; nothing in the undisturbed world."""

    @property
    def world(self) -> str:
        """What conditions of the same world share."""
        return f"{self.sweep.partition(' [')[0].replace(' ', '-')}={self.value:g}" if self.constants else "undisturbed"


def sweep_of(
    sweep: str, undisturbed: float, values: Sequence[float], constants: Callable[[float], dict[str, Any]]
) -> Iterator[Condition]:
    """The undisturbed world and the others, by their values."""
    for value in sorted((undisturbed, *values)):
        yield Condition(sweep, value, {} if value == undisturbed else constants(value))


def _times(inertia: float) -> tuple[float, ...]:
    return inertia * INERTIA[0], inertia * INERTIA[1], INERTIA[2]


CONDITIONS: tuple[Condition, ...] = (
    *sweep_of("start [± m]", START_SPREAD, (1.0, 1.5), lambda spread: {"start_spread": spread}),
    *sweep_of("side wind [N]", 0.0, (1.0, 2.0, 3.0, 4.0), lambda force: {"wind_force": (0.0, force, 0.0)}),
    *sweep_of("gusts [N]", 0.0, (1.0, 2.0, 3.0, 4.0), lambda force: {"gust_force": (0.0, force, 0.0)}),
    *sweep_of("mass [share]", 1.0, (0.7, 0.85, 1.15, 1.3), lambda share: {"mass": share * MASS}),
    *sweep_of("body rates [share]", 1.0, (0.5, 0.75, 1.25, 1.5), lambda share: {"rate_scale": share}),
    *sweep_of("inertia about x and y [share]", 1.0, (0.5, 0.75, 1.5, 2.0), lambda share: {"inertia": _times(share)}),
    *sweep_of("lift [share]", 0.0, (0.25, 0.5, 1.0), lambda share: {"lift": share * LIFT}),
)
"""Side wind is constant, gusts swing as a sine of one second; both everywhere, along y. 1 N moves the quadrotor as
1.3 m/s² do. Lift, of the published size where the share is 1, is what all models lack."""


def worlds_of(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    """One condition of each world."""
    return tuple({condition.world: condition for condition in conditions}.values())


WORLDS: tuple[Condition, ...] = worlds_of(CONDITIONS)


def world_of(task: Task, condition: Condition) -> Task:
    """`task` under a condition; what its planner believes stays as it is."""
    environment = with_constants(task.environment, **condition.constants)
    return eqx.tree_at(lambda task: task.environment, task, environment)


def fly(
    pilots: Sequence[Pilot],
    out: pathlib.Path,
    episodes: int,
    console: Console,
    simulator: Simulator = OWN,
    conditions: Sequence[Condition] = CONDITIONS,
) -> None:
    """All flights that are not there yet."""
    key = stream_key(0, Stream.EVALUATION)
    make_folder(out / "episodes")
    for pilot in pilots:
        missing = [c for c in worlds_of(conditions) if _flights(pilot, c, out, simulator, episodes) is None]
        if not missing:
            continue
        policy, task = pilot.load(), pilot.task()
        for condition in missing:
            found = Evaluation.of(run_episodes(world_of(task, condition), policy, key, episodes, run=simulator.run))
            write_episodes(_path(pilot, condition, out, simulator), found)
            console.print(
                f"{pilot.name}, {condition.world}: {int(found.success.sum())} of {found.episodes} succeed",
                highlight=False,
            )


def _path(pilot: Pilot, condition: Condition, out: pathlib.Path, simulator: Simulator) -> pathlib.Path:
    return episodes_path(out, f"{pilot.name}--{condition.world}{simulator.suffix}")


def _flights(
    pilot: Pilot, condition: Condition, out: pathlib.Path, simulator: Simulator, episodes: int | None = None
) -> Mapping[str, Any] | None:
    """What is there of a pilot in a world; `UserError` where it is another number of `episodes`."""
    path = _path(pilot, condition, out, simulator)
    if not path.exists():
        return None
    found = read_episodes(path)
    if episodes is not None and len(found["success"]) != episodes:
        raise UserError(
            f"«{path}» has {len(found['success'])} flights, and --episodes is {episodes}; choose another --out, or as "
            "many as are there."
        )
    return found


@dataclasses.dataclass(frozen=True)
class Flights:
    """What a group of pilots did under one condition."""

    group: str
    condition: Condition
    flights: int
    """Of each pilot."""
    shares: tuple[float, ...]
    """Of a pilot's flights that succeeded, pilot by pilot."""
    laps: tuple[float, ...]
    """Means over the successful flights of every pilot that has some, s; none where laps are not flown."""
    returns: tuple[float, ...] = ()
    """Means over all flights, pilot by pilot, where laps are not flown."""

    @property
    def share(self) -> float:
        """The mean of the pilots'."""
        return float(np.mean(self.shares))

    @property
    def interval(self) -> Interval:
        """From the worst pilot to the best; of a single one its 95 % Wilson interval."""
        if len(self.shares) == 1:
            return wilson_interval(round(self.share * self.flights), self.flights)
        return Interval(min(self.shares), max(self.shares))

    def flat(self) -> dict[str, Any]:
        """As `robustness.csv` has it."""
        return {
            "group": self.group, "sweep": self.condition.sweep, "value": self.condition.value,
            "pilots": len(self.shares), "flights_each": self.flights, "success": f"{self.share:.6g}",
            "success_low": f"{self.interval.low:.6g}", "success_high": f"{self.interval.high:.6g}",
            "lap": f"{np.mean(self.laps):.4f}" if self.laps else "", "lap_pilots": len(self.laps),
            "return": f"{np.mean(self.returns):.6g}" if self.returns else "",
        }  # fmt: skip

    def cell(self) -> str:
        """As `robustness.md` has it."""
        some = "" if len(self.laps) == len(self.shares) else f" ({len(self.laps)} of {len(self.shares)})"
        lap = f", {np.mean(self.laps):.2f} s{some}" if self.laps else ""
        lap += f", {np.mean(self.returns):.1f}" if self.returns else ""
        return f"{100 * self.share:.0f} [{100 * self.interval.low:.0f}, {100 * self.interval.high:.0f}]{lap}"


def collect(
    pilots: Sequence[Pilot],
    out: pathlib.Path,
    simulator: Simulator = OWN,
    conditions: Sequence[Condition] = CONDITIONS,
) -> list[Flights]:
    """What is there, condition by condition; groups in the order of their pilots."""
    rows: list[Flights] = []
    for condition in conditions:
        for group in dict.fromkeys(pilot.group for pilot in pilots):
            found = [_flights(pilot, condition, out, simulator) for pilot in pilots if pilot.group == group]
            tables = [table for table in found if table is not None]
            if tables:
                timed = [table for table in tables if "lap [s]" in table]
                laps = [table["lap [s]"][(table["success"] > 0) & np.isfinite(table["lap [s]"])] for table in timed]
                rows.append(
                    Flights(
                        group,
                        condition,
                        len(tables[0]["success"]),
                        tuple(float(np.mean(table["success"] > 0)) for table in tables),
                        tuple(float(lap.mean()) for lap in laps if len(lap)),
                        () if timed else tuple(float(table["return"].mean()) for table in tables),
                    )
                )
    return rows


def write_robustness(rows: Sequence[Flights], out: pathlib.Path, simulator: Simulator = OWN) -> pathlib.Path:
    """`robustness.csv` and `robustness.md`, with the simulator in their names where it is not planahead; the latter's
    path."""
    path = out / f"robustness{simulator.suffix}.md"
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0].flat()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.flat() for row in rows)
    write_text(path.with_suffix(".csv"), text.getvalue())
    groups = list(dict.fromkeys(row.group for row in rows))
    cells = {(row.group, row.condition.sweep, row.condition.value): row for row in rows}
    lines = [["world", *groups], ["---"] * (1 + len(groups))]
    for sweep, value in dict.fromkeys((row.condition.sweep, row.condition.value) for row in rows):
        found = [cells.get((group, sweep, value)) for group in groups]
        shown = ["–" if row is None else row.cell() for row in found]
        lines.append([f"{sweep}: {value:g}", *shown])
    head = (
        "Share of episodes that succeed [%]: the mean over seeds, in brackets the worst and the best seed, or the 95 % "
        "Wilson interval of a policy that has no seeds; and "
        + (
            "the mean return of all episodes."
            if any(row.returns for row in rows)
            else "the mean lap of the flights that do, with how many of the seeds have some, unless all."
        )
    )
    parts = [head, "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    write_text(path, "\n\n".join([simulator.note, *parts] if simulator.note else parts) + "\n")
    return path
