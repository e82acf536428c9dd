"""RotorPy's quadrotor beside closed forms, and beside `Realistic` where both have the same physics."""

import dataclasses
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.problem.rotation import matrix
from planahead.tasks.flight.quadrotor import (
    GRAVITY,
    INERTIA,
    LIFT,
    MASS,
    MOTOR_TIME,
    ROTOR_THRUST,
    THRUST_LIMIT,
    TIME_STEP,
    Realistic,
)
from planahead.tasks.flight.rotorpy_vehicle import RotorPyVehicle, air_velocity, rotorpy_parameters

needs_rotorpy = pytest.mark.skipif(
    "not __import__('importlib.util').util.find_spec('rotorpy')",
    reason="RotorPy is not installed: pip install rotorpy, or the extra `rotorpy`",
)
THEIR_GRAVITY = 9.81  # m/s²
STILL = np.zeros(3)
VACUUM = Realistic(drag=jnp.array(0.0))
HOVER = np.array([MASS * THEIR_GRAVITY, 0.0, 0.0, 0.0])
LEVEL = np.array([1.0, 0.0, 0.0, 0.0])
STOPPED = np.zeros(4)


def state(vehicle=VACUUM, velocity=STILL, attitude=LEVEL, rates=STILL, rotors=None, told=None):
    """At 2 m; rotors that hover and were told to, unless given."""
    x = np.asarray(vehicle.at(jnp.array([0.0, 0.0, 2.0]), jnp.asarray(attitude), jnp.asarray(velocity)), np.float64)
    x = x.copy()
    x[10:13] = rates
    x[13:17] = np.sqrt(HOVER[0] / THRUST_LIMIT) if rotors is None else rotors
    x[17:] = HOVER if told is None else told
    return x


def fly(vehicle, x, command, steps, force=STILL):
    plant = RotorPyVehicle(vehicle)
    for _ in range(steps):
        x = plant.fly(x, np.asarray(command, np.float64), force)
    return x


