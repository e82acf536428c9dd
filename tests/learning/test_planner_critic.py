"""A planner in the critic, on a linear-quadratic world where all values are known: with the right model it is the
truth, with a wrong one its error is known, and what is blended is between them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import planahead as pa
from planahead.learning.critics import TwinCritic
from planahead.learning.mpc_q_learning import q_value
from planahead.learning.planner_critic import Belief, PlannerCritic, check_planner_critic, seen, weighed_advantages
from planahead.learning.planner_learner import Tried
from planahead.learning.soft_losses import Experience, Judged, SoftLosses
from tests.learning.linear_quadratic import (
    DISCOUNT,
    EXACT,
    LIMIT,
    WRONG_A,
    WRONG_B,
    A,
    B,
    Believer,
    PlantTask,
    Q,
    R,
    optimum,
    policy_of,
    reward,
    taught,
)

KEY = jax.random.key(5)
ROWS = 8
HALF_WRONG = (0.5 * (A + WRONG_A), 0.5 * (B + WRONG_B))


def rows(seed: int = 0) -> tuple[Array, Array]:
    """Observations, and actions in unit coordinates."""
    o, z = jax.random.split(jax.random.key(seed))
    return jax.random.normal(o, (ROWS, 2)), 0.1 * jax.random.uniform(z, (ROWS, 1), minval=-1.0)


def quadratic(H: np.ndarray) -> Callable[[Array, Array], Array]:
    """The critic -½ zᵀHz, z = (x, u), twice."""

    def critic(observation: Array, point: Array) -> Array:
        z = jnp.concatenate([observation, LIMIT * point], axis=1)
        return jnp.broadcast_to(-0.5 * jnp.sum(z @ jnp.asarray(H, float) * z, axis=1), (2, z.shape[0]))

    return critic


def shifted(critic: Callable[[Array, Array], Array], error: float) -> Callable[[Array, Array], Array]:
    return lambda observation, point: critic(observation, point) + error


def believer(A: np.ndarray, B: np.ndarray) -> Believer:
    return Believer(state_matrix=jnp.asarray(A, float), control_matrix=jnp.asarray(B, float))


def planner_critic(problem: pa.Problem, believes: Belief = "value", **settings: Any) -> PlannerCritic:
    made = check_planner_critic(PlantTask(problem=problem), DISCOUNT, believes, None, 0.0)
    return dataclasses.replace(made, **{"planner": pa.SQP(tolerance=1e-10), **settings})


def blended(planner: PlannerCritic, critic: Any) -> Callable[[Any, Array, Array], Array]:
    """Q^λ as a function of λ, observation and point."""
    return jax.jit(lambda weight, o, z: seen(planner, critic, jnp.asarray(weight, float), o, z).critic(o, z))


def believed_value(A: np.ndarray, B: np.ndarray, steps: int) -> list[np.ndarray]:
    """H_N of Q^MPC = ½ zᵀH_N z with the model A, B and V* at the end, for horizons of 1 … `steps`."""
    value, AB, found = optimum().P, np.hstack([A, B]), []
    for _ in range(steps):
        H = DISCOUNT * AB.T @ value @ AB
        H[:2, :2] += Q
        H[2:, 2:] += R
        value = H[:2, :2] - H[:2, 2:] @ np.linalg.solve(H[2:, 2:], H[2:, :2])
        found.append(H)
    return found


def test_with_the_right_model_the_planner_is_the_best_critic(x64):
    """Its values are Q*, its slope is that of Q*, and λ = 1 asks nothing that was learned."""
    best, (observation, point) = optimum(), rows()
    critic = blended(planner_critic(Believer()), TwinCritic((1.0, 1.0), 1, hidden=(8,), key=KEY))
    greedy = observation @ jnp.asarray(-best.K.T) / LIMIT

    @jax.jit
    def judge(point: Array) -> tuple[Array, Array]:
        def total(point: Array) -> tuple[Array, Array]:
            values = critic(1.0, observation, point)
            return values[0].sum(), values

        (_, values), slope = jax.value_and_grad(total, has_aux=True)(point)
        return values, slope

    values, slope = judge(point)
    np.testing.assert_allclose(values, quadratic(best.H)(observation, point), rtol=1e-7)
    np.testing.assert_allclose(slope, -(LIMIT**2) * (point - greedy) * best.H[2, 2], rtol=1e-6)
    np.testing.assert_allclose(judge(greedy)[1], 0.0, atol=1e-6)


def test_a_wrong_model_with_the_cost_that_makes_up_for_it_is_as_good(x64):
    observation, point = rows()
    planner = planner_critic(taught(3), planner=EXACT)  # the cost that makes up for it is not convex
    found = blended(planner, quadratic(np.eye(3)))(1.0, observation, point)
    np.testing.assert_allclose(found, quadratic(optimum().H)(observation, point), rtol=1e-8)


def target(planner: PlannerCritic, critic: Any) -> Callable[[float], Array]:
    """What the critic at the rows shall learn of λ, where π* acts in s'."""
    observation, point = rows()
    u = LIMIT * point
    after = observation @ A.T + u @ B.T
    no, yes = jnp.zeros(ROWS, bool), jnp.ones(ROWS, bool)
    batch = Experience(observation, point, jax.vmap(reward)(observation, u), after, no, no)
    judged = Judged(act_well(after) / LIMIT, jnp.zeros(ROWS), yes, yes)

    @jax.jit
    def run(weight: Array) -> Array:
        view = seen(planner, critic, weight, after, judged.point)
        return SoftLosses("action", DISCOUNT).targets(judged, view.critic, jnp.zeros(()), batch).value

    return lambda weight: run(jnp.asarray(weight, float))


