"""An actor's cost to go: its closed form where the actor is a linear law, and what a planner makes of it."""

import dataclasses
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jaxtyping import Array, Float, PRNGKeyArray

import planahead as pa
from planahead.learning.critics import TwinCritic
from planahead.learning.terminal_value import CriticValue, evaluate_actor, fit_terminal_value, visit
from planahead.policies import AC4MPC, Decision, Policy
from planahead.problem import EndingInValue
from tests.learning.integrator import GROWTH, STEP, WEIGHTS, Integrator, IntegratorTask

A, B = np.array([[GROWTH, STEP], [0.0, GROWTH]]), np.array([[0.0], [STEP]])
TASK = IntegratorTask(environment=Integrator(start_spread=jnp.array(0.3)))
# Stabilises, and is far from optimal.
GAIN = np.array([[6.0, 4.5]])


@final
class Linear(Policy):
    gain: Float[Array, "1 2"]

    def initial_memory(self) -> None:
        return None

    def settings(self) -> dict[str, Any]:
        return {}

    def decide(self, observation: Float[Array, " 2"], memory: Any = None, key: PRNGKeyArray | None = None) -> Decision:
        del memory, key
        return Decision(-self.gain @ observation, jnp.zeros(()))


def cost_matrix(gain: np.ndarray) -> np.ndarray:
    """P of ½ xᵀPx, what u = -gain x costs for ever."""
    closed = A - B @ gain
    assert np.abs(np.linalg.eigvals(closed)).max() < 1.0
    return scipy.linalg.solve_discrete_lyapunov(closed.T, np.diag(WEIGHTS[:2]) + WEIGHTS[2] * gain.T @ gain)


def test_roll_outs_cost_what_the_lyapunov_equation_says():
    states = jnp.array([[0.1, 0.0], [-0.05, 0.2], [0.0, 0.0]])
    found = evaluate_actor(TASK, TASK.problem, Linear(jnp.asarray(GAIN, float)), states, 200)
    P = cost_matrix(GAIN)
    expected = [0.5 * x @ P @ x for x in np.asarray(states)]
    assert found.usable.all()
    np.testing.assert_allclose(found.costs, expected, rtol=1e-4)


@final
class Offset(pa.WrappedProblem):
    def initial_cost(self, x: Float[Array, " 2"]) -> Float[Array, ""]:
        return 7.0 + jnp.sum(jnp.abs(x))


@final
class Otherwise(pa.WrappedProblem):
    def action(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 1"]:
        return 2.0 * u


def wrapped(kind: Any) -> pa.Problem:
    return kind(TASK.problem)


def test_what_is_paid_for_a_start_is_not_paid_at_the_end():
    """λ(x_0) of the problem is no cost to go: V^π of a problem with an offset is that of the one without."""
    states, actor = jnp.array([[0.1, 0.0], [-0.05, 0.2]]), Linear(jnp.asarray(GAIN, float))
    plain, offset = (
        evaluate_actor(TASK, problem, actor, states, 50).costs for problem in (TASK.problem, wrapped(Offset))
    )
    np.testing.assert_allclose(offset, plain, rtol=1e-4)


def test_what_no_value_can_be_fitted_to_is_refused_in_words():
    actor = Linear(jnp.asarray(GAIN, float))
    with pytest.raises(ValueError, match="the controls of Otherwise here, and it plans in other terms than its plant"):
        evaluate_actor(TASK, wrapped(Otherwise), actor, jnp.zeros((1, 2)), 3)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"states": 1}, "states=1; at least 2 was expected"),
        ({"stray": 1.5}, "stray=1.5, ceiling=10.0, learning_rate=0.002; a probability and two positive numbers"),
    ]
    for settings, message in wrong:
        with pytest.raises(ValueError, match=message):
            fit_terminal_value(TASK, TASK.problem, actor, jax.random.key(0), **settings)


@pytest.mark.long
def test_a_fitted_value_is_the_actors_and_improves_it():
    """The actor lets the spring do the work; a planner of five steps that ends in what this costs does better."""
    task, actor = pa.make_task("mass-spring-damper"), Linear(jnp.zeros((1, 2)))
    problem = task.problem
    settings: dict[str, Any] = {"states": 2000, "steps_ahead": 150, "fit_steps": 2000, "hidden": (32, 32)}
    fitted = fit_terminal_value(task, problem, actor, jax.random.key(0), **settings)
    assert float(fitted.error) < 0.04 and float(fitted.left_out) == 0.0
    probes = jnp.array([[0.5, 0.0], [0.9, -0.3], [0.1, 0.1]])
    exact = evaluate_actor(task, problem, actor, probes, 150).costs
    np.testing.assert_allclose(jax.vmap(fitted.value)(probes), exact, rtol=0.2)

    policy = AC4MPC.of(task, EndingInValue(problem, fitted.value, horizon=5), actor)
    decide, x, memory, cost = eqx.filter_jit(policy.decide), probes[0], policy.initial_memory(), 0.0
    for _ in range(60):
        decision = decide(x, memory)
        cost += float(jnp.sum(problem.stage_residual(x, decision.action) ** 2) / 2)
        x, memory = problem.dynamics(x, decision.action), decision.memory
    best = float(pa.solve(dataclasses.replace(problem, horizon=60), probes[0]).cost)
    assert cost < 0.5 * float(exact[0])
    assert cost < 1.15 * best


def test_states_of_all_sorts_are_visited():
    states = visit(TASK, Linear(jnp.asarray(GAIN, float)), jax.random.key(0), 500, 0.1)
    assert states.shape == (500, 2)
    position = np.asarray(states[:, 0])
    assert (np.abs(position) < 0.2).mean() > 0.1 and (np.abs(position) > 1.5).mean() > 0.05


def test_a_critic_is_a_value_where_rewards_are_costs():
    task = pa.make_task("mass-spring-damper", matched=True)
    policy, _ = pa.make_algorithm("sac", task, jax.random.key(0))
    assert isinstance(policy, pa.StochasticPolicy)
    critic = TwinCritic(task.environment.observation_scale, 1, hidden=(8,), key=jax.random.key(1))
    x = jnp.array([0.3, -0.1])
    point = task.action_box.to_unit(policy.decide(x).action)
    expected = -critic(x[None], point[None]).min() / 2.0  # two rewards for a cost
    np.testing.assert_allclose(CriticValue.of(task, policy, critic)(x), expected, rtol=1e-5)
    cartpole = pa.make_task("cartpole")
    with pytest.raises(ValueError, match="the cost of CartPoleProblem is no multiple of what task 'cartpole' rewards"):
        CriticValue.of(cartpole, policy, critic)


def test_an_actor_that_runs_away_has_no_value():
    runs = Linear(-100.0 * jnp.asarray(GAIN, float))
    wide = dataclasses.replace(TASK.problem, limit=1e30)
    task = dataclasses.replace(TASK, environment=dataclasses.replace(TASK.environment, action_high=(1e30,)))
    with pytest.raises(ValueError, match="from none of 20 states does it cost a finite amount"):
        fit_terminal_value(task, wide, runs, jax.random.key(0), states=20, steps_ahead=400)
