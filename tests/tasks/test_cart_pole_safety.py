"""The law that keeps a cart-pole of little energy on its track for ever."""

import jax
import jax.numpy as jnp
import numpy as np

from planahead.tasks.cart_pole import FORCE_LIMIT, POSITION_LIMIT, CartPole, CartPoleProblem
from planahead.tasks.cart_pole_safety import ENERGY, STIFFNESS, LittleEnergy
from tests.tasks.test_cart_pole import energy

BODY = CartPoleProblem()


def border(number: int) -> jax.Array:
    """States with V = c: every pole angle, the rest of the energy shared at random."""
    keys = jax.random.split(jax.random.key(0), 2)
    angle = jax.random.uniform(keys[0], (number,), minval=-jnp.pi, maxval=jnp.pi)
    shares = jax.random.normal(keys[1], (number, 3))
    left = ENERGY - BODY.pole_mass * BODY.gravity * BODY.pole_length * (1 + jnp.cos(angle))
    parts = shares / jnp.linalg.norm(shares, axis=1, keepdims=True) * jnp.sqrt(left)[:, None]

    def state(angle, part):
        coupling = -BODY.pole_mass * BODY.pole_length * jnp.cos(angle)
        mass = jnp.array(
            [[BODY.cart_mass + BODY.pole_mass, coupling], [coupling, BODY.pole_mass * BODY.pole_length**2]]
        )
        speeds = jnp.linalg.solve(jnp.linalg.cholesky(mass / 2).T, part[1:])
        return jnp.stack([part[0] * jnp.sqrt(2 / STIFFNESS), angle, *speeds])

    return jax.vmap(state)(angle, parts)


def test_the_value_is_the_energy_of_the_bodies_and_of_the_spring(x64):
    rest = energy(CartPole(), jnp.array([0.0, jnp.pi, 0.0, 0.0]))
    for x in border(20):
        expected = energy(CartPole(), x) - rest + STIFFNESS * x[0] ** 2 / 2
        np.testing.assert_allclose(LittleEnergy(BODY).energy(x), expected, rtol=1e-6)
        np.testing.assert_allclose(LittleEnergy(BODY).values(x), 0.0, atol=1e-6)


def test_the_law_stays_on_the_track_until_all_is_at_rest():
    terminal = LittleEnergy(BODY)

    def step(x, _):
        u = terminal.control(x)
        after = BODY.dynamics(x, u)
        return after, (jnp.abs(after[0]), jnp.abs(u[0]))

    def follow(x):
        end, (position, force) = jax.lax.scan(step, x, None, length=2_000)
        return terminal.energy(end), jnp.max(position), jnp.max(force)

    left, position, force = jax.jit(jax.vmap(follow))(border(3_000))
    assert np.max(position) < POSITION_LIMIT and np.max(force) < FORCE_LIMIT
    assert np.max(left) < 0.3 * ENERGY and np.mean(left) < 0.02 * ENERGY
