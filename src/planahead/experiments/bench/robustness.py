"""How policies fly in worlds that they have not been trained for: success over wind, mass, rates, inertia, starts.

    policies     the best checkpoints of the runs of `bench racing`, and planners that follow a lap
    worlds       the realistic quadrotor, changed in one respect at a time, see `CONDITIONS`
    flights      deterministic episodes, from the same starts for all policies

A pair of policy and world is finished where its `episodes/POLICY--WORLD.csv` is there, so an interrupted benchmark goes
on. All else is made anew from these files.
"""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from rich.console import Console

from planahead.experiments.bench.outcomes import episodes_path, read_episodes, write_episodes
from planahead.experiments.bench.robustness_pilots import Pilot
from planahead.experiments.episodes import run_episodes
from planahead.experiments.evaluation import Evaluation
from planahead.experiments.experiment import Stream, stream_key
from planahead.experiments.files import make_folder, write_text
from planahead.experiments.statistics import wilson_interval
from planahead.tasks import RaceTask, Task, make_task
from planahead.tasks.environment import with_constants
from planahead.tasks.flight.quadrotor import INERTIA, MASS


@dataclasses.dataclass(frozen=True)
class Condition:
    """A world: one constant of the realistic race at one value."""

    sweep: str
    """What is changed, with its unit: the axis of a panel."""
    value: float
    """How much, as the axis says it."""
    constants: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.sweep.partition(' [')[0].replace(' ', '-')}={self.value:g}"


def _sweep(sweep: str, values: Sequence[float], constants: Callable[[float], dict[str, Any]]) -> Iterator[Condition]:
    return (Condition(sweep, value, constants(value)) for value in values)


def _times(inertia: float) -> tuple[float, ...]:
    return inertia * INERTIA[0], inertia * INERTIA[1], INERTIA[2]


CONDITIONS: tuple[Condition, ...] = (
    *_sweep("start [± m]", (0.5, 1.0, 1.5), lambda spread: {"start_spread": spread}),
    *_sweep("side wind [N]", (1.0, 2.0, 3.0, 4.0), lambda force: {"wind_force": (0.0, force, 0.0)}),
    *_sweep("gusts [N]", (1.0, 2.0, 3.0, 4.0), lambda force: {"gust_force": (0.0, force, 0.0)}),
    *_sweep("mass [share]", (0.7, 0.85, 1.0, 1.15, 1.3), lambda share: {"mass": share * MASS}),
    *_sweep("body rates [share]", (0.5, 0.75, 1.0, 1.25, 1.5), lambda share: {"rate_scale": share}),
    *_sweep("inertia about x and y [share]", (0.5, 0.75, 1.0, 1.5, 2.0), lambda share: {"inertia": _times(share)}),
)
"""Side wind is constant, gusts swing as a sine of one second; both everywhere, along y. 1 N moves the quadrotor as
1.3 m/s² do."""


def world_of(task: Task, condition: Condition) -> Task:
    """`task` under a condition; what its planner believes stays as it is."""
    environment = with_constants(task.environment, **condition.constants)
    return eqx.tree_at(lambda task: task.environment, task, environment)


def fly(pilots: Sequence[Pilot], out: pathlib.Path, episodes: int, console: Console) -> None:
    """All flights that are not there yet."""
    task = make_task("race-split-s", plant="realistic")
    assert isinstance(task, RaceTask)
    key = stream_key(0, Stream.EVALUATION)
    make_folder(out / "episodes")
    for pilot in pilots:
        missing = [c for c in CONDITIONS if not episodes_path(out, f"{pilot.name}--{c.name}").exists()]
        if not missing:
            continue
        policy = pilot.load()
        for condition in missing:
            found = Evaluation.of(run_episodes(world_of(task, condition), policy, key, episodes))
            write_episodes(episodes_path(out, f"{pilot.name}--{condition.name}"), found)
            console.print(
                f"{pilot.name}, {condition.name}: {int(found.success.sum())} of {found.episodes} succeed",
                highlight=False,
            )


@dataclasses.dataclass(frozen=True)
class Flights:
    """What a group of pilots did under one condition."""

    group: str
    condition: Condition
    pilots: int
    flights: int
    successes: int
    lap: float
    """Mean of the successful flights, s; NaN where there are none."""

    def flat(self) -> dict[str, Any]:
        interval = wilson_interval(self.successes, self.flights)
        return {
            "group": self.group, "sweep": self.condition.sweep, "value": self.condition.value, "pilots": self.pilots,
            "flights": self.flights, "success": self.successes / self.flights, "success_low": interval.low,
            "success_high": interval.high, "lap": "" if np.isnan(self.lap) else f"{self.lap:.4f}",
        }  # fmt: skip


def collect(pilots: Sequence[Pilot], out: pathlib.Path) -> list[Flights]:
    """What is there, condition by condition; groups in the order of their pilots."""
    rows: list[Flights] = []
    for condition in CONDITIONS:
        for group in dict.fromkeys(pilot.group for pilot in pilots):
            paths = [episodes_path(out, f"{p.name}--{condition.name}") for p in pilots if p.group == group]
            tables = [read_episodes(path) for path in paths if path.exists()]
            if tables:
                success = np.concatenate([table["success"] for table in tables]) > 0
                laps = np.concatenate([table["lap [s]"] for table in tables])[success]
                lap = float(np.nanmean(laps)) if np.isfinite(laps).any() else float("nan")
                rows.append(Flights(group, condition, len(tables), len(success), int(success.sum()), lap))
    return rows


def write_robustness(rows: Sequence[Flights], out: pathlib.Path) -> None:
    """`robustness.csv` and `robustness.md`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0].flat()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.flat() for row in rows)
    write_text(out / "robustness.csv", text.getvalue())
    groups = list(dict.fromkeys(row.group for row in rows))
    cells = {(row.group, row.condition.name): row for row in rows}
    lines = [["world", *groups], ["---"] * (1 + len(groups))]
    for condition in CONDITIONS:
        shown = [_shown(cells.get((group, condition.name))) for group in groups]
        lines.append([f"{condition.sweep.partition(' [')[0]} {condition.value:g}", *shown])
    head = (
        "Share of flights that succeed [%], its 95 % Wilson interval over all flights of all seeds, and the mean lap "
        "of those that do."
    )
    write_text(
        out / "robustness.md", "\n\n".join([head, "\n".join(f"| {' | '.join(line)} |" for line in lines)]) + "\n"
    )


def _shown(row: Flights | None) -> str:
    if row is None:
        return "–"
    interval = wilson_interval(row.successes, row.flights)
    lap = "" if np.isnan(row.lap) else f", {row.lap:.2f} s"
    share = 100 * row.successes / row.flights
    return f"{share:.0f} [{100 * interval.low:.0f}, {100 * interval.high:.0f}]{lap}"
