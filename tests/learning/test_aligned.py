"""Aligned learning: against least squares, Riccati's equation and the definition of its windows."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import planahead as pa
from planahead.learning import AlignedLearning, Replay
from planahead.learning.mpc_q_learning import q_direction
from planahead.learning.planner_learner import PlannerLearnerState, Tried
from planahead.learning.windows import Window, prediction_errors, quadratic_value, window_of
from planahead.policies import TunedPlanner
from planahead.problem import wraps
from tests.learning.linear_quadratic import (
    DISCOUNT,
    EXACT,
    LIMIT,
    WRONG_A,
    WRONG_B,
    A,
    B,
    PlantTask,
    Q,
    R,
    WrongModel,
    optimum,
)

SMALL: dict[str, Any] = {
    "environments": 8, "steps_per_update": 32, "steps_per_chunk": 320, "batch_size": 64, "replay_size": 320,
}  # fmt: skip
ONE = jnp.ones(2)


class Modelled(pa.Problem):
    """The world's cost, with a model that is to be learned, and a wrong one at the end: without one, one step ahead, no
    control would be worth its price, and the unstable world's discounted cost not finite."""

    horizon: int = pa.static(1)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    discount: Array | float = pa.static(DISCOUNT)
    state_matrix: Array = pa.parameter(WRONG_A, low=-3.0, high=3.0)
    control_matrix: Array = pa.parameter(WRONG_B, low=-3.0, high=3.0)
    price: Array = pa.parameter(1.0, low=0.1, high=10.0)

    def dynamics(self, x, u):
        return self.state_matrix @ x + self.control_matrix @ u

    def stage_residual(self, x, u):
        roots = jnp.asarray(np.sqrt(Q)), jnp.asarray(np.sqrt(R))
        return jnp.sqrt(self.price) * jnp.concatenate([roots[0] @ x, roots[1] @ u])

    def terminal_residual(self, x):
        return 2.0 * x


def begun(learner: AlignedLearning, problem: pa.Problem | None = None) -> PlannerLearnerState:
    names = ("state_matrix", "control_matrix", "price")
    task = PlantTask(problem=Modelled() if problem is None else problem, learned_parameters=names)
    planned, box = learner.planned(task, jax.random.key(0)), pa.ActionBox((-LIMIT,), (LIMIT,))
    policy = TunedPlanner(planned, task.planner_state, box, names=learner.trained(task), planner=EXACT)
    return learner.init(task, policy, jax.random.key(1))


def truth() -> Modelled:
    return Modelled(state_matrix=jnp.asarray(A), control_matrix=jnp.asarray(B))


def driven(number: int, steps: int, noise: float = 0.0) -> Window:
    """The world from random states under random controls."""
    random = np.random.default_rng(0)
    states, controls = [random.normal(size=(number, 2))], random.normal(size=(steps, number, 1))
    for u in controls:
        states.append(states[-1] @ A.T + u @ B.T + noise * random.normal(size=(number, 2)))
    x, u = np.stack(states, axis=1), np.stack(list(controls), axis=1)
    costs = 0.5 * (np.einsum("bhi,ij,bhj->bh", x[:, :-1], Q, x[:, :-1]) + np.einsum("bhi,ij,bhj->bh", u, R, u))
    no = np.zeros((number, steps), bool)
    parts = map(jnp.asarray, (x, u, costs, no, ~no, ~no[:, 0]))
    return Window(*parts)


def nothing_tried(state: PlannerLearnerState) -> Tried:
    return state.memory.replay.sample(jax.random.key(0), 4)


@pytest.mark.parametrize("steps", [1, 5])
def test_the_true_constants_are_found(steps: int, x64):
    """Without noise the loss over H steps has them as its minimum, whatever H; the world's, from a wrong model."""
    learner = AlignedLearning(
        prediction_steps=steps, learning_rate=1.0, largest_change=0.2, regularisation=1e-9, **SMALL
    )
    state, metrics = begun(learner), {}
    assert state.policy.steering.space.names == ("state_matrix", "control_matrix")
    for chunk in range(2):
        state, metrics = learner.advance(state, jax.random.key(chunk))
    problem: Any = state.policy.problem()
    np.testing.assert_allclose(problem.state_matrix, A, atol=1e-8)
    np.testing.assert_allclose(problem.control_matrix, B, atol=1e-8)
    assert float(metrics["prediction_error"]) < 1e-8 and float(metrics["diverged_predictions"]) == 0.0


