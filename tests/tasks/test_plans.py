"""What planning achieves on the tasks, against linear-quadratic theory."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from planahead.planning import solve
from planahead.qp import Status
from planahead.tasks import CartPoleState, CartPoleTask, MassSpringDamperTask, make_task


def best_gain(A, B, Q, R):
    """The endless-horizon Riccati solution P and its gain K: u = -K x is best, and costs ½ xᵀ P x."""
    P = scipy.linalg.solve_discrete_are(A, B, Q, R)
    return P, np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)


def test_the_matched_planner_is_the_best_controller_until_a_bound_is_active(x64):
    problem = MassSpringDamperTask(matched=True).problem
    A, B = np.array([[1.0, 0.1], [-0.05, 0.99]]), np.array([[0.0], [0.1]])
    P, K = best_gain(A, B, np.diag([1.0, 0.1]), np.array([[0.01]]))
    near = 0.04 * np.random.default_rng(0).uniform(-1, 1, (8, 2))
    far = np.array([[1.0, 0.0], [-1.0, 0.0]])
    plans = jax.vmap(solve, (None, 0))(problem, jnp.concatenate([near, far]))
    assert (plans.status == Status.SOLVED).all()
    free, saturated = (jax.tree.map(lambda leaf, part=part: leaf[part], plans) for part in (slice(8), slice(8, 10)))

    assert (np.abs(free.controls) < 0.5).all()
    np.testing.assert_allclose(free.controls[:, 0], -near @ K.T, rtol=1e-5)
    closed_loop = [np.linalg.matrix_power(A - B @ K, k) for k in range(problem.horizon + 1)]
    np.testing.assert_allclose(free.states, np.einsum("kij,bj->bki", closed_loop, near), atol=1e-6)
    np.testing.assert_allclose(free.cost, np.einsum("bi,ij,bj->b", near, P, near) / 2, rtol=1e-4)

    np.testing.assert_allclose(saturated.controls[:, 0], [[-0.5], [0.5]], rtol=1e-6)
    assert (np.asarray(saturated.cost) > np.einsum("bi,ij,bj->b", far, P, far) / 2).all()


@eqx.filter_jit
def reference_feedback(task, starts, gains):
    """Three seconds in which the angle reference is `gain · x`; a gain of zero is the untrained planner."""

    def episode(start, gain):
        def step(carry, _):
            state, alive = carry
            x = task.planner_state(task.environment.observe(state))
            problem = eqx.tree_at(lambda p: p.angle_reference, task.problem, gain @ x)
            transition = task.environment.step(state, solve(problem, x).controls[0], jax.random.key(0))
            return (transition.state, alive & ~transition.terminated), (alive, transition)

        state = CartPoleState(x=start, step=jnp.array(0), upright_steps=jnp.array(0))
        _, (alive, transitions) = jax.lax.scan(step, (state, True), length=60)
        return alive, transitions

    return jax.vmap(episode)(starts, gains)


def first_control_of_a_linear_plan(problem):
    """u₀ = a x + b θ_ref near upright, by condensing the quadratic program of the linearised problem."""
    A, B = (np.asarray(J, float) for J in jax.jacobian(problem.dynamics, (0, 1))(jnp.zeros(4), jnp.zeros(1)))
    W = np.diag([problem.position_weight, problem.angle_weight, problem.velocity_weight, problem.rate_weight])
    N = problem.horizon
    free = np.vstack([np.linalg.matrix_power(A, k) for k in range(N + 1)])
    forced = np.zeros((4 * (N + 1), N))
    for k in range(1, N + 1):
        for j in range(k):
            forced[4 * k : 4 * k + 4, j : j + 1] = np.linalg.matrix_power(A, k - 1 - j) @ B
    weights = np.kron(np.eye(N + 1), W)
    hessian = forced.T @ weights @ forced + float(problem.force_weight) * np.eye(N)
    reference = np.tile([0.0, 1.0, 0.0, 0.0], N + 1)
    gains = np.linalg.solve(hessian, forced.T @ weights @ np.column_stack([-free, reference]))
    return A, B, gains[0, :4], gains[0, 4]


def test_a_quarter_of_a_second_is_too_short_but_the_right_reference_balances():
    """Untrained, the planner cannot even balance; through `angle_reference` alone, any linear feedback can act."""
    task = CartPoleTask()
    A, B, a, b = first_control_of_a_linear_plan(task.problem)
    _, K = best_gain(A, B, np.diag([1.0, 10.0, 0.1, 0.1]), np.array([[0.01]]))
    gain = -(K[0] + a) / b
    hanging, leaning = [0.0, np.pi, 0.0, 0.0], [0.1, 0.05, 0.0, -0.1]
    starts, gains = jnp.array([hanging, leaning, leaning]), jnp.array([np.zeros(4), np.zeros(4), gain])
    alive, transitions = reference_feedback(task, starts, gains)
    untrained_swing_up, untrained_balance, balance = (
        bool(alive[lane, -1] & transitions.info.success[lane, -1]) for lane in range(3)
    )
    assert not untrained_swing_up and not untrained_balance
    assert balance and not transitions.info.violation[2].any()
    first = transitions.state.x[2, 0]
    expected = make_task("cartpole").environment.step(
        CartPoleState(x=jnp.array(leaning), step=jnp.array(0), upright_steps=jnp.array(0)),
        jnp.asarray(-K @ np.array(leaning), float),
        jax.random.key(0),
    )
    np.testing.assert_allclose(first, expected.observation, atol=0.02)
