"""Checks that need nobody's code: closed forms of linear-quadratic control, identities of values, random programs.

The numbers 1, 2, 3 and 13 are those of the project's list of analytic checks.
"""

import casadi as ca
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

import planahead as pa
from tests.planning.ipopt import Limit, Transcription
from tests.planning.reference_problems import Reference
from tests.planning.study import best_plans, each_reference, pinned_plan, planner, quick_jit

# 1. Linear-quadratic control


class LinearQuadratic(pa.Problem):
    """x⁺ = A x + B u, cost ½ xᵀQx + ½ uᵀRu, terminal ½ xᵀPx; with Riccati's P every horizon is the same."""

    horizon: int = pa.static(10)
    state_size: int = pa.static(3)
    control_size: int = pa.static(2)
    A: pa.Array = eqx.field(kw_only=True)
    B: pa.Array = eqx.field(kw_only=True)
    Q: pa.Array = eqx.field(kw_only=True)
    R: pa.Array = eqx.field(kw_only=True)
    P: pa.Array = eqx.field(kw_only=True)

    def dynamics(self, x, u):
        return self.A @ x + self.B @ u

    def stage_cost(self, x, u):
        return (x @ self.Q @ x + u @ self.R @ u) / 2

    def terminal_cost(self, x):
        return x @ self.P @ x / 2


