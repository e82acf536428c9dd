"""The cart-pole: its mechanics, its ends, and the planner's view of it."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.tasks import CartPole, CartPoleProblem, CartPoleState, CartPoleTask

KEY = jax.random.key(0)
ZERO = jnp.zeros(1)


def at(*x, step=0, upright_steps=0):
    return CartPoleState(x=jnp.array(x, float), step=jnp.array(step), upright_steps=jnp.array(upright_steps))


def kinetic_and_potential(world, q, qd):
    """T and V from the positions of the two masses, the pole's at (p - l sin θ, l cos θ)."""

    def pole(q):
        return jnp.stack([q[0] - world.pole_length * jnp.sin(q[1]), world.pole_length * jnp.cos(q[1])])

    pole_velocity = jax.jvp(pole, (q,), (qd,))[1]
    kinetic = world.cart_mass * qd[0] ** 2 / 2 + world.pole_mass * jnp.sum(pole_velocity**2) / 2
    return kinetic, world.pole_mass * world.gravity * pole(q)[1]


def energy(world, x):
    return sum(kinetic_and_potential(world, x[:2], x[2:]))


def test_the_motion_obeys_lagrange(x64):
    """d/dt ∂L/∂q̇ = ∂L/∂q + (F, 0), with L from the positions of the masses alone."""
    world = CartPole()

    def lagrangian(q, qd):
        kinetic, potential = kinetic_and_potential(world, q, qd)
        return kinetic - potential

    momentum = jax.grad(lagrangian, 1)
    for key in jax.random.split(KEY, 10):
        x, force = 3 * jax.random.normal(key, (4,)), 80 * jax.random.normal(jax.random.fold_in(key, 1), (1,))
        slope = world.ode(x, force)
        np.testing.assert_allclose(slope[:2], x[2:])
        change = jax.jvp(momentum, (x[:2], x[2:]), (slope[:2], slope[2:]))[1]
        push = jax.grad(lagrangian)(x[:2], x[2:]) + jnp.concatenate([force, jnp.zeros(1)])
        np.testing.assert_allclose(change, push, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, math.pi])
def test_equilibria_stay(angle, x64):
    transition = CartPole().step(at(0.3, angle, 0.0, 0.0), ZERO, KEY)
    np.testing.assert_allclose(transition.observation, [0.3, angle, 0.0, 0.0], atol=1e-14)


def test_upright_is_unstable_and_hanging_is_not(x64):
    world = CartPole()

    def rates(angle):
        slopes = jax.jacobian(world.ode)(jnp.array([0.0, angle, 0.0, 0.0]), ZERO)
        return np.linalg.eigvals(np.asarray(slopes)).real

    ml, M, m = float(world.pole_length), float(world.cart_mass), float(world.pole_mass)
    assert rates(0.0).max() == pytest.approx(math.sqrt((M + m) * float(world.gravity) / (M * ml)), rel=1e-9)
    assert rates(math.pi).max() == pytest.approx(0.0, abs=1e-6)


def test_a_push_to_the_right_tips_the_pole_counter_clockwise():
    transition = CartPole().step(at(0.0, 0.0, 0.0, 0.0), jnp.array([10.0]), KEY)
    assert (np.asarray(transition.observation) > 0).all()


def test_energy_is_kept_to_the_order_of_the_integrator(x64):
    """Without a force, halving the time step divides the error at 1 s by about 2⁴, and that of the energy as well."""
    start = jnp.array([0.0, 0.7, 0.5, -1.0])

    def after_one_second(time_step):
        world = CartPole(time_step=time_step)
        step = jax.jit(lambda state: world.step(state, ZERO, KEY).state)
        state = at(*start)
        for _ in range(round(1 / time_step)):
            state = step(state)
        return state.x, abs(energy(world, state.x) - energy(world, start))

    truth, _ = after_one_second(0.00125)
    (coarse, coarse_drift), (fine, fine_drift) = after_one_second(0.05), after_one_second(0.025)
    ratio = np.linalg.norm(coarse - truth) / np.linalg.norm(fine - truth)
    assert 12 < ratio < 20
    assert coarse_drift / fine_drift > 12
    assert coarse_drift < 1e-4 * float(energy(CartPole(), start))


@pytest.mark.parametrize(
    ("angle", "wrapped"),
    [(6.5, 6.5 - 2 * math.pi), (-6.5, 2 * math.pi - 6.5), (math.pi, math.pi), (-math.pi, -math.pi), (6.0, 6.0)],
)
def test_whole_turns_are_dropped_towards_zero(angle, wrapped, x64):
    rest = dataclasses.replace(CartPole(), gravity=1e-12)
    assert rest.step(at(0.0, angle, 0.0, 0.0), ZERO, KEY).observation[1] == pytest.approx(wrapped, abs=1e-9)


def test_the_published_world_takes_a_wrong_turn_and_any_force(x64):
    """6.5 rad become π (6.5 mod 2) = 1.571, where 0.217 is meant; and 120 N are 120 N."""
    rest = dataclasses.replace(CartPole(published=True), gravity=1e-12)
    assert rest.step(at(0.0, 6.5, 0.0, 0.0), ZERO, KEY).observation[1] == pytest.approx(math.pi / 2, abs=1e-9)
    assert rest.step(at(0.0, 6.2, 0.0, 0.0), ZERO, KEY).observation[1] == pytest.approx(6.2, abs=1e-9)
    published = CartPoleTask(definition="published").environment
    assert published.published and not CartPoleTask().environment.published
    pushed = published.step(at(0.0, math.pi, 0.0, 0.0), jnp.array([120.0]), KEY).observation[2]
    full = CartPole().step(at(0.0, math.pi, 0.0, 0.0), jnp.array([120.0]), KEY).observation[2]
    assert pushed > 1.4 * full


