"""The two quadrotors: rest, free fall, the limits of the rate loop, drag, and their integrators' order."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.problem.rotation import body_z, from_yaw
from planahead.tasks.flight.quadrotor import GRAVITY, MASS, THRUST_LIMIT, TIME_STEP, Nominal, Randomisation, Realistic
from planahead.tasks.flight.wind import Wind

HOVER = jnp.array([MASS * GRAVITY, 0.0, 0.0, 0.0])
STILL = jnp.zeros(3)
both = pytest.mark.parametrize("vehicle", [Nominal(), Realistic()], ids=["nominal", "realistic"])


def at_rest(vehicle, height=2.0, velocity=STILL):
    return vehicle.at(jnp.array([0.0, 0.0, height]), from_yaw(0.4), velocity)


def fly(vehicle, x, command, steps, force=STILL):
    return jax.lax.fori_loop(0, steps, lambda _, x: vehicle.fly(x, command, force), x)


@both
def test_hovering_stays_where_it_is(vehicle):
    x = at_rest(vehicle)
    np.testing.assert_allclose(fly(vehicle, x, HOVER, 100)[:10], x[:10], atol=2e-4)


def test_without_thrust_the_nominal_one_falls_freely(x64):
    vehicle = Nominal()
    x = fly(vehicle, at_rest(vehicle), jnp.zeros(4), 50)
    np.testing.assert_allclose([x[2], x[9]], [2.0 - 0.5 * GRAVITY, -GRAVITY], rtol=1e-9)


@both
def test_full_thrust_accelerates_upwards(vehicle):
    x = fly(vehicle, at_rest(vehicle), jnp.array([THRUST_LIMIT, 0.0, 0.0, 0.0]), 5)
    ideal = 0.1 * (THRUST_LIMIT / MASS - GRAVITY)
    assert (1.0 if isinstance(vehicle, Nominal) else 0.4) * ideal * 0.999 < x[9] < ideal * 1.001


@both
def test_attitude_stays_a_rotation_under_any_command(vehicle):
    commands = jax.random.uniform(
        jax.random.key(0), (200, 4), minval=jnp.array([0.0, -10, -10, -4]), maxval=jnp.array([34.0, 10, 10, 4])
    )
    x, xs = jax.lax.scan(lambda x, u: (vehicle.fly(x, u, STILL),) * 2, at_rest(vehicle), commands)
    assert np.isfinite(x).all()
    np.testing.assert_allclose(jnp.linalg.norm(xs[:, 3:7], axis=1), 1.0, atol=1e-5)


def test_the_rate_loop_reaches_what_it_is_told_and_the_motors_lag():
    vehicle = Realistic()
    command = HOVER.at[1:].set(jnp.array([3.0, -2.0, 1.0]))
    x = at_rest(vehicle)
    first = vehicle.fly(x, command, STILL)
    assert jnp.linalg.norm(first[10:13]) < 0.05, "the command takes effect after the delay of one step"
    np.testing.assert_allclose(fly(vehicle, x, command, 40)[10:13], command[1:], atol=0.1)
    prompt = dataclasses.replace(vehicle, delay=0.0)
    assert jnp.linalg.norm(prompt.fly(x, command, STILL)[10:13]) > 0.2


def test_the_smaller_the_substeps_the_better():
    """Rates, motors and drag at once, against steps four times as small: errors are small and shrink with the fourth
    power, to the limit of float32."""
    command = jnp.array([20.0, 4.0, -4.0, 1.0])

    def end(substeps):
        vehicle = Realistic(substeps=substeps)
        return fly(vehicle, at_rest(vehicle, velocity=jnp.array([8.0, -3.0, 1.0])), command, 10)[:13]

    np.testing.assert_allclose(end(4), end(16), atol=5e-3)


def test_drag_brakes_and_its_parameters_scale_it(x64):
    velocity = jnp.array([10.0, 0.0, 0.0])
    vehicle = Realistic()
    straight = vehicle.at(jnp.zeros(3), jnp.array([1.0, 0.0, 0.0, 0.0]), velocity)
    lost = [
        float(velocity[0] - dataclasses.replace(vehicle, drag=scale).fly(straight, HOVER, STILL)[7])
        for scale in (0.0, 1.0, 2.0)
    ]
    expected = TIME_STEP * (0.26 * 10 + 0.015 * 100) / MASS
    np.testing.assert_allclose(lost, [0.0, expected, 2 * expected], rtol=0.03, atol=1e-9)


@both
def test_a_force_pushes_by_its_size_over_the_mass(vehicle):
    x = fly(vehicle, at_rest(vehicle), HOVER, 10, force=jnp.array([0.0, 3.0, 0.0]))
    np.testing.assert_allclose(x[8], 0.2 * 3.0 / MASS, rtol=0.05)


def test_another_mass_or_inertia_flies_otherwise():
    spread = Randomisation(mass_spread=jnp.array(0.3), inertia_spread=jnp.array(0.5))
    draw = jnp.array([1.0, 0.0, 0.0, -1.0, 0.0])
    heavy = Realistic().randomised(draw, spread)
    assert isinstance(heavy, Realistic)
    np.testing.assert_allclose(heavy.mass, 1.3 * MASS, rtol=1e-6)
    np.testing.assert_allclose(heavy.inertia, 0.5 * Realistic().inertia, rtol=1e-6)
    np.testing.assert_allclose(Nominal().randomised(draw, spread).mass, 1.3 * MASS, rtol=1e-6)
    spun = [
        fly(v, at_rest(v), HOVER.at[1].set(8.0), 3)[10]
        for v in (Realistic(), Realistic(inertia=Realistic().inertia / 2))
    ]
    assert spun[1] > 1.2 * spun[0], "half the inertia turns faster under the same loop"


def test_the_wind_has_a_place_and_a_time():
    wind = Wind(
        wind_force=jnp.array([1.0, 0.0, 0.0]),
        gust_force=jnp.array([0.0, 2.0, 0.0]),
        gust_period=jnp.array(4.0),
        zone_force=jnp.array([0.0, 0.0, -3.0]),
        zone_low=jnp.array([0.0, 0.0, 0.0]),
        zone_high=jnp.array([1.0, 1.0, 1.0]),
    )
    inside, outside, start = jnp.full(3, 0.5), jnp.full(3, 1.5), jnp.array(0.0)
    np.testing.assert_allclose(wind.force(inside, jnp.array(1.0), start), [1.0, 2.0, -3.0], atol=1e-6)
    np.testing.assert_allclose(wind.force(outside, jnp.array(2.0), start), [1.0, 0.0, 0.0], atol=1e-6)
    assert body_z(from_yaw(1.0))[2] == 1.0
