"""In whose dynamics the benchmark of robustness flies: planahead's own, or a simulator's by other people."""

import dataclasses
import functools
import importlib.util

from planahead.experiments.episodes import RunBatch, run_batch
from planahead.experiments.errors import UserError, known_names
from planahead.experiments.outside_episodes import run_batch_outside
from planahead.tasks.flight.rotorpy_vehicle import MISSING, RotorPyVehicle


@dataclasses.dataclass(frozen=True)
class Simulator:
    """What flies."""

    suffix: str
    """Of the files' names, so that flights in several simulators can share a folder."""
    note: str
    """What the table says of it."""
    run: RunBatch
    package: str | None = None
    """That has to be installed."""
    missing: str = ""
    """What is to be said where it is not."""

    def require(self) -> None:
        """`UserError` where the package is not installed."""
        if self.package is not None and importlib.util.find_spec(self.package) is None:
            raise UserError(self.missing)


OWN = Simulator(suffix="", note="", run=run_batch)
SIMULATORS = {
    "planahead": OWN,
    "rotorpy": Simulator(
        suffix="-rotorpy",
        note=(
            "Flown in RotorPy, without retuning: the same quadrotor and gates, other dynamics. Its wind is air that "
            "moves as fast as pushes a hovering quadrotor with so many newtons."
        ),
        run=functools.partial(run_batch_outside, RotorPyVehicle),
        package="rotorpy",
        missing=MISSING,
    ),
}


def known_simulator(name: str) -> Simulator:
    """`UserError` for an unknown name."""
    if name not in SIMULATORS:
        raise UserError(f"--simulator got «{name}»; the known ones are {known_names(tuple(SIMULATORS))}.")
    return SIMULATORS[name]