def act_well(x: Array) -> Array:
    return -x @ jnp.asarray(optimum().K.T)


@pytest.mark.parametrize("believes", ["value", "steps"])
def test_targets_are_true_returns_with_the_right_model(believes, x64):
    """With λ = 1 whatever was learned, but for what is left of it at the end of the steps, γ^{H+1} of its error."""
    critic, left = quadratic(optimum().H), 7.0 * DISCOUNT**5 if believes == "steps" else 0.0  # H = 4
    true = critic(*rows())[0]
    found = target(planner_critic(Believer(), believes), shifted(critic, 7.0))
    np.testing.assert_allclose(found(1.0), true + left, rtol=1e-7)
    np.testing.assert_allclose(found(0.0), true + 7.0 * DISCOUNT, rtol=1e-7)


def test_the_bias_of_a_wrong_model_counts_by_lambda(x64):
    """With Q* learned already the target is off by γ λ (Q^M - Q*)(s', a'), with Q^M from Riccati's recursion."""
    critic = quadratic(optimum().H)
    found, true = target(planner_critic(believer(WRONG_A, WRONG_B)), critic), critic(*rows())[0]
    observation, point = rows()
    after = observation @ A.T + LIMIT * point @ B.T
    there = after, act_well(after) / LIMIT
    bias = (quadratic(believed_value(WRONG_A, WRONG_B, 5)[-1])(*there) - critic(*there))[0]
    assert np.abs(bias).max() > 0.1
    for weight in (0.0, 0.3, 1.0):
        np.testing.assert_allclose(found(weight) - true, DISCOUNT * weight * bias, rtol=1e-5, atol=1e-8)


def test_both_forms_of_mpq_agree_and_end_where_they_should():
    rng = np.random.default_rng(0)
    values, rewards = rng.normal(size=(2, ROWS, 6)), rng.normal(size=(ROWS, 5))
    gamma = 0.9
    partial = [sum(gamma**k * rewards[:, k] for k in range(i)) + gamma**i * values[:, :, i] for i in range(6)]
    for weight in (0.0, 0.35, 0.8, 1.0):
        expected = (1 - weight) * sum(weight**i * partial[i] for i in range(5)) + weight**5 * partial[5]
        arrays = jnp.asarray(values), jnp.asarray(rewards), jnp.ones((ROWS, 5), bool)
        found = arrays[0][..., 0] + weighed_advantages(*arrays, jnp.asarray(weight), gamma)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        ends = {0.0: partial[0], 1.0: partial[5]}
        if weight in ends:
            np.testing.assert_allclose(found, ends[weight], rtol=1e-5, atol=1e-5)


def test_what_is_not_known_is_left_to_the_learned_critic():
    """Steps are believed up to the first that is unknown: the same as a plan that is that short."""
    values, rewards = jax.random.normal(KEY, (2, ROWS, 6)), jax.random.normal(KEY, (ROWS, 5))
    weight, known = jnp.array(0.7), jnp.arange(5)[None] < jnp.full((ROWS, 1), 2)
    found = weighed_advantages(values, rewards, known, weight, 0.9)
    short = weighed_advantages(values[..., :3], rewards[:, :2], known[:, :2], weight, 0.9)
    np.testing.assert_allclose(found, short, rtol=1e-6)


