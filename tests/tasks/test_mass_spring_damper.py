"""The mass-spring-damper against the closed form of its best controller."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import planahead as pa
from planahead.problem import ParameterSpace, riccati_solution
from planahead.tasks import (
    MassSpringDamper,
    MassSpringDamperProblem,
    MassSpringDamperState,
    MassSpringDamperTask,
    make_task,
)

KEY = jax.random.key(0)
A = np.array([[1.0, 0.1], [-0.05, 0.99]])  # Euler, 0.1 s, of m = 1, b = 0.1, k = 0.5
B = np.array([[0.0], [0.1]])
Q, R = np.diag([1.0, 0.1]), np.array([[0.01]])


def at(*x, step=0):
    return MassSpringDamperState(x=jnp.array(x, float), step=jnp.array(step))


def best():
    P = scipy.linalg.solve_discrete_are(A, B, Q, R)
    return P, np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)


def test_the_plant_is_the_published_linear_system(x64):
    x, u = jnp.array([0.3, -0.7]), jnp.array([0.2])
    transition = MassSpringDamper().step(at(*x), u, KEY)
    np.testing.assert_allclose(transition.observation, A @ x + B @ u, rtol=1e-14)
    assert transition.reward == pytest.approx(-(0.3**2 + 0.1 * 0.7**2 + 0.01 * 0.2**2))


def test_the_spring_pulls_to_rest():
    np.testing.assert_array_equal(MassSpringDamper().step(at(0.0, 0.0), jnp.zeros(1), KEY).observation, [0.0, 0.0])


def test_damping_is_the_only_loss_of_energy(x64):
    """Without damping the energy ½ m v² + ½ k x² drifts by O(h) under Euler's rule: halving the step halves it."""

    def drift(time_step):
        world = dataclasses.replace(MassSpringDamper(), damping=0.0, time_step=time_step)
        step = jax.jit(lambda state: world.step(state, jnp.zeros(1), KEY).state)
        state = at(0.5, 0.0)
        for _ in range(round(1 / time_step)):
            state = step(state)
        return 0.5 * state.x[1] ** 2 + 0.25 * state.x[0] ** 2 - 0.25 * 0.5**2

    assert 1.9 < drift(0.01) / drift(0.005) < 2.1


def test_leaving_the_limits_terminates_and_time_truncates():
    world = MassSpringDamper()
    out = world.step(at(1.95, 1.9), jnp.array([0.5]), KEY)
    assert out.terminated and out.info.violation and not out.truncated
    last = world.step(at(0.0, 0.0, step=49), jnp.zeros(1), KEY)
    assert last.truncated and not last.terminated and not world.step(at(0.0, 0.0, step=48), jnp.zeros(1), KEY).truncated
    lost = world.step(at(math.nan, 0.0), jnp.zeros(1), KEY)
    assert lost.terminated and not lost.info.success


def test_success_is_rest():
    world = MassSpringDamper()
    assert world.step(at(0.05, 0.05), jnp.zeros(1), KEY).info.success
    assert not world.step(at(0.05, 0.2), jnp.zeros(1), KEY).info.success
    assert not world.step(at(0.2, 0.05), jnp.zeros(1), KEY).info.success


def test_an_episode_starts_within_half_the_limits():
    starts = np.asarray(jax.vmap(MassSpringDamper().reset)(jax.random.split(KEY, 300)).x)
    assert (np.abs(starts) <= 1).all() and (np.abs(starts).max(0) > 0.9).all()


