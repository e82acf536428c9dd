r"""Square gates to be flown through in order, and the exact test of whether a step did.

With the gate's centre c, the direction of passage n and t, b along its opening, the segment from p to p⁺ crosses the
gate's plane forwards where

    d = nᵀ(p - c) < 0 <= d⁺ = nᵀ(p⁺ - c),      at the share s = d / (d - d⁺) of the step,
    off = max(|tᵀ e|, |bᵀ e|),                 e = p + s (p⁺ - p) - c

    off < half opening              passed
    half opening <= off < frame     hit
    otherwise                       missed: the plane is crossed elsewhere, and the gate still has to be flown through

A gate is x, y, z [m], yaw and pitch [rad] of n, which points down at a pitch of 90°. Tracks are rows of these, angles
in degrees. "split-s" is SplitS.yaml of agile_flight (https://github.com/uzh-rpg/agile_flight), "split-s-real" its
real_track.yaml, and "split-s-cpc" has the waypoints of P. Foehn et al., "Time-optimal planning for quadrotor waypoint
flight", 2021, with the directions that TOGT gives them. In all three the fourth and the fifth gate are one above the
other and face opposite ways: the figure that gives the track its name.
"""

import math
from typing import Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Track = Literal["split-s", "split-s-real", "split-s-cpc", "circle", "horizontal", "vertical"]


def _circle(gates: int, radius: float, height: float) -> tuple[tuple[float, ...], ...]:
    turns = [math.tau * k / gates for k in range(gates)]
    return tuple((radius * math.cos(a), radius * math.sin(a), height, math.degrees(a) + 90.0, 0.0) for a in turns)


TRACKS: dict[str, tuple[tuple[float, ...], ...]] = {
    "split-s": (
        (-0.90, -1.27, 3.48, 0.0, 0.0),
        (9.09, 6.26, 1.08, 0.0, 0.0),
        (9.27, -3.46, 1.17, -144.0, 0.0),
        (-4.50, -6.14, 3.40, 180.0, 0.0),
        (-4.48, -5.94, 1.05, 0.0, 0.0),
        (4.45, -0.80, 1.09, 88.0, 0.0),
        (-2.65, 6.51, 1.30, -163.0, 0.0),
    ),
    "split-s-real": (
        (-0.60, -0.86, 3.48, -20.0, 0.0),
        (9.00, 6.45, 1.05, 0.0, 0.0),
        (8.85, -3.80, 1.05, -130.0, 0.0),
        (-4.30, -5.60, 3.30, 180.0, 0.0),
        (-4.30, -5.60, 1.25, 0.0, 0.0),
        (4.50, -0.45, 1.05, 80.0, 0.0),
        (-1.95, 6.81, 1.05, -150.0, 0.0),
    ),
    "split-s-cpc": (
        (-1.1, -1.6, 3.6, 0.0, 0.0),
        (9.2, 6.6, 1.0, -20.0, 0.0),
        (9.2, -4.0, 1.2, -130.0, 0.0),
        (-4.5, -6.0, 3.5, 180.0, 0.0),
        (-4.5, -6.0, 0.8, 0.0, 0.0),
        (4.75, -0.9, 1.2, 70.0, 0.0),
        (-2.8, 6.8, 1.2, 200.0, 0.0),
    ),
    "circle": _circle(8, 6.0, 1.5),
    "horizontal": tuple((4.0 * k, 0.0, 2.0, 0.0, 0.0) for k in range(6)),
    "vertical": tuple((0.0, 0.0, height, 0.0, 90.0) for height in (8.0, 6.0, 4.0, 2.0)),
}


class Crossing(eqx.Module):
    """What a step did with one gate."""

    passed: Bool[Array, ""]
    hit: Bool[Array, ""]
    share: Float[Array, ""]
    """Of the step until the gate's plane is met; 1 where it is not."""


class Frame(NamedTuple):
    """The axes of a gate, unit vectors in the world."""

    normal: Float[Array, " 3"]
    """The direction of passage."""
    tangent: Float[Array, " 3"]
    """Along the opening, horizontal."""
    up: Float[Array, " 3"]
    """Along the opening, the other way."""


def frame_of(gate: Float[Array, " 5"]) -> Frame:
    """The axes of a gate."""
    cos_yaw, sin_yaw, cos_pitch, sin_pitch = jnp.cos(gate[3]), jnp.sin(gate[3]), jnp.cos(gate[4]), jnp.sin(gate[4])
    return Frame(
        jnp.stack([cos_pitch * cos_yaw, cos_pitch * sin_yaw, -sin_pitch]),
        jnp.stack([-sin_yaw, cos_yaw, jnp.zeros_like(cos_yaw)]),
        jnp.stack([sin_pitch * cos_yaw, sin_pitch * sin_yaw, cos_pitch]),
    )


def corners_of(gate: Float[Array, " 5"], half_opening: Float[Array, ""]) -> Float[Array, "4 3"]:
    """The corners of the opening, going around."""
    _, tangent, up = frame_of(gate)
    return gate[None, :3] + half_opening * jnp.stack([tangent + up, up - tangent, -tangent - up, tangent - up])


def crossing(
    gate: Float[Array, " 5"],
    before: Float[Array, " 3"],
    after: Float[Array, " 3"],
    half_opening: Float[Array, ""],
    half_frame: Float[Array, ""],
) -> Crossing:
    """What the step between two positions did with a gate.

    >>> gate = jnp.array([1.0, 0.0, 2.0, 0.0, 0.0])
    >>> step = crossing(gate, jnp.array([0.5, 0.0, 2.5]), jnp.array([1.5, 0.0, 2.5]), jnp.array(0.6), jnp.array(1.2))
    >>> bool(step.passed), bool(step.hit), float(step.share)
    (True, False, 0.5)
    """
    centre, (normal, tangent, up) = gate[:3], frame_of(gate)
    start, end = normal @ (before - centre), normal @ (after - centre)
    crossed = (start < 0) & (end >= 0)
    share = jnp.where(crossed, start / jnp.where(crossed, start - end, 1.0), 1.0)
    error = before + share * (after - before) - centre
    off = jnp.maximum(jnp.abs(tangent @ error), jnp.abs(up @ error))
    return Crossing(crossed & (off < half_opening), crossed & (off >= half_opening) & (off < half_frame), share)
