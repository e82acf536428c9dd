"""Second derivatives of values, and the cost of the given state."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import planahead as pa
from tests.planning.study import quick_jit
from tests.planning.test_analytic import LinearQuadratic
from tests.planning.test_lanes import BAD, Corridor

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.long
def test_second_derivatives_of_the_regulator_are_in_closed_form():
    """V = ½ xᵀPx and Q = ½ zᵀHz, z = (x, a): their Hessians are P and H."""
    random = np.random.default_rng(0)
    A, B = random.normal(size=(3, 3)), random.normal(size=(3, 2))
    Q, R = np.diag([1.0, 0.5, 2.0]), np.diag([0.3, 0.7])
    P = scipy.linalg.solve_discrete_are(A, B, Q, R)
    problem = LinearQuadratic(A=jnp.array(A), B=jnp.array(B), Q=jnp.array(Q), R=jnp.array(R), P=jnp.array(P))
    x, a = jnp.array(random.normal(size=3)), jnp.array(random.normal(size=2))
    hessian = quick_jit(jax.jacrev(jax.grad(lambda x: pa.value(problem, x))))(x)
    np.testing.assert_allclose(hessian, P, rtol=1e-8)

    by_action = jax.grad(lambda x, a: pa.action_value(problem, x, a), argnums=1)
    mixed, curvature = quick_jit(jax.jacrev(by_action, argnums=(0, 1)))(x, a)
    np.testing.assert_allclose(mixed, B.T @ P @ A, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(curvature, R + B.T @ P @ B, rtol=1e-8)


@pytest.mark.long
def test_second_derivatives_are_differences_of_first_ones_and_zero_in_failed_lanes():
    """In a batch in which lanes fail, by the state, the pinned control and a parameter that the lanes share."""
    states, actions = jnp.asarray(BAD, float), jnp.full((6, 1), 0.2)

    def slope(target, state, action):
        return jax.grad(lambda action: pa.action_value(Corridor(target=target), state, action))(action)[0]

    @quick_jit
    def second(states, actions):
        return jax.vmap(lambda s, a: jax.grad(slope, argnums=(0, 1, 2))(jnp.asarray(0.3), s, a))(states, actions)

    @quick_jit
    def first(target, states, actions):
        return jax.vmap(lambda s, a: slope(target, s, a))(states, actions)

    step, target = 1e-5, 0.3
    by_target, by_state, by_action = second(states, actions)
    healthy = np.isin(np.arange(6), [1, 4], invert=True)
    for derivative, move in (
        (by_target, lambda h: first(target + h, states, actions)),
        (by_state[:, 1], lambda h: first(target, states.at[:, 1].add(h), actions)),
        (by_action[:, 0], lambda h: first(target, states, actions + h)),
    ):
        difference = (move(step) - move(-step)) / (2 * step)
        np.testing.assert_allclose(derivative[healthy], difference[healthy], rtol=1e-5)
        assert np.abs(derivative[healthy]).min() > 0 and not np.any(derivative[~healthy])


@pytest.mark.long
def test_a_value_and_its_slope_can_be_mixed_in_one_loss():
    """d/dx (V V') = V'² + V V''."""

    def parts(x):
        return jax.value_and_grad(lambda x: pa.value(Corridor(), jnp.stack([x, 0.1])))(x)

    at = jnp.asarray(0.1)
    value, slope = parts(at)
    curvature = jax.grad(lambda x: parts(x)[1])(at)
    mixed = quick_jit(jax.grad(lambda x: parts(x)[0] * parts(x)[1]))(at)
    assert float(mixed) == pytest.approx(float(slope**2 + value * curvature), rel=1e-8)


def test_third_derivatives_are_refused():
    slope = jax.grad(lambda state: pa.value(Corridor(), state))
    with pytest.raises(TypeError, match="second derivatives of a plan are not available"):
        jax.jacrev(jax.jacrev(slope))(jnp.array([0.1, 0.0]))


class Stored(Corridor):
    """With a storage function of the given state."""

    storage: pa.Array = pa.parameter([0.4, -0.2])

    def initial_cost(self, x):
        return self.storage @ x**2


@pytest.mark.long
@pytest.mark.parametrize("shooting", ["multiple", pytest.param("single", marks=pytest.mark.slow)])
def test_the_cost_of_the_given_state_moves_values_and_no_plan(shooting):
    planner, state = pa.SQP(shooting=shooting), jnp.array([0.2, 0.1])

    @eqx.filter_jit
    def everything(problem):
        plan = pa.solve(problem, state, planner=planner)
        through = jax.grad(lambda x: pa.solve(problem, x, planner=planner).cost)(state)
        slope = jax.grad(lambda x: pa.value(problem, x, planner=planner))(state)
        return plan, pa.value(problem, state, planner=planner), through, slope

    stored, storage = Stored(), jnp.array([0.4, -0.2])
    (plan, value, through, slope), (bare, bare_value, _, bare_slope) = everything(stored), everything(Corridor())
    np.testing.assert_allclose(plan.controls, bare.controls, rtol=1e-10)
    extra = float(storage @ state**2)
    assert float(plan.cost - bare.cost) == pytest.approx(extra, rel=1e-8)
    assert float(value - bare_value) == pytest.approx(extra, rel=1e-8)
    np.testing.assert_allclose(slope - bare_slope, 2 * storage * state, rtol=1e-7)
    for same in (through, plan.multipliers.costates[0]):
        np.testing.assert_allclose(same, slope, rtol=1e-6)
    gradient = eqx.filter_jit(jax.grad(lambda s: pa.value(Stored(storage=s), state, planner=planner)))(storage)
    np.testing.assert_allclose(gradient, state**2, rtol=1e-10)


class Economic(pa.Problem):
    """A scalar plant whose stage cost pays for being away from zero, ½ (-0.05 x² + u²), bounded below only because
    going away costs control; with λ(x) = ½ Λ x² moved from the value into the costs:

    ℓ̃ = ℓ + λ(x) - γ λ(f(x, u)),   terminal + λ,   initial cost -λ
    """

    horizon: int = pa.static(8)
    state_size: int = pa.static(1)
    control_size: int = pa.static(1)
    discount: pa.Array | float = pa.static(0.9)
    storage: pa.Array = pa.parameter(0.0, low=-5.0, high=5.0)  # Λ

    def stored(self, x):
        return 0.5 * self.storage * x[0] ** 2

    def dynamics(self, x, u):
        return 0.6 * x + u

    def stage_cost(self, x, u):
        economic = 0.5 * (-0.05 * x[0] ** 2 + u[0] ** 2)
        return economic + self.stored(x) - self.discount * self.stored(self.dynamics(x, u))

    def terminal_cost(self, x):
        return self.stored(x)

    def initial_cost(self, x):
        return -self.stored(x)


@pytest.mark.slow
def test_a_storage_function_makes_an_economic_cost_convex_and_changes_nothing_else():
    """Gauss-Newton, which drops what is not convex, plans with the rotated cost exactly what needs the exact Hessian
    without it; V, Q and the policy are the same, and the slope of V by the storage is zero."""
    state, action = jnp.array([1.3]), jnp.array([-0.4])
    exact = pa.SQP(hessian=pa.Exact(convexify="none"))
    economic, rotated = Economic(), Economic(storage=jnp.array(0.5))

    def curvature(problem):
        return np.linalg.eigvalsh(jax.hessian(lambda z: problem.stage_cost(z[:1], z[1:]))(jnp.zeros(2)))

    assert curvature(economic)[0] < -0.01 and curvature(rotated)[0] > 0.1
    plan, same = pa.solve(economic, state, planner=exact), pa.solve(rotated, state)
    assert int(same.status) == int(plan.status) == pa.Status.SOLVED
    np.testing.assert_allclose(same.controls, plan.controls, rtol=1e-6, atol=1e-9)
    assert float(same.cost) == pytest.approx(float(plan.cost), rel=1e-9)
    q_values = [float(pa.action_value(p, state, action, planner=exact)) for p in (economic, rotated)]
    assert q_values[1] == pytest.approx(q_values[0], rel=1e-9) and q_values[0] > float(plan.cost)
    slope = jax.grad(lambda storage: pa.value(Economic(storage=storage), state))(jnp.asarray(0.5))
    assert abs(float(slope)) < 1e-8
