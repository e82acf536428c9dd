r"""A time-optimal lap: a quadrotor through all gates of a track, again and again, by optimal control with IPOPT through
CasADi.

    minimise  Σ_s T_s + λ ∫ |ω_c|² dt     over the durations T_s of the segments between gates, states and commands
    subject to             x_{k+1} = fly(x_k, u_k, T_s / n)     n steps in a segment
                           0 <= F <= F_max,  |ω_c| <= ω_max
                           the end of segment s lies in the plane of gate s, within its opening, going its way
                           z >= 0.1 m + clearance
                           a lap that can be flown again and again: v, R and place at its end as at its start

The quadrotor is the nominal one, whose step is that of the race, or with `lags` that of `Believed`: the realistic one
could not follow a lap without drag whose body rates jump. With λ = 0 the yaw is arbitrary.

A local optimum of laps that repeat, so no proof of the limit; guesses that differ have led to the same one. A single
lap that need not end as it began can be a little faster.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np

from planahead.tasks.flight.believed import Believed
from planahead.tasks.flight.gates import Track, frame_of
from planahead.tasks.flight.lap import Lap
from planahead.tasks.flight.quadrotor import COMMAND_HIGH, COMMAND_LOW, GRAVITY, MASS
from planahead.tasks.flight.race import Race

if TYPE_CHECKING:
    import casadi

STEPS = 36
"""Of a segment: 20 ms each, about, as in the race."""
CRUISE = 12.0  # m/s, of the guess


class Optimised(NamedTuple):
    """What the optimisation led to."""

    lap: Lap
    solved: bool
    """Whether it met its tolerance."""


def time_optimal_lap(
    track: Track,
    *,
    thrust: float = 1.0,
    rates: float = 1.0,
    opening: float = 1.0,
    clearance: float = 0.0,
    lags: bool = False,
    rate_price: float = 0.0,
    steps: int = STEPS,
    cruise: float = CRUISE,
) -> Optimised:
    """Compute a lap.

    **Arguments:**

    - `thrust`: share of the largest thrust that may be used: what follows the lap needs some to spare.
    - `rates`, `opening`: shares of the largest body rates and of a gate's opening, likewise.
    - `clearance`: from the ground where the arena ends, m.
    - `lags`: whether drag, rotors and rate loop are those of `Believed(lags=True)`.
    - `rate_price`: λ, s per rad²/s.
    - `steps`: of a segment.
    - `cruise`: speed of the guess along the lines between gates, m/s.

    **Raises:** `ImportError` without CasADi, which the extra `bench` brings.
    """
    import casadi as ca

    race = Race.on(track)
    gates = np.asarray(race.gates)
    frames = [tuple(map(np.asarray, frame_of(jnp.asarray(gate)))) for gate in gates]
    half = opening * float(0.5 * race.opening - race.clearance)
    count, segments = len(gates), range(len(gates))

    problem = ca.Opti()
    durations = problem.variable(count)
    step = _lagged_step(ca) if lags else _step(ca)
    x, u = problem.variable(step.size1_in(0), count * steps + 1), problem.variable(4, count * steps)
    spans = ca.vec(ca.repmat(durations.T / steps, steps, 1))
    problem.minimize(ca.sum1(durations) + rate_price * ca.sum1(u[1:, :] ** 2) @ spans)
    for segment in segments:
        span = slice(segment * steps, (segment + 1) * steps)
        h = durations[segment] / steps
        after = step.map(steps)(x[:, span], u[:, span], ca.repmat(h, 1, steps))
        problem.subject_to(x[:, segment * steps + 1 : (segment + 1) * steps + 1] == after)
        # Segment 0 starts in gate 0 and ends in gate 1.
        normal, tangent, up = frames[(segment + 1) % count]
        offset = x[:3, (segment + 1) * steps] - gates[(segment + 1) % count, :3]
        problem.subject_to(ca.dot(normal, offset) == 0)
        problem.subject_to(ca.dot(normal, x[7:10, (segment + 1) * steps]) >= 0)  # in the direction of passage
        problem.subject_to(problem.bounded(-half, ca.dot(tangent, offset), half))
        problem.subject_to(problem.bounded(-half, ca.dot(up, offset), half))
    problem.subject_to(problem.bounded(0.2, durations, 5.0))
    for command, (low, high) in enumerate(zip(COMMAND_LOW, COMMAND_HIGH, strict=True)):
        share = rates if command else thrust
        problem.subject_to(problem.bounded(share * low, u[command, :], share * high))
    problem.subject_to(x[2, :] >= float(race.arena_low[2]) + clearance)
    first, last = x[:, 0], x[:, -1]
    problem.subject_to(first[:3] == last[:3])
    problem.subject_to(first[7:] == last[7:])
    problem.subject_to(_difference(ca, first[3:7], last[3:7]) == 0)  # whatever the sign of the quaternion
    problem.subject_to(ca.sumsqr(first[3:7]) == 1)

    ends = np.roll(gates[:, :3], -1, axis=0)
    cruised = np.linalg.norm(ends - gates[:, :3], axis=1) / cruise
    problem.set_initial(durations, cruised)
    along = np.arange(steps) / steps
    places = np.concatenate([g[:3] + along[:, None] * (e - g[:3]) for g, e in zip(gates, ends, strict=True)])
    speeds = np.repeat((ends - gates[:, :3]) / cruised[:, None], steps, axis=0)
    problem.set_initial(x[:3, :], np.vstack([places, gates[:1, :3]]).T)
    problem.set_initial(x[3, :], 1.0)
    problem.set_initial(x[7:10, :], np.vstack([speeds, speeds[:1]]).T)
    problem.set_initial(u[0, :], MASS * GRAVITY)
    if lags:
        problem.set_initial(x[16, :], MASS * GRAVITY)
    problem.solver("ipopt", {"print_time": False}, {"print_level": 0, "max_iter": 3000, "mu_strategy": "adaptive"})
    try:
        found: Any = problem.solve()
        solved = True
    except RuntimeError:  # what Opti raises where IPOPT did not converge
        found, solved = problem.debug, False
    times = np.concatenate([[0.0], np.cumsum(np.repeat(found.value(durations) / steps, steps))])
    states, commands = found.value(x)[:10].T, found.value(u).T
    return Optimised(Lap(*map(jnp.asarray, (times, states, commands)), gates=count), solved)


def _step(ca: Any) -> "casadi.Function":
    """`Nominal.fly` without wind."""
    x, u, h = ca.SX.sym("x", 10), ca.SX.sym("u", 4), ca.SX.sym("h")
    p, q, v, rates = x[:3], x[3:7], x[7:], u[1:]
    w, i, j, k = ca.vertsplit(q)
    up = ca.vertcat(2 * (i * k + w * j), 2 * (j * k - w * i), w**2 - i**2 - j**2 + k**2)
    a = u[0] / MASS * up - ca.vertcat(0, 0, GRAVITY)
    half = 0.5 * h * ca.sqrt(ca.sumsqr(rates) + 1e-12)
    turn = ca.vertcat(ca.cos(half), 0.5 * h * ca.sin(half) / half * rates)
    after = ca.vertcat(p + h * v + 0.5 * h**2 * a, _product(ca, q, turn), v + h * a)
    return ca.Function("step", [x, u, h], [after])


def _lagged_step(ca: Any) -> "casadi.Function":
    """`Believed(lags=True).fly`."""
    vehicle = Believed(lags=True)
    mass, motor_time = float(vehicle.mass), float(vehicle.motor_time)
    drag, quadratic_drag = float(vehicle.drag), float(vehicle.quadratic_drag)
    x, u, h = ca.SX.sym("x", 17), ca.SX.sym("u", 4), ca.SX.sym("h")
    q, v, rates, turning, thrust = x[3:7], x[7:10], x[10:13], x[13:16], x[16]
    air = _rotated(ca, ca.vertcat(q[0], -q[1:]), v)
    speeds = ca.sqrt(air**2 + 1e-6)  # smooth: |air| but within 1 mm/s
    force = ca.vertcat(0, 0, thrust) - (drag + quadratic_drag * speeds) * air
    a = _rotated(ca, q, force) / mass - ca.vertcat(0, 0, GRAVITY)
    turn = (np.asarray(vehicle.rate_gain, float) * (u[1:] - rates) - turning) / motor_time
    spin = 0.5 * _product(ca, q, ca.vertcat(0, rates))
    ode = ca.Function("ode", [x, u], [ca.vertcat(v, spin, a, turning, turn, (u[0] - thrust) / motor_time)])
    k1 = ode(x, u)
    k2 = ode(x + 0.5 * h * k1, u)
    k3 = ode(x + 0.5 * h * k2, u)
    k4 = ode(x + h * k3, u)
    after = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    after = ca.vertcat(after[:3], after[3:7] / ca.norm_2(after[3:7]), after[7:])
    return ca.Function("step", [x, u, h], [after])


def _rotated(ca: Any, q: Any, v: Any) -> Any:
    """v, turned by the unit quaternion q."""
    twice = 2 * ca.cross(q[1:], v)
    return v + q[0] * twice + ca.cross(q[1:], twice)


def _product(ca: Any, a: Any, b: Any) -> Any:
    """Of quaternions."""
    scalar = a[0] * b[0] - ca.dot(a[1:], b[1:])
    return ca.vertcat(scalar, a[0] * b[1:] + b[0] * a[1:] + ca.cross(a[1:], b[1:]))


def _difference(ca: Any, a: Any, b: Any) -> Any:
    """The vector part of a⁻¹ b: zero where both are the same rotation."""
    return a[0] * b[1:] - b[0] * a[1:] - ca.cross(a[1:], b[1:])


def known_tracks() -> tuple[Track, ...]:
    """Those whose first gate follows the last."""
    return tuple(track for track in get_args(Track) if Race.on(track).loop)
