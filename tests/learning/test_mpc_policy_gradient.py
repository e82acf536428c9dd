"""The policy gradient on a planner's own parameters against differences of the exact cost of a linear policy."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import planahead as pa
from planahead.learning import MPCPolicyGradient
from planahead.learning.mpc_policy_gradient import Slopes, mixed_derivative, slopes_of
from planahead.learning.mpc_q_learning import q_value
from planahead.learning.planner_learner import Tried
from planahead.policies import TunedPlanner
from tests.learning.linear_quadratic import DISCOUNT, EXACT, LIMIT, A, B, PlantTask, Q, R, WrongModel, policy_of, taught
from tests.planning.study import quick_jit

STEPS, NOISE = 120, 0.05
STARTS = np.sqrt(2.0) * np.concatenate([np.eye(2), -np.eye(2)])  # of mean outer product 1


def gain_of(policy: TunedPlanner, unit) -> np.ndarray:
    """K of π(s) = -K s: the planner is linear in the state."""
    problem = policy.problem(jnp.asarray(unit))
    act = quick_jit(jax.jacrev(lambda x: pa.solve(problem, x, planner=EXACT).controls[0]))
    return -np.asarray(act(jnp.array([0.3, 0.4])))


def exact_cost(K: np.ndarray) -> float:
    """E[Σ γᵗ ℓ] = ½ tr P_K of the policy -K s from starts whose mean outer product is 1, by Lyapunov's equation."""
    closed = np.sqrt(DISCOUNT) * (A - B @ K)
    return 0.5 * float(np.trace(scipy.linalg.solve_discrete_lyapunov(closed.T, Q + K.T @ R @ K)))


def differences(policy: TunedPlanner, step: float = 1e-5) -> np.ndarray:
    """∇J by the unit parameters, by central differences of the exact cost."""
    moved = step * np.eye(policy.unit.size)
    slopes = [
        exact_cost(gain_of(policy, policy.unit + e)) - exact_cost(gain_of(policy, policy.unit - e)) for e in moved
    ]
    return np.array(slopes) / (2 * step)