def test_swinging_through_the_hanging_position_is_continuous():
    world = CartPole()
    before = at(0.0, math.pi - 0.05, 0.0, 2.0)
    after = world.step(before, ZERO, KEY)
    assert before.x[1] < math.pi < after.observation[1] < before.x[1] + 0.2


@pytest.mark.parametrize("angle", np.linspace(-6.28, 6.28, 9).tolist())
def test_the_reward_measures_the_distance_from_hanging(angle, x64):
    transition = CartPole().step(at(0.0, angle, 0.0, 0.0), ZERO, KEY)
    height = abs(math.pi - abs(float(transition.observation[1])))
    assert transition.reward == pytest.approx(height / (10 * math.pi), rel=1e-5)
    assert 0 <= transition.reward <= 0.1


def test_the_best_return_is_twenty():
    world = CartPole()
    upright = world.step(at(0.0, 0.0, 0.0, 0.0), ZERO, KEY)
    assert upright.reward * world.episode_steps == pytest.approx(20.0)


def test_leaving_the_track_terminates_and_is_a_violation():
    world = CartPole()
    inside = world.step(at(2.3, math.pi, 1.0, 0.0), ZERO, KEY)
    outside = world.step(at(2.3, math.pi, 3.0, 0.0), ZERO, KEY)
    assert not inside.terminated and not inside.info.violation
    assert outside.terminated and outside.info.violation and not outside.truncated
    assert world.step(at(-2.3, math.pi, -3.0, 0.0), ZERO, KEY).terminated


def test_time_truncates_and_does_not_terminate():
    world = CartPole()
    early, last = (world.step(at(0.0, math.pi, 0.0, 0.0, step=step), ZERO, KEY) for step in (198, 199))
    assert not early.truncated
    assert last.truncated and not last.terminated
    both = world.step(at(2.3, math.pi, 3.0, 0.0, step=199), ZERO, KEY)
    assert both.terminated and not both.truncated


def test_a_state_that_is_no_number_terminates():
    transition = CartPole().step(at(math.nan, 0.0, 0.0, 0.0), ZERO, KEY)
    assert transition.terminated and transition.info.violation and not transition.info.success


@pytest.mark.parametrize("turns", [-1, 0, 1])
def test_success_takes_ten_upright_states_in_a_row(turns):
    world = dataclasses.replace(CartPole(), gravity=1e-9)
    state = at(0.0, turns * 2 * math.pi * 0.999, 0.0, 0.0)
    successes = []
    for _ in range(12):
        transition = world.step(state, ZERO, KEY)
        state = transition.state
        successes.append(bool(transition.info.success))
    assert successes == [False] * 9 + [True] * 3
    fallen = world.step(at(0.0, 0.2, 0.0, 0.0, upright_steps=50), ZERO, KEY)
    assert not fallen.info.success and fallen.state.upright_steps == 0


def test_standing_off_the_track_is_no_success():
    transition = CartPole().step(at(2.3, 0.0, 5.0, 0.0, upright_steps=50), ZERO, KEY)
    assert transition.info.violation and not transition.info.success


def test_an_episode_starts_hanging_within_the_spread():
    keys = jax.random.split(KEY, 200)
    hanging = np.array([0, math.pi, 0, 0], np.float32)
    np.testing.assert_array_equal(CartPole().reset(KEY).x, hanging)
    starts = np.asarray(jax.vmap(dataclasses.replace(CartPole(), start_spread=0.1).reset)(keys).x) - hanging
    assert (np.abs(starts) <= 0.1 + 1e-6).all()
    assert (starts.max(0) > 0.09).all() and (starts.min(0) < -0.09).all()


def test_world_and_model_agree():
    """Only foresight is missing: one step of the plant is one step of the problem."""
    task = CartPoleTask()
    x, u = jnp.array([0.1, 2.0, -0.3, 1.0]), jnp.array([7.0])
    observation = task.environment.step(at(*x), u, KEY).observation
    np.testing.assert_array_equal(task.problem.dynamics(x, u), observation)
    np.testing.assert_array_equal(task.planner_state(observation), observation)


def test_the_costs_are_the_published_ones(x64):
    problem = dataclasses.replace(CartPoleProblem(), angle_reference=0.5, position_reference=-0.2)
    x, u = jnp.array([0.1, 2.0, -0.3, 1.0]), jnp.array([7.0])
    error = np.array([0.1 + 0.2, 2.0 - 0.5, -0.3, 1.0, 7.0])
    cost = 0.5 * error @ np.diag([2e3, 2e3, 1e-2, 1e-2, 2e-1]) @ error
    assert 0.5 * jnp.sum(problem.stage_residual(x, u) ** 2) == pytest.approx(cost)
    assert 0.5 * jnp.sum(problem.terminal_residual(x) ** 2) == pytest.approx(cost - 0.5 * 2e-1 * 49)


def test_the_bounds_are_the_published_ones():
    problem = CartPoleProblem()
    force, track = problem.control_bounds(), problem.state_bounds()
    assert (float(force.lower), float(force.upper), force.slack) == (-80.0, 80.0, None)
    np.testing.assert_array_equal(track.upper, np.array([2.4, np.inf, np.inf, np.inf], np.float32))
    np.testing.assert_array_equal(track.lower, -track.upper)
    assert track.slack is not None and (float(track.slack.linear), float(track.slack.quadratic)) == (0.0, 1e3)
    assert eqx.tree_equal(problem.terminal_bounds(), track)
    assert (problem.horizon, problem.time_step, problem.discount) == (5, 0.05, 1.0)