@needs_rotorpy
def test_it_falls_freely_without_thrust():
    x = fly(VACUUM, state(rotors=0.0, told=STOPPED, velocity=np.array([3.0, 0.0, 0.0])), STOPPED, 25)
    np.testing.assert_allclose(x[:3], [1.5, 0.0, 2.0 - 0.5 * THEIR_GRAVITY * 0.25], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(x[7:10], [3.0, 0.0, -THEIR_GRAVITY * 0.5], rtol=1e-6, atol=1e-9)


@needs_rotorpy
@pytest.mark.parametrize("vehicle", [VACUUM, Realistic()], ids=["vacuum", "air"])
def test_it_hovers_where_its_thrust_is_its_weight(vehicle):
    x = state(vehicle)
    np.testing.assert_allclose(fly(vehicle, x, HOVER, 25), x, atol=2e-6)  # the mass is a float32


@needs_rotorpy
def test_a_spin_without_torque_keeps_its_momentum_and_its_energy():
    """Euler's equations about three different moments of inertia: Jω is constant in the world, ωᵀJω everywhere."""
    slow = dataclasses.replace(VACUUM, motor_time=1e9)  # motors that never start: no torque whatever the loop asks for
    x = state(slow, rates=np.array([2.0, 5.0, -3.0]), rotors=0.0, attitude=np.array([0.6, 0.0, 0.8, 0.0]))
    after = fly(slow, x, STOPPED, 25)
    momentum = [np.asarray(matrix(jnp.asarray(y[3:7]))) @ (INERTIA * y[10:13]) for y in (x, after)]
    np.testing.assert_allclose(momentum[1], momentum[0], rtol=2e-3, atol=2e-5)
    energies = [y[10:13] @ (INERTIA * y[10:13]) for y in (x, after)]
    assert energies[1] == pytest.approx(energies[0], rel=1e-4)
    assert np.abs(after[10:13] - x[10:13]).max() > 0.5, "it tumbles"


@needs_rotorpy
def test_a_step_in_thrust_comes_with_the_motors_lag():
    """n(t) = 1 + (n_0 - 1) e^{-t/τ}, and the velocity is the integral of 4 f_max n² / m - g."""
    quick = dataclasses.replace(VACUUM, delay=0.0)
    steps = 4
    after = fly(quick, state(quick), np.array([THRUST_LIMIT, 0.0, 0.0, 0.0]), steps)
    times = np.linspace(0.0, steps * TIME_STEP, 2001)
    speeds = 1 + (math.sqrt(HOVER[0] / THRUST_LIMIT) - 1) * np.exp(-times / MOTOR_TIME)
    np.testing.assert_allclose(after[13:17], speeds[-1], rtol=2e-4)
    gained = np.trapezoid(4 * ROTOR_THRUST * speeds**2 / MASS - THEIR_GRAVITY, times)
    np.testing.assert_allclose(after[7:10], np.array([0.0, 0.0, float(gained)]), rtol=1e-3, atol=1e-9)


@needs_rotorpy
def test_a_fall_ends_at_the_speed_at_which_drag_is_the_weight():
    """Of the body alone, √(m g / d₂), since rotors that stand still do not drag; from above it and from below."""
    terminal = math.sqrt(MASS * THEIR_GRAVITY / float(Realistic().quadratic_drag[2]))
    for start in (0.9 * terminal, 1.1 * terminal):
        x = state(rotors=0.0, told=STOPPED, velocity=np.array([0.0, 0.0, -start]))
        after = fly(Realistic(), x, STOPPED, 50)
        time = terminal / THEIR_GRAVITY  # v/v_t goes to 1 as tanh or coth of t over this
        offset = math.atanh(min(start, terminal**2 / start) / terminal)
        expected = math.tanh(offset + 1.0 / time) ** (1 if start < terminal else -1)
        assert -after[9] / terminal == pytest.approx(expected, rel=1e-4)


@needs_rotorpy
@pytest.mark.parametrize("velocity", [[8.0, 0.0, 0.0], [0.0, -8.0, 0.0], [0.0, 0.0, 6.0]])
def test_hovering_rotors_drag_as_the_parameters_say(velocity):
    velocity = np.array(velocity)
    after = fly(Realistic(), state(velocity=velocity), HOVER, 1)
    air = np.abs(velocity).sum()
    drag = float(np.abs(velocity) @ np.asarray(Realistic().linear_drag)) + 0.015 * air**2
    np.testing.assert_allclose(after[7:10], velocity * (1 - TIME_STEP * drag / MASS / air), rtol=2e-3, atol=1e-3)


@needs_rotorpy
def test_air_across_the_rotors_lifts_as_the_parameters_say():
    velocity = np.array([6.0, -8.0, 0.0])
    lifted = fly(dataclasses.replace(VACUUM, lift=LIFT), state(velocity=velocity), HOVER, 1)
    assert lifted[9] == pytest.approx(TIME_STEP * LIFT * 100 / MASS, rel=1e-3)
    x, command = (jnp.asarray(values, jnp.float32) for values in (state(velocity=velocity), HOVER))
    own = dataclasses.replace(VACUUM, lift=LIFT).fly(x, command, jnp.zeros(3))
    assert float(own[9]) == pytest.approx(TIME_STEP * (LIFT * 100 / MASS + THEIR_GRAVITY - GRAVITY), rel=1e-3)


@needs_rotorpy
def test_wind_is_air_that_pushes_a_hovering_quadrotor_by_its_force():
    for force in (np.array([0.0, 2.0, 0.0]), np.array([-1.2, 0.9, 0.0]), np.array([0.0, 0.0, 1.5])):
        after = fly(Realistic(), state(), HOVER, 1, force)
        np.testing.assert_allclose(after[7:10], TIME_STEP * force / MASS, rtol=0.01, atol=2e-4)
    with pytest.raises(ValueError, match="wind is air, which pushes by drag alone; a force of"):
        air_velocity(VACUUM, np.array([0.0, 1.0, 0.0]))


COMMANDS = [np.array([THRUST_LIMIT / 2, 4.0, -3.0, 1.0])] * 6 + [np.array([5.0, -4.0, 3.0, -1.0])] * 6


@needs_rotorpy
def test_both_fly_alike_in_a_vacuum():
    """Axes, signs, the order of rotors and of quaternions, delay, motors and limits: a wrong one would show. What is
    left is a rate loop that samples, and does not feed ω × Jω forward."""
    attitude = np.array([0.5, -0.5, 0.5, 0.5])  # every axis onto another
    x = state(attitude=attitude, velocity=np.array([1.0, 2.0, 3.0]))
    own, plant = jnp.asarray(x, jnp.float32), RotorPyVehicle(VACUUM)
    step = jax.jit(lambda x, u: VACUUM.fly(x, u, jnp.zeros(3)))
    turned = 0.0
    for command in COMMANDS:
        x, own = plant.fly(x, command, STILL), step(own, jnp.asarray(command, jnp.float32))
        moved = np.asarray(own)
        turned = max(turned, np.linalg.norm(moved[10:13]))
        np.testing.assert_allclose(x[:3], moved[:3], atol=0.01)
        np.testing.assert_allclose(x[3:7], moved[3:7], atol=0.02)
        np.testing.assert_allclose(x[7:10], moved[7:10], atol=0.1)
        np.testing.assert_allclose(x[10:13], moved[10:13], atol=0.3)
        np.testing.assert_allclose(x[13:17], moved[13:17], atol=0.04)
        np.testing.assert_allclose(x[17:], moved[17:], rtol=1e-6)
    assert turned > 3.0


@needs_rotorpy
@pytest.mark.parametrize(("axis", "rate"), [(0, 2.0), (1, -2.0), (2, 1.0)])
def test_body_rates_are_reached_about_their_own_axes(axis, rate):
    command = HOVER.copy()
    command[1 + axis] = rate
    rates = fly(VACUUM, state(), command, 20)[10:13]
    expected = np.zeros(3)
    expected[axis] = rate
    np.testing.assert_allclose(rates, expected, atol=0.02)
    slower = fly(dataclasses.replace(VACUUM, rate_scale=0.5), state(), command, 20)[10:13]
    np.testing.assert_allclose(slower, 0.5 * expected, atol=0.02)


@needs_rotorpy
@pytest.mark.parametrize("late", [0.0, 0.25, 1.0])
def test_a_command_takes_effect_after_its_delay(late):
    vehicle = dataclasses.replace(VACUUM, delay=late * TIME_STEP)
    after = fly(vehicle, state(vehicle), np.array([THRUST_LIMIT, 0.0, 0.0, 0.0]), 1)
    lag = math.exp(-(1 - late) * TIME_STEP / MOTOR_TIME)
    np.testing.assert_allclose(after[13:17], 1 + (math.sqrt(HOVER[0] / THRUST_LIMIT) - 1) * lag, rtol=2e-4)


@needs_rotorpy
def test_the_rate_loop_goes_on_believing_in_its_inertia_and_its_thrust():
    """It asks for as much torque as before, which turns what is heavier half as much, and lifts it half as fast."""
    prompt = dataclasses.replace(VACUUM, delay=0.0)
    command = HOVER + np.array([0.0, 1.0, 0.0, 0.0])
    double = np.array([2.0, 1.0, 1.0])
    turned = [
        fly(dataclasses.replace(prompt, inertia=scale * np.array(INERTIA)), state(prompt), command, 1)[10]
        for scale in (np.ones(3), double)
    ]
    assert turned[1] == pytest.approx(turned[0] / 2, rel=0.02)
    weak = fly(dataclasses.replace(VACUUM, thrust_scale=0.5), state(), HOVER, 1)
    assert weak[9] == pytest.approx(-0.5 * THEIR_GRAVITY * TIME_STEP, rel=1e-3)
    heavy = fly(dataclasses.replace(VACUUM, mass=2 * MASS), state(), HOVER, 1)
    assert heavy[9] == pytest.approx(-0.5 * THEIR_GRAVITY * TIME_STEP, rel=1e-3)


def test_its_parameters_are_those_of_the_vehicle():
    """Without RotorPy: what hovers, what a rotor gives at most."""
    found = rotorpy_parameters(Realistic(mass=jnp.array(1.0)))
    assert found["mass"] == 1.0 and found["tau_m"] == pytest.approx(MOTOR_TIME)
    assert found["k_eta"] * found["rotor_speed_max"] ** 2 == pytest.approx(ROTOR_THRUST)
    assert (found["c_Dx"], found["k_h"]) == (pytest.approx(0.015), 0.0)
    with pytest.raises(ValueError, match="rotors drag alike along x and y; linear_drag="):
        rotorpy_parameters(Realistic(linear_drag=jnp.array([0.26, 0.3, 0.3])))


def test_without_rotorpy_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "rotorpy.vehicles.multirotor", None)
    with pytest.raises(ImportError, match="RotorPy is needed, and is not installed: pip install rotorpy"):
        RotorPyVehicle(Realistic())