def test_a_step_of_one_step_predictions_is_the_least_squares_solution(x64):
    learner = AlignedLearning(prediction_steps=1, regularisation=1e-12, **SMALL)
    state, windows = begun(learner), driven(50, 1, noise=0.1)
    found = learner.direction(state, windows, nothing_tried(state))
    assert found.curvature is not None
    unit = state.policy.unit - jnp.linalg.solve(found.curvature, found.gradient)
    z = np.hstack([windows.states[:, 0], windows.controls[:, 0]])
    expected = np.linalg.lstsq(z, np.asarray(windows.states[:, 1]), rcond=None)[0].T
    problem: Any = state.policy.problem(unit)
    np.testing.assert_allclose(np.hstack([problem.state_matrix, problem.control_matrix]), expected, atol=1e-8)


def test_the_gradient_over_several_steps_is_that_of_the_loss(x64):
    learner, windows = AlignedLearning(prediction_steps=3, **SMALL), driven(20, 3)
    state = begun(learner)
    found = learner.direction(state, windows, nothing_tried(state))

    def loss(unit: Array) -> Array:
        problem = state.policy.problem(unit)
        errors = jax.vmap(lambda window: prediction_errors(state.task, problem, window, ONE))(windows)
        return 0.5 * jnp.sum(errors**2) / 60

    np.testing.assert_allclose(found.gradient, jax.grad(loss)(state.policy.unit), rtol=1e-10)


def test_the_true_model_has_no_error_over_any_number_of_steps(x64):
    windows, task = driven(20, 7), PlantTask()
    errors = jax.vmap(lambda window: prediction_errors(task, truth(), window, ONE))(windows)
    np.testing.assert_allclose(errors, 0.0, atol=1e-13)
    wrong = jax.vmap(lambda window: prediction_errors(task, Modelled(), window, ONE))(windows)
    assert np.all(np.linalg.norm(wrong, axis=2) > 1e-6)


def test_windows_end_with_their_episode_and_with_what_is_stored():
    """Three environments whose episodes end at random; a state tells its environment, episode and step."""
    random, environments, length = np.random.default_rng(0), 3, 4
    policy = begun(AlignedLearning(**SMALL)).policy
    policy = eqx.tree_at(lambda p: p.steering.planner_state, policy, lambda o: o, is_leaf=callable)
    zero, no = jnp.zeros(1), jnp.array(False)
    replay = Replay(Tried(jnp.zeros(3), zero, zero, jnp.zeros(()), jnp.zeros(3), no, no, no), 60, environments)
    at = np.array([[lane, 0, 0] for lane in range(environments)], float)
    for _ in range(33):  # more than are kept
        terminated, truncated = random.random(environments) < 0.15, random.random(environments) < 0.15
        after = at + np.array([0, 0, 1])
        columns = (at, at[:, :1], at[:, :1], at[:, 0], after, terminated, truncated, ~no & np.ones(environments, bool))
        replay = replay.insert(Tried(*map(jnp.asarray, columns)))
        ended = terminated | truncated
        at = np.where(ended[:, None], at * [1, 0, 0] + [0, 1, 0] + at * [0, 1, 0], after)
    drawn = replay.windows(jax.random.key(0), 400, length, environments)
    windows = jax.vmap(lambda rows, stored: window_of(policy, rows, stored))(drawn.rows, drawn.stored)
    states, known = np.asarray(windows.states), np.asarray(windows.known)
    steps = known.sum(axis=1)
    assert set(steps) == {1, 2, 3, 4} and known[:, 0].all()
    for x, m in zip(states, steps, strict=True):
        np.testing.assert_array_equal(x[: m + 1] - x[0], np.arange(m + 1)[:, None] * [0, 0, 1])
    rows: Any = drawn.rows
    ends, stored = np.asarray(rows.terminated | rows.truncated), np.asarray(drawn.stored)
    for m, end, there in zip(steps, ends, stored, strict=True):  # and go on as long as they can
        assert m == length or end[m - 1] or not there[m]