def test_the_planner_has_eight_parameters_and_is_wrong_about_the_body():
    task = MassSpringDamperTask()
    space = ParameterSpace(task.problem, task.learned_parameters)
    assert space.size == 8
    np.testing.assert_allclose(space.flatten(task.problem)[:3], [1.5, 0.7, 2.0])
    np.testing.assert_allclose(space.flatten(task.problem)[3:] ** 2, [5.0, 0.2, 0.08, 5.0, 0.5], rtol=1e-6)
    np.testing.assert_allclose(space.high[3:] ** 2, [10.0, 1.0, 0.1, 10.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(space.low[3:] ** 2, [0.1, 0.01, 0.001, 1.0, 0.1], rtol=1e-6)
    x, u = jnp.array([0.5, 0.2]), jnp.array([0.1])
    assert not np.allclose(task.problem.dynamics(x, u), task.environment.step(at(*x), u, KEY).observation, atol=1e-3)


def test_the_matched_planner_has_the_plants_model_and_the_riccati_terminal_cost(x64):
    task = MassSpringDamperTask(matched=True)
    x, u = jnp.array([0.5, 0.2]), jnp.array([0.1])
    transition = task.environment.step(at(*x), u, KEY)
    np.testing.assert_allclose(task.problem.dynamics(x, u), transition.observation, rtol=1e-14)
    assert jnp.sum(task.problem.stage_residual(x, u) ** 2) == pytest.approx(-float(transition.reward))
    P, _ = best()
    np.testing.assert_allclose(jnp.sum(task.problem.terminal_residual(x) ** 2), x @ P @ x, rtol=1e-10)
    space = ParameterSpace(task.problem, task.learned_parameters)
    assert (np.abs(space.to_unit(space.flatten(task.problem))) < 1).all()


def test_the_riccati_iteration_agrees_with_scipy():
    np.testing.assert_allclose(riccati_solution(A, B, Q, R), best()[0], rtol=1e-11)


def test_the_riccati_iteration_says_when_nothing_settles():
    with pytest.raises(ValueError, match=r"did not settle in 50 steps; is the pair \(A, B\) stabilisable\?"):
        riccati_solution(2 * np.eye(2), np.zeros((2, 1)), Q, R, iterations=50)


def test_a_matched_planner_follows_the_constants_of_its_world():
    task = make_task("mass-spring-damper", matched=True, mass=2.0)
    assert task.environment.mass == task.problem.mass == 2.0


@pytest.mark.long
def test_a_stiffer_spring_is_the_planners_only_mistake(x64):
    """And its value is what the world pays from there, with a discount, where the spring is right."""
    wrong = MassSpringDamperTask(matched=True, stiffness_factor=5.0, discount=0.9)
    assert wrong.problem.stiffness == 5 * wrong.environment.stiffness
    for constant in ("mass", "damping"):
        assert getattr(wrong.problem, constant) == getattr(wrong.environment, constant)
    right, x = MassSpringDamperTask(matched=True, discount=0.9), jnp.array([0.05, -0.02])
    P = riccati_solution(np.sqrt(0.9) * A, np.sqrt(0.9) * B, Q, R)
    value = pa.value(right.problem, x)
    np.testing.assert_allclose(value, 0.5 * x @ P @ x, rtol=1e-8)
    plan, world = pa.solve(right.problem, x), right.environment
    told = right.imagined(x, plan.states, plan.controls)
    state, earned = at(*x), []
    for k, u in enumerate(plan.controls):
        moved = world.step(state, u, KEY)
        np.testing.assert_allclose(told.rewards[k], moved.reward, rtol=1e-9)
        np.testing.assert_allclose(told.observations[k + 1], moved.observation, atol=1e-9)
        state, earned = moved.state, [*earned, 0.9**k * float(moved.reward)]
    assert told.known.all() and right.reward_per_cost() == 2.0 and MassSpringDamperTask().reward_per_cost() is None
    last = 0.9 ** len(earned) * float(pa.value(right.problem, plan.states[-1]))
    np.testing.assert_allclose(value, -0.5 * sum(earned) + last, rtol=1e-8)


def test_what_comes_after_the_limits_is_not_known():
    task, x = MassSpringDamperTask(matched=True), jnp.array([1.9, 1.8])
    states = [x]
    for _ in range(5):
        states.append(task.problem.dynamics(states[-1], jnp.array([0.5])))
    told = task.imagined(x, jnp.stack(states), jnp.full((5, 1), 0.5))
    assert told.known.tolist() == [False] * 5
    assert task.imagined(x, jnp.stack(states[:1] * 6), jnp.full((5, 1), 0.5)).known.all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stiffness_factor": 2.0}, "are of the planner with the world's own prices; add matched=True"),
        ({"matched": True, "stiffness_factor": 0.0}, "a positive factor and a discount above 0 and up to 1"),
        ({"matched": True, "discount": 1.5}, "a positive factor and a discount above 0 and up to 1"),
    ],
)
def test_beliefs_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MassSpringDamperTask(**settings)


def test_the_safety_filter_is_about_the_world_and_not_about_what_the_planner_believes():
    world = MassSpringDamper(mass=jnp.array(0.8), state_limit=jnp.array(1.5))
    problem = MassSpringDamperTask(world).safety_problem()
    x, u = jnp.array([0.7, -0.4]), jnp.array([0.3])
    moved = world.step(MassSpringDamperState(x=x, step=jnp.array(0)), u, KEY)
    np.testing.assert_allclose(problem.dynamics(x, u), moved.observation, rtol=1e-6)
    np.testing.assert_array_equal(problem.base.state_bounds().upper, [1.5, 1.5])


def test_matched_and_a_problem_exclude_each_other():
    with pytest.raises(ValueError, match="got matched=True and a problem; leave one of them out"):
        MassSpringDamperTask(problem=MassSpringDamperProblem(), matched=True)
