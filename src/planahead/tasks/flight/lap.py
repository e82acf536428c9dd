"""A lap of a track as a trajectory to follow: from the first gate through all others back to it.

The laps in `laps/` are time-optimal with the share of the largest thrust in their names, for the nominal quadrotor or
with drag and lags. `planahead bench time-optimal` makes them:

    split-s-100
    split-s-90         --thrust 0.9 --opening 0.5
    split-s-lags-85    --thrust 0.85 --opening 0.5 --lags --rates 0.8 --clearance 0.5 --rate-price 0.001
"""

import csv
import importlib.resources
import io
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from planahead.problem.rotation import normalised

COLUMNS = (
    *("time [s]", "x [m]", "y [m]", "z [m]", "qw [1]", "qx [1]", "qy [1]", "qz [1]"),
    *("vx [m/s]", "vy [m/s]", "vz [m/s]", "thrust [N]", "roll rate [rad/s]", "pitch rate [rad/s]", "yaw rate [rad/s]"),
)
"""Of a lap's CSV; the last row repeats the commands of the one before it."""


class Sample(NamedTuple):
    """A lap at some moments."""

    states: Float[Array, "moments 10"]
    """Position, attitude, velocity."""
    commands: Float[Array, "moments 4"]


class Lap(eqx.Module):
    """A closed trajectory whose segments, from gate to gate, have equally many nodes."""

    times: Float[Array, " nodes"]
    """s, from 0 to the lap's duration."""
    states: Float[Array, "nodes 10"]
    """Position, attitude, velocity; the last node is the first, up to the sign of the quaternion."""
    commands: Float[Array, "steps 4"]
    """Collective thrust [N] and body rates [rad/s], held from node to node."""
    gates: int = eqx.field(static=True)
    """How many there are."""

    @classmethod
    def load(cls, name: str, gates: int) -> "Lap":
        """The lap in `laps/NAME.csv`. **Raises** `ValueError` for an unknown name, and as `parse` does."""
        folder = importlib.resources.files("planahead.tasks.flight").joinpath("laps")
        known = sorted(file.name.removesuffix(".csv") for file in folder.iterdir() if file.name.endswith(".csv"))
        if name not in known:
            raise ValueError(f"there is no lap '{name}'; the known ones are: {', '.join(known)}.")
        return cls.parse(folder.joinpath(f"{name}.csv").read_text(), gates)

    @classmethod
    def parse(cls, text: str, gates: int) -> "Lap":
        """A lap from its `text`, as `planahead bench time-optimal` writes it. **Raises** `ValueError` where it does not
        have equally many steps from gate to gate."""
        rows = np.array([[float(cell) for cell in row] for row in list(csv.reader(io.StringIO(text)))[1:]])
        if (len(rows) - 1) % gates != 0:
            raise ValueError(f"the lap has {len(rows) - 1} steps, which {gates} gates do not divide.")
        times, states, commands = map(jnp.asarray, (rows[:, 0], rows[:, 1:11], rows[:-1, 11:]))
        return cls(times, states, commands, gates)

    def text(self) -> str:
        """As CSV, which `parse` reads."""
        commands = np.concatenate([self.commands, self.commands[-1:]])
        rows = np.concatenate([np.asarray(self.times)[:, None], np.asarray(self.states), commands], axis=1)
        lines = [",".join(COLUMNS), *(",".join(f"{value:.7g}" for value in row) for row in rows.tolist())]
        return "\n".join(lines) + "\n"

    @property
    def segment_steps(self) -> int:
        """From gate to gate."""
        return (len(self.times) - 1) // self.gates

    @property
    def duration(self) -> Float[Array, ""]:
        """s"""
        return self.times[-1]

    @property
    def peak_speed(self) -> Float[Array, ""]:
        """m/s"""
        return jnp.linalg.norm(self.states[:, 7:], axis=1).max()

    def at(self, moments: Float[Array, " moments"]) -> Sample:
        """Between nodes by straight lines; times beyond the lap begin the next one."""
        moments = moments % self.duration
        after = jnp.clip(jnp.searchsorted(self.times, moments, side="right"), 1, len(self.times) - 1)
        before = after - 1
        share = (moments - self.times[before]) / (self.times[after] - self.times[before])
        states = self.states[before] + share[:, None] * (self.states[after] - self.states[before])
        norms = jnp.sqrt(jnp.sum(states[:, 3:7] ** 2, axis=1, keepdims=True))
        # Of the two quaternions of an attitude, those of all moments are near to one another.
        turns = jnp.sum(states[1:, 3:7] * states[:-1, 3:7], axis=1) < 0
        signs = jnp.cumprod(jnp.where(jnp.append(False, turns), -1.0, 1.0))[:, None]
        states = jnp.concatenate([states[:, :3], signs * states[:, 3:7] / norms, states[:, 7:]], axis=1)
        return Sample(states, self.commands[before])

    def nearest(self, position: Float[Array, " 3"], gate: Int[Array, ""]) -> Float[Array, ""]:
        """The time [s] at which the lap is nearest to `position` on its way to the gate `gate`."""
        segment = (gate - 1) % self.gates
        nodes = segment * self.segment_steps + jnp.arange(self.segment_steps)
        start, way = self.states[nodes, :3], self.states[nodes + 1, :3] - self.states[nodes, :3]
        share = jnp.clip(jnp.sum((position[None] - start) * way, axis=1) / jnp.sum(way * way, axis=1), 0.0, 1.0)
        distance = jnp.sum((start + share[:, None] * way - position[None]) ** 2, axis=1)
        best = jnp.argmin(distance)
        node = nodes[best]
        return self.times[node] + share[best] * (self.times[node + 1] - self.times[node])


class Whereabouts(eqx.Module):
    """A quadrotor on a track, as its observation tells it."""

    state: Float[Array, " 10"]
    """Position in the world, attitude with w >= 0, velocity."""
    gate: Int[Array, ""]
    """The next one."""


def whereabouts(
    corners: Float[Array, "gates 4 3"], observation: Float[Array, " 36"], attitude: Float[Array, " 4"]
) -> Whereabouts:
    """Where on the track with these corners, in the world, an observation of `Race` was made.

    It has the next gate's corners from the quadrotor and how those after it lie from them, which no two gates share.
    """
    seen = observation[12:36].reshape(2, 4, 3)
    differences = jnp.roll(corners, -1, axis=0) - corners
    gate = jnp.argmin(jnp.sum((differences - seen[None, 1]) ** 2, axis=(1, 2)))
    position = jnp.mean(corners[gate] - seen[0], axis=0)
    return Whereabouts(jnp.concatenate([position, normalised(attitude), observation[:3]]), gate)