@pytest.mark.long
@pytest.mark.parametrize("steps", [1, 3])
def test_the_value_of_the_best_policy_is_riccatis(steps: int, x64):
    """A right model, one step ahead and a wrong end: fitting V and planning with it is policy iteration."""
    learner = AlignedLearning(
        fits="nothing", terminal_value=True, prediction_steps=steps, exploration=0.0, value_rate=1.0, value_after=64,
        **SMALL,
    )  # fmt: skip
    state, metrics = begun(learner, truth()), {}
    for chunk in range(4):
        state, metrics = learner.advance(state, jax.random.key(chunk))
    problem: Any = state.policy.problem()
    np.testing.assert_allclose(problem.quadratic.curvature, optimum().P, rtol=1e-5)
    np.testing.assert_allclose(problem.quadratic.slope, 0.0, atol=1e-6)
    gain = jax.jacrev(lambda x: pa.solve(problem, x, planner=EXACT).controls[0])(jnp.array([0.5, 0.2]))
    np.testing.assert_allclose(gain, -optimum().K, rtol=1e-5)
    np.testing.assert_array_equal(state.policy.unit, begun(learner, truth()).policy.unit)
    assert float(metrics["failed_windows"]) == 0.0


def policys_windows(number: int, steps: int) -> Window:
    """The world under its best policy."""
    K, window = optimum().K, driven(number, steps)
    states = [np.asarray(window.states[:, 0])]
    for _ in range(steps):
        states.append(states[-1] @ (A - B @ K).T)
    x = np.stack(states, axis=1)
    u = -x[:, :-1] @ K.T
    costs = 0.5 * (np.einsum("bhi,ij,bhj->bh", x[:, :-1], Q, x[:, :-1]) + np.einsum("bhi,ij,bhj->bh", u, R, u))
    return dataclasses.replace(window, states=jnp.asarray(x), controls=jnp.asarray(u), costs=jnp.asarray(costs))


def test_a_failed_solve_is_left_out_of_a_value_and_counted(x64):
    windows = policys_windows(60, 4)
    found = quadratic_value(windows, DISCOUNT, ONE)
    np.testing.assert_allclose(found.curvature, optimum().P, rtol=1e-5)
    spoilt = dataclasses.replace(windows, costs=windows.costs.at[7].set(1e3), usable=windows.usable.at[7].set(False))
    np.testing.assert_allclose(quadratic_value(spoilt, DISCOUNT, ONE).curvature, optimum().P, rtol=1e-5)
    counted = dataclasses.replace(spoilt, usable=windows.usable)
    assert np.abs(quadratic_value(counted, DISCOUNT, ONE).curvature - optimum().P).max() > 1.0
    learner = AlignedLearning(prediction_steps=4, **SMALL)
    state = begun(learner)
    metrics = learner.direction(state, spoilt, nothing_tried(state)).metrics
    assert float(metrics["failed_windows"]) == pytest.approx(1 / 60)


def test_windows_of_unequal_length_have_one_value_and_an_end_has_none(x64):
    windows = policys_windows(90, 4)
    known = jnp.arange(4)[None] < jnp.arange(90)[:, None] % 4 + 1
    spoilt = jnp.where(known, windows.costs, jnp.nan)
    found = quadratic_value(dataclasses.replace(windows, known=known, costs=spoilt), DISCOUNT, ONE)
    np.testing.assert_allclose(found.curvature, optimum().P, rtol=1e-5)
    ended = dataclasses.replace(windows, terminated=windows.terminated.at[:, 3].set(True))
    K, P, closed = optimum().K, np.zeros((2, 2)), A - B @ optimum().K
    for _ in range(4):
        P = Q + K.T @ R @ K + DISCOUNT * closed.T @ P @ closed
    np.testing.assert_allclose(quadratic_value(ended, DISCOUNT, ONE).curvature, P, rtol=1e-5)


def test_a_diverged_prediction_moves_nothing_and_is_counted(x64):
    learner, windows = AlignedLearning(prediction_steps=2, **SMALL), driven(10, 2)
    state = begun(learner)
    spoilt = dataclasses.replace(windows, states=windows.states.at[3, 0].set(jnp.inf))
    found = learner.direction(state, spoilt, nothing_tried(state))
    kept = jax.tree.map(lambda leaf: jnp.delete(leaf, 3, axis=0), windows)
    expected = learner.direction(state, kept, nothing_tried(state))
    assert float(found.metrics["diverged_predictions"]) == pytest.approx(0.1)
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-10)


