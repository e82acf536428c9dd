"""The hanging chain: its equilibrium, its energy, its ends, and what the planner believes."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from planahead.planning import solve
from planahead.problem import ParameterSpace
from planahead.qp import Status
from planahead.tasks import Chain, ChainProblem, ChainState, ChainTask, make_task
from planahead.tasks.chain import resting_chain, resting_end, split

KEY = jax.random.key(0)
STILL = jnp.zeros(3)
every_size = pytest.mark.parametrize("masses", [3, 5, 8])


def random_state(masses, seed=0):
    """A chain in the middle of a wild motion, with all links some decimetres long."""
    random = np.random.default_rng(seed)
    positions = 0.3 * np.arange(1, masses)[:, None] * [1.0, 0.2, -0.4] + 0.1 * random.normal(size=(masses - 1, 3))
    return jnp.array(np.concatenate([positions.ravel(), random.normal(size=3 * masses - 6)]))


def links_of(masses, x):
    return np.diff(np.asarray(split(masses, x)[0]), axis=0, prepend=np.zeros((1, 3)))


def energy(world, x):
    """Of the masses that move freely, in J; the springs store ½ D (‖d‖ - L)²."""
    positions, velocities = split(world.masses, x)
    links = jnp.diff(positions, axis=0, prepend=jnp.zeros((1, 3)))
    stretch = jnp.linalg.norm(links, axis=1) - world.rest_length
    height = jnp.sum(positions[:-1, 2])
    return (
        world.mass * jnp.sum(velocities**2) / 2
        + world.stiffness * jnp.sum(stretch**2) / 2
        + world.mass * world.gravity * height
    )


@every_size
def test_the_power_of_the_hand_and_of_friction_is_all_that_changes_the_energy(masses, x64):
    """Ė = F·u - m C Σ |ḋ|³, with the force F of the hand on the last link; E itself knows nothing of the ODE."""
    world = Chain(masses=masses)
    x, u = random_state(masses), jnp.array([0.5, -0.8, 0.3])
    change = jax.jvp(lambda x: energy(world, x), (x,), (world.ode(x, u),))[1]
    velocities = np.concatenate([np.asarray(split(masses, x)[1]), u[None]])
    rates, link = np.diff(velocities, axis=0, prepend=np.zeros((1, 3))), links_of(masses, x)[-1]
    m, C = float(world.mass), float(world.friction)
    friction = m * C * np.abs(rates) * rates
    force = float(world.stiffness) * (1 - float(world.rest_length) / np.linalg.norm(link)) * link + friction[-1]
    np.testing.assert_allclose(change, force @ np.asarray(u) - np.sum(friction * rates), rtol=1e-10)


@every_size
def test_momentum_changes_by_the_forces_from_outside(masses, x64):
    world = Chain(masses=masses, friction=jnp.array(0.0))
    x = random_state(masses, seed=1)
    acceleration = np.asarray(split(masses, world.ode(x, STILL))[1])
    links = links_of(masses, x)
    tensions = float(world.stiffness) * (1 - 0.033 / np.linalg.norm(links, axis=1, keepdims=True)) * links
    weight = (masses - 2) * 0.033 * 9.81 * np.array([0.0, 0.0, 1.0])
    np.testing.assert_allclose(0.033 * acceleration.sum(0), tensions[-1] - tensions[0] - weight, rtol=1e-10)


def test_energy_is_kept_to_the_order_of_the_integrator_and_friction_takes_it(x64):
    """With the free end held: halving the time step divides the drift in 1 s by 2⁴ or more."""
    start = resting_chain(Chain(), jnp.array([0.1, 0.05, 0.1])).at[-9:].set(jnp.tile(jnp.array([0.3, -0.2, 0.1]), 3))

    def energies(time_step, friction):
        world = Chain(time_step=time_step, friction=jnp.array(friction))
        state = ChainState(x=start, target=start, step=jnp.array(0))
        step = jax.jit(lambda state, _: (world.step(state, STILL, KEY).state, energy(world, state.x)))
        return np.asarray(jax.lax.scan(step, state, length=round(1 / time_step) + 1)[1])

    coarse, fine = energies(0.02, 0.0), energies(0.01, 0.0)
    assert abs(coarse[-1] - coarse[0]) > 12 * abs(fine[-1] - fine[0])
    assert abs(coarse[-1] - coarse[0]) < 1e-3 * 0.5 * 0.033 * 3 * 0.14
    rubbed = energies(0.01, 1.0)
    assert (np.diff(rubbed) < 0).all() and rubbed[0] - rubbed[-1] > 100 * abs(fine[-1] - fine[0])


@pytest.mark.parametrize("masses", [3, 4, 5, 8])
def test_a_chain_at_rest_stays_at_rest(masses, x64):
    world = Chain(masses=masses)
    for key in jax.random.split(KEY, 3):
        state = world.reset(key)
        for x in (state.x, state.target):
            np.testing.assert_allclose(world.ode(x, STILL), 0.0, atol=1e-10)
        moved = world.step(state, STILL, KEY).state
        np.testing.assert_allclose(moved.x, state.x, atol=1e-10)


@pytest.mark.parametrize("masses", [3, 4, 5, 8])
def test_a_chain_at_rest_has_the_least_energy(masses, x64):
    """Against a minimiser that starts from a chain drawn straight."""
    world, end = Chain(masses=masses), jnp.array([0.08, -0.03, 0.05])

    @jax.jit
    @jax.value_and_grad
    def potential(free):
        return energy(world, jnp.concatenate([free, end, jnp.zeros(3 * masses - 6)]))

    straight = (jnp.arange(1.0, masses - 1)[:, None] / (masses - 1) * end[None]).ravel() - 0.1
    least = scipy.optimize.minimize(
        lambda free: tuple(np.asarray(part, float) for part in potential(free)),
        straight, jac=True, method="BFGS", options={"gtol": 1e-9},
    )  # fmt: skip
    np.testing.assert_allclose(resting_chain(world, end)[: 3 * masses - 6], least.x, atol=1e-6)
    np.testing.assert_allclose(resting_chain(world, end)[3 * masses - 6 : 3 * masses - 3], end, atol=1e-12)


def test_single_precision_hangs_a_chain_within_a_micrometre():
    hang = jax.jit(jax.vmap(lambda end: resting_chain(Chain(), end)))
    ends = 0.132 * jax.random.normal(KEY, (100, 3))
    single = np.asarray(hang(ends))
    assert single.dtype == np.float32
    with jax.enable_x64(True):
        double = hang(jnp.asarray(ends, float))
    np.testing.assert_allclose(single, double, atol=1e-6)


def test_an_episode_starts_at_rest_in_the_published_range(x64):
    states = jax.vmap(Chain().reset)(jax.random.split(KEY, 300))
    end = np.asarray(states.x[:, 9:12])
    assert not np.asarray(states.x[:, 12:]).any()
    np.testing.assert_allclose(np.linalg.norm(end, axis=1), 0.132, rtol=1e-12)
    theta = np.arctan2(np.hypot(end[:, 0], end[:, 1]) * np.sign(end[:, 0]), end[:, 2])
    phi = np.arctan2(np.abs(end[:, 1]), np.abs(end[:, 0]))
    assert -math.pi / 4 < theta.min() < -0.95 * math.pi / 4 and 0.95 * math.pi / 4 < theta.max() < math.pi / 4
    assert math.pi / 6 < phi.min() < 1.03 * math.pi / 6 and 0.97 * math.pi / 3 < phi.max() < math.pi / 3
    assert (np.sign(end[:, 0]) == np.sign(end[:, 1])).all()
    np.testing.assert_allclose(states.target[:, 9:12], np.tile([0.132, 0.0, 0.0], (300, 1)), atol=1e-12)
    np.testing.assert_allclose(Chain(start_spread=jnp.array(0.0)).reset(KEY).x[9:12], [0, 0, 0.132], atol=1e-12)


def test_reward_success_and_the_end_of_time(x64):
    world = Chain()
    target = resting_chain(world, resting_end(world))
    rest = ChainState(x=target, target=target, step=jnp.array(198))
    early = world.step(rest, STILL, KEY)
    assert early.reward == pytest.approx(0.0, abs=1e-9) and early.info.success
    assert not early.truncated and not early.terminated
    last = world.step(early.state, jnp.array([1.0, -0.5, 0.2]), KEY)
    velocity = np.linalg.norm(last.state.x[12:])
    assert velocity > 0.01
    assert last.reward == pytest.approx(-10 * (0.05 * 1.7 + 0.1 * velocity))
    assert last.truncated and not last.terminated
    assert bool(last.info.success) == (np.linalg.norm(last.state.x - target) < 0.1)
    assert not world.step(ChainState(target + 0.05, target, jnp.array(0)), STILL, KEY).info.success
    lost = world.step(ChainState(target * jnp.nan, target, jnp.array(199)), STILL, KEY)
    assert lost.terminated and lost.info.violation and not lost.truncated and not lost.info.success


def test_the_published_world_takes_actions_as_they_come(x64):
    for definition, moved in (("corrected", 0.05), ("published", 0.15)):
        world = make_task("chain", definition=definition).environment
        state = world.reset(KEY)
        new = world.step(state, jnp.array([3.0, 0.0, 0.0]), KEY).state
        np.testing.assert_allclose(new.x[9:12] - state.x[9:12], [moved, 0.0, 0.0], atol=1e-12)


@every_size
def test_sizes_follow_from_the_number_of_masses(masses):
    task = make_task("chain", masses=masses)
    size = 6 * masses - 9
    assert task.environment.observation_size == task.problem.state_size == len(task.state_names) == size
    assert ParameterSpace(task.problem, task.learned_parameters).size == size + 3
    stages = make_task("chain", masses=masses, interface="stage")
    assert ParameterSpace(stages.problem, stages.learned_parameters).size == 20 * size
    transition = task.environment.step(task.environment.reset(KEY), jnp.ones(3), KEY)
    x = task.planner_state(transition.observation)
    np.testing.assert_allclose(
        task.problem.dynamics(x, STILL), task.environment.step(transition.state, STILL, KEY).state.x
    )


def test_five_masses_have_24_parameters_or_420(x64):
    problem, stage = ChainTask().problem, ChainTask(interface="stage")
    space = ParameterSpace(problem, ChainTask().learned_parameters)
    np.testing.assert_allclose(space.flatten(problem), [1.0] * 21 + [0.1] * 3)
    np.testing.assert_allclose(space.low, [0.5] * 21 + [0.05] * 3)
    np.testing.assert_allclose(space.high, [1.5] * 21 + [0.15] * 3)
    space = ParameterSpace(stage.problem, stage.learned_parameters)
    assert (space.size, space.shapes) == (420, ((20, 21),))


def test_costs_and_time_steps_are_the_published_ones(x64):
    problem = ChainProblem()
    x, u = random_state(5), jnp.array([0.5, -0.2, 0.1])
    target = resting_chain(Chain(), jnp.array([0.132, 0.0, 0.0]))
    cost = 0.5 * np.sum((x - target) ** 2)
    assert 0.5 * jnp.sum(problem.terminal_residual(x) ** 2) == pytest.approx(cost)
    assert 0.5 * jnp.sum(problem.stage_residual(x, u) ** 2) == pytest.approx(cost + 0.5 * 0.01 * np.sum(u**2))
    bounds = problem.control_bounds()
    assert (float(bounds.lower), float(bounds.upper), bounds.slack) == (-1.0, 1.0, None)
    published = make_task("chain", definition="published").problem
    assert (problem.horizon, problem.time_step) == (20, 0.05) and problem.time_step == Chain().time_step
    assert (published.horizon, published.time_step) == (20, 0.0125)


@pytest.mark.long
def test_plans_are_found_from_every_start_and_bring_the_chain_closer():
    """Held for as long as planned, the plan's first control leads to the plan's second state."""
    task = ChainTask()
    states = jax.vmap(task.environment.reset)(jax.random.split(KEY, 100))
    plans = jax.vmap(solve, (None, 0))(task.problem, states.x)
    assert (plans.status == Status.SOLVED).all() and int(plans.iterations.max()) <= 4
    stepped = jax.vmap(task.environment.step, (0, 0, None))(states, plans.controls[:, 0], KEY)
    np.testing.assert_allclose(stepped.state.x, plans.states[:, 1], atol=1e-4)
    before = np.linalg.norm(states.x - states.target, axis=1)
    after = np.linalg.norm(plans.states[:, -1] - states.target, axis=1)
    assert (after < 0.6 * before).all()  # a second is not enough to come to rest


@pytest.mark.slow
def test_stages_with_equal_weights_plan_as_one_and_the_first_weight_moves_nothing(x64):
    """Three masses and five stages, so that it compiles soon."""

    def plan(interface):
        task = ChainTask(problem=ChainProblem(masses=3, horizon=5), environment=Chain(masses=3), interface=interface)
        return task.problem, task.environment.reset(KEY).x

    def controls(problem, x):
        return jnp.sum(solve(problem, x).controls[0])

    (once, x), (stages, _) = plan("global"), plan("stage")
    value, total = eqx.filter_value_and_grad(controls)(once, x)
    same, slopes = eqx.filter_value_and_grad(controls)(stages, x)
    assert same == pytest.approx(float(value), rel=1e-9)
    by_stage = np.asarray(slopes.state_weight_root.values)
    np.testing.assert_allclose(by_stage.sum(0), total.state_weight_root, atol=1e-7)
    assert not by_stage[0].any() and (np.abs(by_stage[1:]).max(1) > 1e-4).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Chain(masses=2), "Chain got masses=2; at least 3 were expected"),
        (lambda: ChainProblem(masses=2), "ChainProblem got masses=2; at least 3 were expected"),
        (lambda: ChainTask(problem=ChainProblem(masses=3)), "a chain of 5 masses and a problem of 3"),
        (
            lambda: ChainProblem(masses=4, reference=jnp.zeros(21)),
            r"ChainProblem has 4 masses and a reference of shape \(21,\); \(15,\) was expected",
        ),
        (
            lambda: ChainTask(problem=ChainProblem(), definition="published"),
            "ChainTask got definition='published' and a problem; leave one of them out",
        ),
    ],
)
def test_what_does_not_fit_is_refused(build: Any, message):
    with pytest.raises(ValueError, match=message):
        build()