def experience(policy: TunedPlanner) -> tuple[Tried, np.ndarray]:
    """Every state that the policy visits twice, with the action moved up and down, and γᵗ as its weight."""
    K, states, weights = gain_of(policy, policy.unit), [], []
    x = STARTS
    for t in range(STEPS):
        states.append(x)
        weights.append(np.full(len(x), DISCOUNT**t))
        x = x @ (A - B @ K).T
    s = np.concatenate(states).repeat(2, axis=0)
    planned = -s @ K.T
    noise = NOISE * LIMIT * np.tile([[1.0], [-1.0]], (len(s) // 2, 1))
    a = planned + noise
    cost = 0.5 * (np.einsum("bi,ij,bj->b", s, Q, s) + np.einsum("bi,ij,bj->b", a, R, a))
    no = np.zeros(len(s), bool)
    tried = tried_of(s, planned / LIMIT, a / LIMIT, cost, s @ A.T + a @ B.T, no, no, ~no)
    return tried, np.concatenate(weights).repeat(2)


def tried_of(*columns: np.ndarray) -> Tried:
    return Tried(*map(jnp.asarray, columns))


def slopes_at(policy: TunedPlanner, tried: Tried) -> Slopes:
    return quick_jit(lambda tried: jax.vmap(lambda row: slopes_of(policy, row.observation))(tried))(tried)


@pytest.mark.long
@pytest.mark.parametrize("horizon", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_compatible_features_give_the_gradient_of_the_exact_cost(horizon, x64):
    problem = WrongModel(horizon=horizon)
    policy = policy_of(problem)
    tried, weights = experience(policy)
    learner = MPCPolicyGradient(exploration=NOISE, ridge=1e-7)
    slopes = slopes_at(policy, tried)
    found = learner.compatible(tried, slopes, DISCOUNT, jnp.ones(2), jnp.asarray(weights))
    expected = differences(policy)
    total = weights.sum() / (2 * len(STARTS))  # Σ γᵗ: the estimate is a mean over what was visited
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found.gradient * total, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_local_critic_gives_the_same_gradient_and_it_is_minus_m_w(x64):
    """With a quadratic cost and N = 1, Q + ∇Qᵀw can be any quadratic, so the critic of Anand et al. is exact too. At an
    interior plan ∇π = -∇²_{ya}Q (∇²_{aa}Q)⁻¹, and the gradient is -M w with M positive semidefinite."""
    policy = policy_of(WrongModel())
    tried, weights = experience(policy)
    learner = MPCPolicyGradient(advantage="local", exploration=NOISE, ridge=1e-9)
    slopes = slopes_at(policy, tried)
    found = quick_jit(learner.local)(policy, tried, slopes, DISCOUNT, jnp.asarray(weights))
    total = weights.sum() / (2 * len(STARTS))
    np.testing.assert_allclose(found.gradient * total, differences(policy), rtol=1e-4, atol=1e-5)

    def curvature(row):
        def value(action):
            return q_value(policy, policy.unit, eqx.tree_at(lambda row: row.action, row, action))

        return jax.jacrev(jax.grad(value))(row.planned)

    few = jax.tree.map(lambda leaf: leaf[::60], tried)
    mixed = np.asarray(quick_jit(jax.vmap(lambda row: mixed_derivative(policy, row)[0]))(few))
    second = np.asarray(quick_jit(jax.vmap(curvature))(few))
    assert (second[:, 0, 0] > 0).all()
    np.testing.assert_allclose(slopes.jacobian[::60], -np.linalg.solve(second, mixed), rtol=1e-6, atol=1e-9)

    all_mixed = np.asarray(quick_jit(jax.vmap(lambda row: mixed_derivative(policy, row)[0]))(tried))
    each = np.einsum("b,bun,bum->nm", weights, all_mixed, all_mixed) / second[0, 0, 0] / weights.sum()
    assert np.linalg.eigvalsh(each)[0] > -1e-12
    np.testing.assert_allclose(found.gradient, -each @ found.weights, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_nothing_is_left_to_correct_where_the_planner_is_right(x64):
    """At the taught parameters w = 0, and so is the gradient."""
    policy = policy_of(taught(1))
    tried, weights = experience(policy)
    learner = MPCPolicyGradient(advantage="local", exploration=NOISE, ridge=1e-9)
    found = quick_jit(learner.local)(policy, tried, slopes_at(policy, tried), DISCOUNT, jnp.asarray(weights))
    np.testing.assert_allclose(found.weights, 0.0, atol=1e-6)
    np.testing.assert_allclose(found.gradient, 0.0, atol=1e-8)
    np.testing.assert_allclose(differences(policy), 0.0, atol=1e-6)
    assert float(found.td_error) < 1e-7


def test_exploration_has_no_mean_and_stays_inside():
    learner = MPCPolicyGradient(exploration=0.2)
    planned = jnp.tile(jnp.array([[-1.0], [-0.95], [0.0], [0.9], [1.0]]), (4000, 1))
    tried = np.asarray(learner.explore(planned, jax.random.key(0))).reshape(-1, 5)
    moved = tried - np.array([-1.0, -0.95, 0.0, 0.9, 1.0])
    reach = np.array([0.0, 0.05, 0.2, 0.1, 0.0])
    assert (np.abs(tried) <= 1.0).all() and (np.abs(moved) <= reach + 1e-6).all()
    np.testing.assert_allclose(moved.mean(axis=0), 0.0, atol=4 * 0.2 / np.sqrt(3 * 4000))
    np.testing.assert_allclose(moved.std(axis=0), reach / np.sqrt(3), atol=0.005)


def test_a_state_counts_the_same_however_little_is_explored_there(x64):
    """Two kinds of states whose advantages ask for different things, one of them near a bound: w is that of equal
    weights, which least squares without the instrument would not find."""
    learner = MPCPolicyGradient(exploration=0.2, ridge=1e-12)
    planned = np.tile([[0.0], [0.95]], (400, 1))  # the second can move by 0.05 alone
    reach = np.minimum(0.2, 1 - planned)
    noise = reach * np.repeat([[1.0], [-1.0], [0.5], [-0.5]], 200, axis=0)
    slope = np.where(planned == 0.0, 1.0, 3.0)  # of the advantage by the action
    no, zero = np.zeros(800, bool), np.zeros((800, 1))
    cost = (slope * noise)[:, 0]
    tried = tried_of(zero, planned, planned + noise, cost, zero, no, no, ~no)
    slopes = Slopes(jnp.ones((800, 1, 1)), jnp.ones(800, bool))
    found = learner.compatible(tried, slopes, 0.0, jnp.ones(1), jnp.ones(800))
    np.testing.assert_allclose(found.weights, 2.0, rtol=1e-9)  # and not (0.2² + 3 0.05²)/(0.2² + 0.05²) = 1.12
    np.testing.assert_allclose(found.gradient, 2.0, rtol=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("advantage", ["compatible", "local"])
def test_rows_whose_solve_failed_are_left_out_and_counted(advantage, x64):
    policy = policy_of(WrongModel())
    tried, _ = experience(policy)
    tried = jax.tree.map(lambda leaf: leaf[:48], tried)
    marked = dataclasses.replace(tried, usable=tried.usable.at[::4].set(False), cost=tried.cost.at[::4].set(1e6))
    kept = jax.tree.map(lambda leaf: leaf[np.arange(48) % 4 != 0], tried)
    learner = MPCPolicyGradient(
        advantage=advantage, exploration=NOISE, environments=4, steps_per_update=48, steps_per_chunk=48
    )
    state = learner.init(PlantTask(), policy, jax.random.key(0))
    improve = quick_jit(lambda tried: learner.improve(state, tried, jax.random.key(0))[1])
    left, expected = improve(marked), improve(kept)
    assert float(left.metrics["failed_updates"]) == 0.25
    np.testing.assert_allclose(left.gradient, expected.gradient, rtol=1e-8)


@pytest.mark.parametrize("advantage", ["compatible", pytest.param("local", marks=pytest.mark.slow)])
def test_cost_and_violations_of_the_linear_system_fall(advantage):
    task = pa.make_task("linear")
    policy, learner = pa.make_algorithm("mpc-dpg", task, jax.random.key(0), advantage=advantage)
    state, seen = learner.init(task, policy, jax.random.key(1)), []
    for chunk in range(3):
        state, metrics = learner.advance(state, jax.random.key(chunk))
        seen.append({name: float(metrics[name]) for name in ("return", "violations_per_step")})
        assert metrics["failed_updates"] == 0.0 and np.abs(state.policy.unit).max() <= 1.0
    assert seen[0]["return"] < -25 < -12 < seen[-1]["return"]
    assert seen[0]["violations_per_step"] > 0.1 and seen[-1]["violations_per_step"] < 0.03


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="advantage='linear': 'compatible' or 'local' was expected"):
        pa.make_algorithm("mpc-dpg", pa.make_task("linear"), jax.random.key(0), advantage="linear")
    with pytest.raises(ValueError, match=r"exploration=0.0; a critic of actions needs several actions in a state"):
        MPCPolicyGradient(exploration=0.0)
    with pytest.raises(ValueError, match="algorithm 'mpc-dpg' has no network, so no setting 'hidden_units'; leave it"):
        pa.make_algorithm("mpc-dpg", pa.make_task("linear"), jax.random.key(0), hidden_units=8)