@pytest.mark.long
def test_both_objectives_add_up(x64):
    """g = ∇L + ω g_Q and their matrices likewise; at ω = 0 the cost is not trained, above it is."""
    weight, windows = 0.3, driven(20, 3)
    alone, combined = (
        AlignedLearning(prediction_steps=3, regularisation=1e-12, closed_loop_weight=w, **SMALL) for w in (0.0, weight)
    )
    state = begun(combined)
    assert state.policy.steering.space.names == ("state_matrix", "control_matrix", "price")
    state, _ = combined.advance(state, jax.random.key(0))
    rows = state.memory.replay.sample(jax.random.key(1), 16)
    closed = q_direction(state.policy, rows, DISCOUNT, "gauss-newton", 1e-12)
    aligned, found = (learner.direction(state, windows, rows) for learner in (alone, combined))
    np.testing.assert_allclose(found.gradient, aligned.gradient + weight * closed.gradient, rtol=1e-8, atol=1e-12)
    assert found.curvature is not None and aligned.curvature is not None and closed.curvature is not None
    np.testing.assert_allclose(found.curvature, aligned.curvature + weight * closed.curvature, rtol=1e-8, atol=1e-9)
    assert aligned.gradient[-1] == 0.0 and found.gradient[-1] != 0.0


def test_a_network_learns_what_the_model_leaves_out(x64):
    learner = AlignedLearning(fits="network", prediction_steps=2, network_rate=1e-2, **SMALL)
    state = begun(learner)
    assert wraps(state.policy.steering.problem, pa.ResidualDynamics)
    errors, metrics = [], {}
    for chunk in range(4):
        state, metrics = learner.advance(state, jax.random.key(chunk))
        errors.append(float(metrics["prediction_error"]))
    assert errors[-1] < 0.25 * errors[0]
    np.testing.assert_array_equal(state.policy.unit, begun(learner).policy.unit)


def test_an_angle_counted_from_anew_is_no_error():
    task = pa.make_task("cartpole")
    x, z = jnp.array([0.1, 6.28, 0.0, 0.0]), jnp.array([0.0, -0.01, 0.0, 0.0])
    np.testing.assert_allclose(task.deviation(x, z), [0.1, 6.29 - 2 * np.pi, 0.0, 0.0], atol=1e-5)


@pytest.mark.long
def test_what_cannot_be_fitted_is_refused_in_words():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"CartPoleProblem depend on none .*angle_reference.*; use fits='network'"):
        task = pa.make_task("cartpole")
        AlignedLearning().init(task, TunedPlanner(task.problem, task.planner_state, task.action_box), key)
    task = pa.make_task("mass-spring-damper")
    policy, learner = pa.make_algorithm("mpc-model-value", task, key, discount=0.95)
    with pytest.raises(ValueError, match=r"'mass-spring-damper' does not say what a unit .* use terminal_value=False"):
        learner.init(task, policy, key)
    plain = pa.make_algorithm("mpc-model", task, key).policy
    with pytest.raises(ValueError, match=r"trains a ResidualDynamics here, and .* a MassSpringDamperProblem; give it"):
        AlignedLearning(fits="network").init(task, plain, key)
    with pytest.raises(ValueError, match=r"mass, damping, stiffness of task .* differ from stage to stage"):
        pa.make_algorithm("mpc-model", pa.make_task("mass-spring-damper", interface="stage"), key)
    with pytest.raises(ValueError, match="has a discount of 1"):
        policy, learner = pa.make_algorithm("mpc-model", task, key, closed_loop_weight=0.1)
        learner.init(task, policy, key)
    with pytest.raises(ValueError, match="depend on none of the parameters"):
        wrong = PlantTask(problem=WrongModel())
        policy = TunedPlanner(wrong.problem, wrong.planner_state, wrong.action_box, planner=EXACT)
        AlignedLearning().init(wrong, policy, key)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fits": "nothing"}, "fits=nothing; with neither a value nor a closed loop to learn"),
        ({"prediction_steps": 0}, "prediction_steps=0; at least 1 was expected"),
        ({"closed_loop_weight": -1.0}, r"closed_loop_weight=-1.0; expected 0 \(none\) or more"),
        ({"value_rate": 1.5}, "value_rate=1.5; expected 0 < value_rate <= 1"),
        ({"replay_size": 100}, "replay_size=100 is not a multiple of steps_per_update=80; use 80 or 160"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AlignedLearning(**settings)
