r"""The racing quadrotor in RotorPy, a simulator by other people: policies that fly here have not met its dynamics.

RotorPy's equations in the words of `quadrotor.py`, with rotor speeds Ω = Ω_max n [rad/s] and the air w_i = w + ω × r_i
that the rotor at r_i meets, w = Rᵀ(v - wind):

    Ω_c = √(M⁻¹ (F, Ĵ K (ω_c - ω)) / k), from 0 to Ω_max           its rate loop, held for `LOOP_STEP`
    Ω̇   = (Ω_c - Ω) / t_m
    F_i = (k Ω_i² + ¼ l (w_ix² + w_iy²)) z - Ω_i D w_i              thrust, lift, and drag of a rotor
    m v̇ = R (Σ F_i - C |w| w) - m g,     g = 9.81 m/s²
    J ω̇ = Σ (r_i × F_i + κ k s_i Ω_i² z) - ω × J ω

Unlike `Realistic` it has a rate loop that samples and does not feed ω × Ĵ ω forward, drag that grows with the rotors'
speed and couples axes and damps turns, and wind that is moving air. What the vehicle is made of, and when commands take
effect, is the same: the parameters are those of a `Realistic`, so that a change to one changes both. D is such that
hovering rotors drag as `linear_drag` says.

Frames and body axes agree (x forward, y left, z up); RotorPy's quaternions end with w, and its rotor speeds are rad/s.

Reference: S. Folk, J. Paulos, V. Kumar, "RotorPy: a Python-based multirotor simulator with aerodynamics for education
and research", arXiv 2306.04485, 2023; https://github.com/spencerfolk/rotorpy.
"""

import math
from typing import Any, final

import numpy as np
from jaxtyping import Float

from planahead.tasks.flight.quadrotor import (
    ARM_X,
    ARM_Y,
    GRAVITY,
    MASS,
    RATE_GAIN,
    ROTOR_THRUST,
    SPIN,
    THRUST_PER_SQUARE,
    TIME_STEP,
    TORQUE_PER_THRUST,
    Realistic,
)

LOOP_STEP = 0.005  # s: RotorPy's rate loop runs at 200 Hz; time to compute a flight goes with its inverse
SPEED_LIMIT = math.sqrt(ROTOR_THRUST / THRUST_PER_SQUARE)  # rad/s
HOVER_SPEED = math.sqrt(MASS * GRAVITY / 4 / THRUST_PER_SQUARE)  # rad/s
MISSING = "RotorPy is needed, and is not installed: pip install rotorpy, or the extra `rotorpy`."


@final
class RotorPyVehicle:
    """A quadrotor that RotorPy flies, as `vehicle` describes it; outside JAX, in NumPy and float64.

    Its states are those of `Realistic`, all 21, and so are its commands.

    **Arguments:**

    - `vehicle`: its parameters. The rate loop goes on believing in those of `Realistic()`.
    - `time_step`: for which a command is held, s.

    **Raises:** `ImportError` where RotorPy is not installed; `ValueError` as `rotorpy_parameters` does.

    >>> falling = np.zeros(21)                             # rotors that stand still, and were told to
    >>> falling[3] = 1.0                                   # level
    >>> after = RotorPyVehicle(Realistic()).fly(falling, np.zeros(4), np.zeros(3))
    >>> print(f"{after[9]:.3f} m/s upwards after {TIME_STEP} s of falling")
    -0.196 m/s upwards after 0.02 s of falling
    """

    def __init__(self, vehicle: Realistic, time_step: float = TIME_STEP):
        try:
            from rotorpy.vehicles.multirotor import Multirotor
        except ImportError as error:
            raise ImportError(MISSING) from error
        self.vehicle = vehicle
        self._delay, self._rate_scale = float(vehicle.delay), float(vehicle.rate_scale)
        self._loops = max(1, round(time_step / LOOP_STEP))
        self._step = time_step / self._loops
        # An explicit step of third order is exact to 1e-5 here: the fastest mode, the motors, decays in 33 ms.
        how = {"method": "RK23", "first_step": self._step, "rtol": 1e-4, "atol": 1e-4}
        own, believed = rotorpy_parameters(vehicle), rotorpy_parameters(Realistic())
        self._body = Multirotor(own, control_abstraction="cmd_motor_speeds", integrator_kwargs=how)
        self._rate_loop = Multirotor(believed, control_abstraction="cmd_ctbr")

    def fly(
        self, x: Float[np.ndarray, " 21"], command: Float[np.ndarray, " 4"], force: Float[np.ndarray, " 3"]
    ) -> Float[np.ndarray, " 21"]:
        """The state after a step under a command (F [N], ω_c [rad/s]), in air that moves so as to push with `force`
        [N], see `air_velocity`. **Raises** `ValueError` as that does."""
        x, before = np.asarray(x, np.float64), np.asarray(x[17:], np.float64)
        state = {
            "x": x[:3], "v": x[7:10], "q": _w_last(x[3:7]), "w": x[10:13],
            "wind": air_velocity(self.vehicle, force), "rotor_speeds": SPEED_LIMIT * x[13:17],
        }  # fmt: skip
        for number in range(self._loops):
            late = min(max(self._delay / self._step - number, 0.0), 1.0)  # share of this loop before the delay is over
            held = command + late * (before - command)
            told = {"cmd_thrust": held[0], "cmd_w": self._rate_scale * held[1:]}
            speeds = self._rate_loop.get_cmd_motor_speeds(state, told)
            state = self._body.step(state, {"cmd_motor_speeds": speeds}, self._step)
        body = [state["x"], _w_first(state["q"]), state["v"], state["w"], state["rotor_speeds"] / SPEED_LIMIT]
        return np.concatenate([*body, command])


