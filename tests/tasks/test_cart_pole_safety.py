"""The law that keeps a cart-pole of little energy on its track for ever."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.tasks import CartPoleTask
from planahead.tasks.cart_pole import FORCE_LIMIT, CartPole, CartPoleProblem
from planahead.tasks.cart_pole_safety import ENERGY, LittleEnergy
from tests.tasks.test_cart_pole import energy

BODIES = {
    "as it comes": CartPole(),
    "heavy pole": CartPole(pole_mass=jnp.array(0.5)),
    "light cart": CartPole(cart_mass=jnp.array(0.5)),
    "long pole": CartPole(pole_length=jnp.array(1.5)),
    "short track": CartPole(position_limit=jnp.array(1.2)),
}


def border(body: CartPole, number: int) -> jax.Array:
    """States with V = c: every pole angle, the rest of the energy shared at random."""
    keys = jax.random.split(jax.random.key(0), 2)
    angle = jax.random.uniform(keys[0], (number,), minval=-jnp.pi, maxval=jnp.pi)
    shares = jax.random.normal(keys[1], (number, 3))
    left = ENERGY - body.pole_mass * body.gravity * body.pole_length * (1 + jnp.cos(angle))
    parts = shares / jnp.linalg.norm(shares, axis=1, keepdims=True) * jnp.sqrt(left)[:, None]

    def state(angle, part):
        coupling = -body.pole_mass * body.pole_length * jnp.cos(angle)
        mass = jnp.array(
            [[body.cart_mass + body.pole_mass, coupling], [coupling, body.pole_mass * body.pole_length**2]]
        )
        speeds = jnp.linalg.solve(jnp.linalg.cholesky(mass / 2).T, part[1:])
        return jnp.stack([part[0] * jnp.sqrt(2 / LittleEnergy(body).stiffness), angle, *speeds])

    return jax.vmap(state)(angle, parts)


def test_the_value_is_the_energy_of_the_bodies_and_of_the_spring(x64):
    body = CartPole()
    rest, stiffness = energy(body, jnp.array([0.0, jnp.pi, 0.0, 0.0])), LittleEnergy(body).stiffness
    for x in border(body, 20):
        expected = energy(body, x) - rest + stiffness * x[0] ** 2 / 2
        np.testing.assert_allclose(LittleEnergy(body).energy(x), expected, rtol=1e-6)
        np.testing.assert_allclose(LittleEnergy(body).values(x), 0.0, atol=1e-6)


@pytest.mark.parametrize("name", BODIES)
def test_the_law_stays_on_the_track_until_all_is_at_rest(name):
    body = BODIES[name]
    terminal, problem = LittleEnergy(body), CartPoleTask(body).safety_problem()
    assert problem is not None

    def step(x, _):
        u = terminal.control(x)
        after = problem.dynamics(x, u)
        return after, (jnp.abs(after[0]), jnp.abs(u[0]))

    def follow(x):
        end, (position, force) = jax.lax.scan(step, x, None, length=2_000)
        return terminal.energy(end), jnp.max(position), jnp.max(force)

    left, position, force = jax.jit(jax.vmap(follow))(border(body, 3_000))
    assert np.max(position) < body.position_limit and np.max(force) < FORCE_LIMIT
    assert np.max(left) < 0.3 * ENERGY and np.mean(left) < 0.02 * ENERGY


def test_the_filter_is_about_the_world_and_not_about_what_the_planner_believes():
    world = CartPole(pole_mass=jnp.array(0.5), position_limit=jnp.array(1.2))
    problem = CartPoleTask(world, CartPoleProblem(pole_mass=jnp.array(0.05))).safety_problem()
    assert problem is not None
    x, u = jnp.array([0.3, 1.0, -0.5, 2.0]), jnp.array([20.0])
    state = world.reset(jax.random.key(0))
    moved = world.step(dataclasses.replace(state, x=x), u, jax.random.key(0))
    np.testing.assert_allclose(problem.dynamics(x, u), moved.observation, rtol=1e-6)
    assert problem.base.state_bounds().upper[0] == world.position_limit
    assert CartPoleTask(definition="published").safety_problem() is None