@pytest.mark.long
def test_linear_quadratic_regulator_in_closed_form(x64):
    """u₀ = -Kx, V = ½xᵀPx, ∂V/∂x = Px, ∂u₀/∂x = -K, ∂Q/∂a = (R + BᵀPB)(a + Kx)."""
    random = np.random.default_rng(0)
    A, B = random.normal(size=(3, 3)), random.normal(size=(3, 2))  # unstable: the spectral radius is above 1
    assert np.abs(np.linalg.eigvals(A)).max() > 1.1
    Q, R = np.diag([1.0, 0.5, 2.0]), np.diag([0.3, 0.7])
    P = scipy.linalg.solve_discrete_are(A, B, Q, R)
    K = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
    problem = LinearQuadratic(A=jnp.array(A), B=jnp.array(B), Q=jnp.array(Q), R=jnp.array(R), P=jnp.array(P))
    x, a = random.normal(size=3), random.normal(size=2)
    exact = pa.SQP(hessian=pa.Exact(), tolerance=1e-10)

    @quick_jit
    def everything(x, a):
        plan = pa.solve(problem, x, planner=exact)
        gain = jax.jacrev(lambda x: pa.solve(problem, x, planner=exact).controls[0])(x)
        value = jax.value_and_grad(lambda x: pa.value(problem, x, planner=exact))(x)
        return plan, gain, value, jax.grad(lambda a: pa.action_value(problem, x, a, planner=exact))(a)

    plan, gain, (value, slope), advantage = everything(jnp.array(x), jnp.array(a))

    assert pa.Status(int(plan.status)) == pa.Status.SOLVED
    np.testing.assert_allclose(plan.controls, [-K @ state for state in plan.states[:-1]], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(gain, -K, rtol=1e-8)
    assert float(value) == pytest.approx(x @ P @ x / 2, rel=1e-10)
    np.testing.assert_allclose(slope, P @ x, rtol=1e-8)
    np.testing.assert_allclose(advantage, (R + B.T @ P @ B) @ (a + K @ x), rtol=1e-8)


# 2. Values of states and of actions


@pytest.mark.long
@each_reference("bounded_control", "cart_pole_balance", "discounted_tracking")
def test_the_value_of_a_state_is_that_of_its_best_action(reference: Reference, x64):
    """V(s) = Q(s, π(s)) <= Q(s, a) for every admissible a, and the slope of Q changes its sign at π(s)."""
    point = reference.inactive or reference.state
    best = best_plans(reference)[point].plan
    problem, state = reference.build(), jnp.asarray(point, float)
    bounds = problem.control_bounds()
    others = np.linspace(np.broadcast_to(bounds.lower, 1), np.broadcast_to(bounds.upper, 1), 12)
    actions = jnp.concatenate([jnp.asarray(best.controls[:1]), jnp.asarray(others)])
    costs, slopes = action_values(reference)(problem, state, actions)

    value, action = float(best.cost), best.controls[0]
    assert float(costs[0]) == pytest.approx(value, rel=1e-8)
    assert (costs[1:] >= value * (1 - 1e-9)).all()
    scale = np.abs(slopes).max()
    assert (slopes[1:][others < action - 1e-6] <= 1e-7 * scale).all()
    assert (slopes[1:][others > action + 1e-6] >= -1e-7 * scale).all()
    if bounds.lower + 1e-3 < action < bounds.upper - 1e-3:
        np.testing.assert_allclose(slopes[0], 0.0, atol=1e-6 * scale)


def action_values(reference: Reference):
    chosen = planner(reference, tolerance=1e-10)

    def one(problem, state, action):
        return jax.value_and_grad(lambda a: pa.action_value(problem, state, a, planner=chosen))(action)

    return quick_jit(jax.vmap(one, in_axes=(None, None, 0)))


@pytest.mark.long
@each_reference("soft_state_bound", "discounted_tracking", "obstacle", "network_dynamics")
def test_the_envelope_equals_the_derivative_through_the_plan(reference: Reference, x64):
    """∂V/∂p and ∂Q/∂p by the envelope theorem, and through ∂z/∂p, are the same numbers for every input p.

    `value` takes the partial derivative of the Lagrangian; the gradient of `plan.cost` goes through the whole plan.
    """
    leaves, fixed = eqx.partition(reference.build(), eqx.is_inexact_array)
    state, action = jnp.asarray(reference.state, float), jnp.asarray(reference.action, float)
    chosen = planner(reference, tolerance=1e-10)

    def value(inputs):
        problem = eqx.combine(inputs["problem"], fixed)
        if "control" in inputs:
            return pa.action_value(problem, inputs["state"], inputs["control"], planner=chosen)
        return pa.value(problem, inputs["state"], planner=chosen)

    envelope = quick_jit(jax.value_and_grad(value))
    inputs = {"problem": leaves, "state": state}
    for given, study in (
        (inputs, best_plans(reference)[reference.state]),
        ({**inputs, "control": action}, pinned_plan(reference)),
    ):
        cost, gradient = envelope(given)
        assert float(cost) == pytest.approx(float(study.plan.cost), rel=1e-9)
        weight = study.weights["cost"][0]
        for name, one, other in zip(study.inputs, jax.tree.leaves(gradient), study.gradients["cost"], strict=True):
            scale = 1e-6 * max(1.0, np.abs(one).max())
            np.testing.assert_allclose(one, other / weight, rtol=1e-6, atol=scale, err_msg=name)


# 3. Gros and Zanon: a wrong model with the right cost gives the right policy

DISCOUNT, STATE_PRICE, CONTROL_PRICE = 0.9, 1.0, 0.4
TRUE_MODEL, WRONG_MODEL = (1.2, 0.5), (0.8, 0.9)


class WrongModel(pa.Problem):
    """A scalar system planned with the wrong model and a quadratic stage cost ½ zᵀMz, z = (x, u), terminal ½ p x²."""

    horizon: int = pa.static(1)
    state_size: int = pa.static(1)
    control_size: int = pa.static(1)
    discount: pa.Array | float = pa.static(DISCOUNT)
    cost_matrix: pa.Array = pa.parameter([1.0, 0.0, 1.0])  # M₀₀, M₀₁, M₁₁
    terminal: pa.Array = pa.parameter(1.0)

    def dynamics(self, x, u):
        a, b = WRONG_MODEL
        return a * x + b * u

    def stage_cost(self, x, u):
        m00, m01, m11 = self.cost_matrix
        return (m00 * x[0] ** 2 + 2 * m01 * x[0] * u[0] + m11 * u[0] ** 2) / 2

    def terminal_cost(self, x):
        return self.terminal * x[0] ** 2 / 2


def true_optimum() -> tuple[float, float]:
    """p and K of V* = ½ p s², π* = -K s; the discount enters the Riccati equation as √γ a, √γ b."""
    (a, b), scale = TRUE_MODEL, np.sqrt(DISCOUNT)
    A, B, Q, R = (np.array([[number]]) for number in (scale * a, scale * b, STATE_PRICE, CONTROL_PRICE))
    p = float(scipy.linalg.solve_discrete_are(A, B, Q, R)[0, 0])
    return p, float(DISCOUNT * a * b * p / (CONTROL_PRICE + DISCOUNT * b**2 * p))


@pytest.mark.parametrize("horizon", [1, 2, 10])
def test_a_wrong_model_with_the_modified_cost_plans_optimally(horizon: int, x64):
    """ℓ̂(s, a) = Q*(s, a) - γ V*(f̂(s, a)) and terminal cost V* give π*, V* and Q* for every horizon."""
    (a, b), (wrong_a, wrong_b), (p, K) = TRUE_MODEL, WRONG_MODEL, true_optimum()
    q_matrix = np.diag([STATE_PRICE, CONTROL_PRICE]) + DISCOUNT * p * np.outer([a, b], [a, b])
    modified = q_matrix - DISCOUNT * p * np.outer([wrong_a, wrong_b], [wrong_a, wrong_b])
    problem = WrongModel(
        horizon=horizon, cost_matrix=jnp.asarray(modified[[0, 0, 1], [0, 1, 1]]), terminal=jnp.asarray(p)
    )
    exact, state, action = pa.SQP(hessian=pa.Exact(convexify="none"), tolerance=1e-11), 1.3, -0.4
    plan = quick_jit(lambda x: pa.solve(problem, x, planner=exact))(jnp.array([state]))
    cost = quick_jit(lambda x, a: pa.action_value(problem, x, a, planner=exact))(
        jnp.array([state]), jnp.array([action])
    )
    assert pa.Status(int(plan.status)) == pa.Status.SOLVED
    assert float(plan.controls[0, 0]) == pytest.approx(-K * state, rel=1e-9)
    assert float(plan.cost) == pytest.approx(p * state**2 / 2, rel=1e-9)
    z = np.array([state, action])
    assert float(cost) == pytest.approx(z @ q_matrix @ z / 2, rel=1e-9)


def test_q_learning_of_a_wrong_model_drives_the_temporal_difference_to_zero(x64):
    """Least-squares Q-learning from a random cost: δ = ℓ + γ V_θ(s') - Q_θ(s, a) vanishes, and the policy is π*."""
    (a, b), (_, K) = TRUE_MODEL, true_optimum()
    random = np.random.default_rng(0)
    problem = WrongModel(cost_matrix=jnp.asarray([2.0, 0.3, 1.5] + 0.3 * random.normal(size=3)))
    exact = pa.SQP(hessian=pa.Exact(), tolerance=1e-11)
    states, actions = jnp.asarray(random.normal(size=(40, 1))), jnp.asarray(random.normal(size=(40, 1)))
    costs = (STATE_PRICE * states[:, 0] ** 2 + CONTROL_PRICE * actions[:, 0] ** 2) / 2
    following = a * states + b * actions

    @quick_jit
    def temporal_difference(problem):
        def action_value(state, action):
            return jax.value_and_grad(lambda p: pa.action_value(p, state, action, planner=exact))(problem)

        now, gradients = jax.vmap(action_value)(states, actions)
        later = jax.vmap(lambda state: pa.value(problem, state, planner=exact))(following)
        return costs + DISCOUNT * later - now, jnp.column_stack([gradients.cost_matrix, gradients.terminal])

    first, _ = temporal_difference(problem)
    for _ in range(60):
        delta, gradients = temporal_difference(problem)
        step = np.linalg.lstsq(np.asarray(gradients), np.asarray(delta), rcond=1e-10)[0]
        problem = WrongModel(cost_matrix=problem.cost_matrix + step[:3], terminal=problem.terminal + step[3])
    last, _ = temporal_difference(problem)
    assert np.abs(first).max() > 0.1
    assert np.abs(last).max() < 1e-8
    control = pa.solve(problem, jnp.array([1.0]), planner=exact).controls[0, 0]
    assert float(control) == pytest.approx(-K, rel=1e-7)


# 13. Random programs


def random_program(seed: int):
    """A random feasible QP with mixed hard and soft rows, for `solve_qp` and as a transcription for IPOPT."""
    random = np.random.default_rng(seed)
    N, nx, nu, ng = 6, 3, 2, 2
    A, B = 0.6 * random.normal(size=(N, nx, nx)), random.normal(size=(N, nx, nu))
    c, q, r = 0.1 * random.normal(size=(N, nx)), random.normal(size=(N + 1, nx)), random.normal(size=(N, nu))

    def positive(size, count):
        roots = random.normal(size=(count, size, size))
        return roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(size)

    Q, R = positive(nx, N + 1), positive(nu, N)
    C, D = random.normal(size=(N + 1, ng, nx)), random.normal(size=(N, ng, nu))
    linear, quadratic = 0.5, 2.0
    qp = pa.QP(
        A=jnp.asarray(A), B=jnp.asarray(B), Q=jnp.asarray(Q), R=jnp.asarray(R), c=jnp.asarray(c), q=jnp.asarray(q),
        r=jnp.asarray(r), C=jnp.asarray(C), D=jnp.asarray(D), initial_state=jnp.asarray(random.normal(size=nx)),
        control_bounds=pa.StageBounds(-0.5, 0.5),
        state_bounds=pa.StageBounds(-0.8, 0.8, linear, quadratic),
        constraint_bounds=pa.StageBounds(-1.0, 0.4, linear, quadratic),
    )  # fmt: skip
    priced = {"linear": linear, "quadratic": quadratic}
    transcription = Transcription(
        N, nx, nu,
        dynamics=lambda x, u, k: ca.DM(A[k]) @ x + ca.DM(B[k]) @ u + ca.DM(c[k]),
        stage_cost=lambda x, u, k: (
            (ca.bilin(ca.DM(Q[k]), x, x) + ca.bilin(ca.DM(R[k]), u, u)) / 2
            + ca.dot(ca.DM(q[k]), x)
            + ca.dot(ca.DM(r[k]), u)
        ),
        terminal_cost=lambda x: ca.bilin(ca.DM(Q[N]), x, x) / 2 + ca.dot(ca.DM(q[N]), x),
        control_lower=-0.5, control_upper=0.5,
        limits=(
            Limit(lambda x, u, k: x, -0.8, 0.8, stages="inner", **priced),
            Limit(lambda x, u, k: x, -0.8, 0.8, stages="terminal", **priced),
            Limit(lambda x, u, k: ca.DM(C[k]) @ x + ca.DM(D[k]) @ u, -1.0, 0.4, stages="path", **priced),
            Limit(lambda x, u, k: ca.DM(C[N]) @ x, -1.0, 0.4, stages="terminal", **priced),
        ),
    )  # fmt: skip
    return qp, transcription


def test_random_programs_agree_with_ipopt(x64):
    programs = [random_program(seed) for seed in range(8)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(qp for qp, _ in programs))
    solution = jax.vmap(pa.solve_qp)(batch)
    assert (solution.status == pa.Status.SOLVED).all()
    active = 0
    for index, (qp, transcription) in enumerate(programs):
        expected = transcription.solve(np.asarray(qp.initial_state))
        assert float(solution.cost[index]) == pytest.approx(expected.cost, rel=1e-7, abs=1e-8)
        np.testing.assert_allclose(solution.controls[index], expected.controls, atol=1e-6)
        np.testing.assert_allclose(solution.states[index], expected.states, atol=1e-6)
        active += (transcription.margins(expected) < 1e-6).sum()
    assert active > 40  # the bounds matter


def test_random_programs_satisfy_the_optimality_conditions(x64):
    """KKT residual below 1e-8: multipliers of the right sign, found afresh by least squares, balance the gradient."""
    qp, _ = random_program(11)
    # Hard rows only: soft ones would need their slacks spelt out. The control bounds stay active.
    qp = eqx.tree_at(lambda qp: (qp.state_bounds, qp.constraint_bounds), qp, (pa.StageBounds(), pa.StageBounds()))
    solution = pa.solve_qp(qp)

    def cost(controls):
        x, total = qp.initial_state, 0.0
        for k in range(6):
            u = controls[k]
            total += x @ qp.Q[k] @ x / 2 + u @ qp.R[k] @ u / 2 + qp.q[k] @ x + qp.r[k] @ u
            x = qp.A[k] @ x + qp.B[k] @ u + qp.c[k]
        return total + x @ qp.Q[6] @ x / 2 + qp.q[6] @ x

    assert (np.abs(solution.controls) <= 0.5 + 1e-12).all()
    gradient = np.ravel(jax.grad(cost)(solution.controls))
    controls = np.ravel(solution.controls)
    upper, lower = controls > 0.5 - 1e-7, controls < -0.5 + 1e-7
    assert upper.any() and lower.any()
    normals = np.concatenate([np.eye(12)[:, upper], -np.eye(12)[:, lower]], axis=1)
    _, residual = scipy.optimize.nnls(normals, -gradient)
    assert residual < 1e-8
    assert float(solution.cost) == pytest.approx(float(cost(solution.controls)), rel=1e-12)