def rotorpy_parameters(vehicle: Realistic) -> dict[str, Any]:
    """The dictionary by which RotorPy knows `vehicle`. **Raises** `ValueError` for a linear drag that RotorPy's rotors
    cannot have, other along y than along x.

    >>> f"{rotorpy_parameters(Realistic())['rotor_speed_max']:.1f} rad/s"
    '2332.4 rad/s'
    """
    drag = float(vehicle.drag)
    linear, quadratic = drag * np.asarray(vehicle.linear_drag), drag * np.asarray(vehicle.quadratic_drag)
    if linear[0] != linear[1]:
        raise ValueError(f"RotorPy's rotors drag alike along x and y; linear_drag={vehicle.linear_drag} came.")
    per_rotor = linear / (4 * HOVER_SPEED)
    thrust = float(vehicle.thrust_scale) * THRUST_PER_SQUARE
    inertia = np.asarray(vehicle.inertia, np.float64)
    return {
        "mass": float(vehicle.mass),
        "Ixx": inertia[0], "Iyy": inertia[1], "Izz": inertia[2], "Ixy": 0.0, "Iyz": 0.0, "Ixz": 0.0,
        "num_rotors": 4,
        "rotor_pos": {f"r{i}": np.array([x, y, 0.0]) for i, (x, y) in enumerate(zip(ARM_X, ARM_Y, strict=True))},
        "rotor_directions": SPIN,
        "c_Dx": quadratic[0], "c_Dy": quadratic[1], "c_Dz": quadratic[2],
        "k_eta": thrust, "k_m": TORQUE_PER_THRUST * thrust,
        "k_d": per_rotor[0], "k_z": per_rotor[2], "k_h": float(vehicle.lift) / 4, "k_flap": 0.0,
        "tau_m": float(vehicle.motor_time), "rotor_speed_min": 0.0, "rotor_speed_max": SPEED_LIMIT,
        "motor_noise_std": 0.0,
        "k_w": np.array(RATE_GAIN),
    }  # fmt: skip


def air_velocity(vehicle: Realistic, force: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 3"]:
    """How air moves [m/s] that pushes `vehicle` with a `force` [N] while it hovers; exactly where that is horizontal or
    vertical. **Raises** `ValueError` for a vehicle that no air can push.

    With the drags d₁, d₂ along the force it is the root of (d₁ + d₂ |w|) |w| = |f|.

    >>> air_velocity(Realistic(), np.array([0.0, 2.0, 0.0])).round(2).tolist()
    [0.0, 5.77, 0.0]
    """
    size = float(np.linalg.norm(force))
    if size == 0.0:
        return np.zeros(3)
    along = np.asarray(force, np.float64) / size
    drags = (vehicle.linear_drag, vehicle.quadratic_drag)
    d1, d2 = (float(vehicle.drag) * float(np.dot(np.asarray(drag), along**2)) for drag in drags)
    if d1 <= 0 and d2 <= 0:
        raise ValueError(f"RotorPy's wind is air, which pushes by drag alone; a force of {force} N came, and no drag.")
    return 2 * size / (d1 + math.sqrt(d1 * d1 + 4 * d2 * size)) * along


def _w_last(q: Float[np.ndarray, " 4"]) -> Float[np.ndarray, " 4"]:
    return np.roll(q, -1)


def _w_first(q: Float[np.ndarray, " 4"]) -> Float[np.ndarray, " 4"]:
    return np.roll(q, 1)