def test_an_error_of_the_learned_critic_counts_for_less_with_a_larger_lambda(x64):
    """A constant error ε of the learned critic is, with the right model, one of ε ((1-λ) Σ (γλ)^i + (γλ)^H)."""
    critic, H, lefts = quadratic(optimum().H), 4, []
    found = blended(planner_critic(Believer(), "steps"), shifted(critic, 2.0))
    for weight in (0.0, 0.2, 0.6, 1.0):
        lefts.append((1 - weight) * sum((DISCOUNT * weight) ** i for i in range(H)) + (DISCOUNT * weight) ** H)
        np.testing.assert_allclose(found(weight, *rows()) - critic(*rows()), 2.0 * lefts[-1], rtol=1e-6)
    assert lefts == sorted(lefts, reverse=True)


def test_the_error_with_a_wrong_model_is_bounded(x64):
    """|Q^λ - Q*| <= (1-λ) Σ λ^i (m_i + γ^i ε) + λ^H (m_H + γ^H ε), with m_i from the planner's own feedback along its
    model; without ε the error is the sum itself, signs and all."""
    (observation, point), H = rows(), 4
    model = believer(*HALF_WRONG)
    true = quadratic(optimum().H)

    values = believed_value(*HALF_WRONG, steps=model.horizon)[::-1]
    gains = [np.linalg.solve(h[2:, 2:], h[2:, :2]) for h in values]
    x, u, earned, off = np.asarray(observation), LIMIT * np.asarray(point), np.zeros(ROWS), []
    here = np.asarray(true(observation, point)[0])
    for i in range(H + 1):
        off.append(earned + DISCOUNT**i * np.asarray(true(jnp.asarray(x), jnp.asarray(u / LIMIT))[0]) - here)
        earned = earned + DISCOUNT**i * np.asarray(jax.vmap(reward)(jnp.asarray(x), jnp.asarray(u)))
        x = x @ HALF_WRONG[0].T + u @ HALF_WRONG[1].T
        if i < H:
            u = -x @ gains[i + 1].T
    assert np.abs(off[-1]).max() > 0.05

    planner, epsilon = planner_critic(model, "steps"), 0.5
    found = [blended(planner, shifted(true, error)) for error in (0.0, epsilon, -epsilon)]
    for weight in (0.0, 0.4, 0.8, 1.0):
        share = [(1 - weight) * weight**i for i in range(H)] + [weight**H]
        bound = sum(s * (np.abs(m) + DISCOUNT**i * epsilon) for i, (s, m) in enumerate(zip(share, off, strict=True)))
        errors = [np.asarray(critic(weight, observation, point)[0]) - here for critic in found]
        assert all((np.abs(error) <= bound + 1e-9).all() for error in errors)
        expected = sum(s * m for s, m in zip(share, off, strict=True))
        np.testing.assert_allclose(errors[0], expected, rtol=1e-5, atol=1e-8)


def test_the_slope_of_the_steps_goes_through_the_plan(x64):
    """Against central differences."""
    observation, point = rows()
    learned = TwinCritic((1.0, 1.0), 1, hidden=(8,), key=KEY)
    critic = blended(planner_critic(believer(WRONG_A, WRONG_B), "steps"), learned)
    judge = jax.jit(jax.value_and_grad(lambda point: critic(0.8, observation, point)[1].sum()))
    slope, h = judge(point)[1], 1e-4
    for row in (0, 3):
        step = jnp.zeros_like(point).at[row].set(h)
        difference = (judge(point + step)[0] - judge(point - step)[0]) / (2 * h)
        np.testing.assert_allclose(slope[row, 0], difference, rtol=1e-4)


def test_correcting_a_planner_by_w_is_moving_its_parameters_where_its_value_is_linear_in_them(x64):
    """The local critic Q_φ + ∇_φQ_φᵀw, whose gradient by w is ∇_φQ_φ: with N = 1 and the cost as parameters it is that
    of the parameters φ + w."""
    policy = policy_of(taught(1))
    observation, point = rows()
    flags = jnp.zeros(ROWS, bool)
    tried = Tried(observation, point, point, jnp.zeros(ROWS), observation, flags, flags, ~flags)
    w = 0.01 * jax.random.normal(KEY, policy.unit.shape)

    @jax.jit
    def judge(w: Array) -> tuple[Array, ...]:
        def one(row: Tried) -> tuple[Array, ...]:
            value, slope = jax.value_and_grad(lambda unit: q_value(policy, unit, row))(policy.unit)
            corrected, by_w = jax.value_and_grad(lambda w: value + slope @ w)(w)
            return corrected, by_w, slope

        return jax.vmap(one)(tried)

    corrected, by_w, slope = judge(w)
    np.testing.assert_allclose(by_w, slope, rtol=1e-12)
    moved = jax.jit(jax.vmap(lambda row: q_value(policy, policy.unit + w, row)))(tried)
    np.testing.assert_allclose(corrected, moved, rtol=1e-8)
