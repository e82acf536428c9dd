"""One flight of every cell whose plant flies: where the policy that validated best went, until its task first counted
as solved.

    flights/CELL.csv     positions and velocities, a row per step
    flight-TASK.png      those of the first seed of every algorithm, coloured by speed
"""

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from planahead.experiments.bench.definition import World
from planahead.experiments.bench.results import Result
from planahead.experiments.errors import UserError
from planahead.experiments.experiment import make_known_task
from planahead.experiments.files import make_folder, write_text
from planahead.experiments.flight_figure import flight_figure

COLUMNS = (*(f"{axis} [m]" for axis in "xyz"), *(f"v{axis} [m/s]" for axis in "xyz"))
_DIGITS = 4


def flight_path(out: pathlib.Path, name: str) -> pathlib.Path:
    """Of the cell called `name`."""
    return out / "flights" / f"{name}.csv"


def write_flight(path: pathlib.Path, flight: np.ndarray) -> None:
    """A row per moment."""
    make_folder(path.parent)
    rows = (",".join(f"{value:.{_DIGITS}g}" for value in row) for row in flight.tolist())
    write_text(path, "\n".join([",".join(COLUMNS), *rows]) + "\n")


def read_flight(path: pathlib.Path) -> np.ndarray:
    """[moments, 6]. Raises `UserError` where it is no flight."""
    head, *rows = path.read_text().splitlines() or [""]
    try:
        flight = np.array([[float(cell) for cell in row.split(",")] for row in rows])
    except ValueError as error:
        raise UserError(f"«{path}» is damaged: {error}; numbers were expected. Move it away.") from error
    if head != ",".join(COLUMNS) or flight.ndim != 2 or flight.shape[1] != len(COLUMNS) or len(flight) < 2:
        raise UserError(f"«{path}» is damaged: two rows of {', '.join(COLUMNS)} at least were expected. Move it away.")
    return flight


def task_flights(out: pathlib.Path, task: str, results: Sequence[Result]) -> Figure | None:
    """The flights on a task; `None` where there are none."""
    flights: dict[str, np.ndarray] = {}
    for result in results:
        path = flight_path(out, result.name)
        if result.task == task and path.exists() and not any(t.startswith(f"{result.label},") for t in flights):
            flights[f"{result.label}, seed {result.seed}"] = read_flight(path)
    if not flights:
        return None
    world = World.parse(task)
    environment = make_known_task(world.task, "--tasks", **world.arguments).environment
    return flight_figure(environment, flights)
