"""The safety filter: closed forms, idempotence, no violations whatever is proposed, and what it falls back on."""

import functools
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import planahead as pa
from planahead.planning import Guess
from planahead.policies import SafetyFilter
from planahead.policies.safety_filter import Certificate, Filtered
from planahead.tasks import CartPoleTask, ObstaclesTask
from tests.policies.slider import Slider

GUST = np.array([0.002, 0.02])
PLANNER = pa.SQP(iterations=5, tolerance=1e-6)  # linear: one iteration is exact, and compiles sooner than the default


@final
class Cart(pa.Problem):
    """x⁺ = x + u."""

    horizon: int = pa.static(1)
    state_size: int = pa.static(1)
    control_size: int = pa.static(1)

    def dynamics(self, x: Float[Array, " 1"], u: Float[Array, " 1"]) -> Float[Array, " 1"]:
        return x + u

    def control_bounds(self) -> pa.Bounds:
        return pa.Bounds(-1.0, 1.0)


@final
class Interval(pa.TerminalSet):
    """|x| <= 2, where standing still is safe."""

    def values(self, x: Float[Array, " 1"]) -> Float[Array, " 2"]:
        return jnp.concatenate([x - 2.0, -x - 2.0])

    def control(self, x: Float[Array, " 1"]) -> Float[Array, " 1"]:
        return jnp.zeros(1)


@final
class Border(pa.TerminalSet):
    """The same set, whose law goes to its end."""

    def values(self, x: Float[Array, " 1"]) -> Float[Array, " 2"]:
        return Interval().values(x)

    def control(self, x: Float[Array, " 1"]) -> Float[Array, " 1"]:
        return jnp.clip(1.999 - x, -1.0, 1.0)


@pytest.mark.parametrize("decay", [None, 1.0, 0.3], ids=["predictive", "barrier", "slow barrier"])
def test_one_step_of_an_integrator_in_a_box_is_clipping(decay, x64):
    """With h± = 2 ∓ x and h(x + u) >= (1 - γ) h(x) the safe controls are -γ (2 + x) <= u <= γ (2 - x) within ±1."""
    share = 1.0 if decay is None else decay
    safety = SafetyFilter(pa.SafetyProblem(Cart(), Interval(), horizon=1, decay=decay, margin=1e-6), PLANNER)
    x, u = (grid.ravel() for grid in np.meshgrid(np.linspace(-1.9, 1.9, 9), np.linspace(-1.4, 1.4, 11)))
    found = jax.jit(jax.vmap(safety))(jnp.asarray(x)[:, None], jnp.asarray(u)[:, None]).action[:, 0]
    np.testing.assert_allclose(
        found, np.clip(u, np.maximum(-1, -share * (2 + x)), np.minimum(1, share * (2 - x))), atol=1e-5
    )


class Run(NamedTuple):
    """Leaves `[T, lanes, …]`."""

    before: Array
    """The state in which something is proposed."""
    memory: Certificate
    proposals: Array
    filtered: Filtered
    after: Array


@eqx.filter_jit
def run(safety: SafetyFilter, start: Array, proposals: Array, feedback: Array, pushes: Array) -> Run:
    """Lanes of a closed loop from `start`; the proposal is `proposals[t] + feedback x`, the world adds `pushes[t]`."""

    def step(carry: Any, given: Any) -> Any:
        (x, memory), (proposal, push) = carry, given
        proposal = proposal + feedback @ x
        found = safety(x, proposal, memory)
        after = safety.problem.base.dynamics(x, found.action) + push
        return (after, found.memory), Run(x, memory, proposal, found, after)

    memory = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(start), *leaf.shape)), safety.initial_memory())
    return jax.lax.scan(jax.vmap(step), (start, memory), (proposals, pushes))[1]


@functools.cache
def slider_filter(disturbed: bool, soft: bool = False) -> SafetyFilter:
    problem = pa.linear_safety_problem(
        Slider(),
        horizon=8,
        disturbance=GUST.tolist() if disturbed else None,
        gain=Slider.GAIN,
        slack=pa.Slack(linear=1e3) if soft else None,
    )
    return SafetyFilter(problem, PLANNER)


@functools.cache
def slider_run(disturbed: bool, kind: str) -> Run:
    keys, T, lanes = jax.random.split(jax.random.key(0), 2), 100, 20
    proposals = jax.random.uniform(keys[0], (T, lanes, 1), minval=-1.5, maxval=1.5)
    feedback = jnp.zeros((1, 2))
    if kind == "pushing":  # what a policy proposes that has learned to go, and not yet to stop
        proposals, feedback = 1.0 + 0 * proposals, jnp.array([[0.5, 0.5]])
    if kind == "broken":
        proposals = jnp.where((jnp.arange(T) % 10 > 5)[:, None, None], jnp.nan, proposals)
    signs = jnp.where(jax.random.bernoulli(keys[1], 0.5, (T, lanes, 2)), 1.0, -1.0)  # corners of the disturbance
    if kind == "pushing":
        signs = jnp.ones_like(signs)
    return run(
        slider_filter(disturbed),
        jnp.zeros((lanes, 2)),
        proposals,
        feedback,
        jnp.asarray(disturbed * GUST, float)[None, None] * signs,
    )


@pytest.mark.long
@pytest.mark.parametrize("kind", ["random", "pushing", "broken"])
@pytest.mark.parametrize("disturbed", [False, True], ids=["exact", "disturbed"])
def test_nothing_is_ever_violated(disturbed, kind):
    seen = slider_run(disturbed, kind)
    assert np.all(np.abs(seen.after) <= Slider.LIMIT[None, None])
    assert np.all(seen.filtered.certified)
    assert np.all(np.abs(seen.filtered.action) <= 1.0)
    # The test would fail without the filter: it had to act.
    assert np.mean(np.asarray(seen.filtered.action) != np.asarray(seen.proposals)) > 0.1


@pytest.mark.long
@pytest.mark.parametrize("disturbed", [False, True], ids=["exact", "disturbed"])
def test_a_filtered_action_passes_unchanged(disturbed):
    seen = slider_run(disturbed, "random")
    safety, action = slider_filter(disturbed), seen.filtered.action

    def refilter(x: Array, u: Array, memory: Certificate) -> Array:
        return safety(x, u, memory).action

    again = jax.jit(jax.vmap(jax.vmap(refilter)))(seen.before, action, seen.memory)
    np.testing.assert_allclose(again, action, atol=1e-3)
    assert np.mean(np.asarray(again) == np.asarray(action)) > 0.95


def test_a_proposal_that_is_no_number_is_answered_by_the_last_certificate():
    seen = slider_run(False, "broken")
    broken = np.isnan(seen.proposals[..., 0])
    assert np.all(np.asarray(seen.filtered.fallback)[broken])
    assert np.all(np.isfinite(seen.filtered.action))
    statuses = np.asarray(seen.filtered.plan.status)
    assert np.all(statuses[broken] == pa.Status.INVALID_INPUT) and np.all(statuses[~broken] == pa.Status.SOLVED)


@pytest.mark.long
def test_without_a_solver_that_solves_the_filter_still_keeps_everything_safe():
    """One iteration from far away plans nothing useful for the cart-pole; simulations tell, and certificates hold."""
    planner = pa.SQP(iterations=1, tolerance=1e-6)
    problem = CartPoleTask().safety_problem()
    assert problem is not None
    safety = SafetyFilter(problem, planner)
    proposals = jax.random.uniform(jax.random.key(1), (60, 10, 1), minval=-80.0, maxval=80.0)
    hanging = jnp.broadcast_to(jnp.array([0.0, jnp.pi, 0.0, 0.0]), (10, 4))
    seen = run(safety, hanging, proposals, jnp.zeros((1, 4)), jnp.zeros((60, 10, 4)))
    assert np.mean(seen.filtered.plan.status != pa.Status.SOLVED) > 0.5 and np.any(seen.filtered.fallback)
    assert np.all(np.abs(seen.after[..., 0]) <= 2.4) and np.all(seen.filtered.certified)


@pytest.mark.long
def test_a_proposal_that_passes_has_the_derivative_of_the_identity_and_a_fallback_none():
    safety = slider_filter(False)

    def act(u, x):
        found = safety(x, u)
        return found.action[0], found

    slope = jax.jit(jax.vmap(jax.grad(act, has_aux=True)))
    proposals = jnp.array([[0.4], [jnp.nan], [1.0]])
    states = jnp.array([[0.0, 0.0], [0.0, 0.0], [0.85, 0.5]])
    gradient, found = slope(proposals, states)
    np.testing.assert_array_equal(gradient[:, 0], [1.0, 0.0, gradient[2, 0]])
    np.testing.assert_array_equal(found.gradient_valid[:2], [True, False])
    # At the wall the first control is a function of the state alone.
    assert found.action[2, 0] < 0 and abs(gradient[2, 0]) < 1e-2


@pytest.mark.long
def test_the_derivative_of_a_smoothed_projection_is_that_of_finite_differences(x64):
    planner = pa.SQP(hessian=pa.Exact(), iterations=60, tau=1e-3)
    safety = SafetyFilter(ObstaclesTask().safety_problem(), planner)
    x, u = jnp.array([-0.75, 0.1, 1.6, 0.0]), jnp.array([3.0, 0.5])
    filtered = eqx.filter_jit(safety)
    jacobian = jax.jit(jax.jacrev(lambda u: safety(x, u).action))(u)
    found = filtered(x, u)
    assert bool(found.gradient_valid) and float(jnp.max(jnp.abs(found.action - u))) > 0.1
    for i in range(2):
        step = 1e-4 * jnp.eye(2)[i]
        difference = (filtered(x, u + step).action - filtered(x, u - step).action) / 2e-4
        np.testing.assert_allclose(jacobian[:, i], difference, atol=1e-3)


def test_a_soft_filter_comes_back_from_outside():
    start = jnp.array([[1.1, 0.0], [-1.2, -0.3]])
    nothing = jnp.zeros((40, 2, 1)), jnp.zeros((1, 2)), jnp.zeros((40, 2, 2))
    seen = run(slider_filter(False, soft=True), start, *nothing)
    assert not np.any(seen.filtered.certified[0]) and np.all(seen.filtered.certified[-1])
    assert np.all(np.abs(seen.after[-1]) <= Slider.LIMIT[None])


@pytest.mark.long
def test_a_soft_filter_comes_back_after_a_push_that_no_certificate_foresaw():
    pushes = jnp.zeros((40, 2, 2)).at[5].set(jnp.array([[1.1, 0.0], [-1.2, -0.3]]))
    seen = run(slider_filter(False, soft=True), jnp.zeros((2, 2)), jnp.zeros((40, 2, 1)), jnp.zeros((1, 2)), pushes)
    certified = np.asarray(seen.filtered.certified)
    assert np.all(certified[:6]) and not np.any(certified[6]) and np.all(certified[-1])
    assert np.all(np.abs(seen.after[5:7, :, 0]) > 1.0) and np.all(np.abs(seen.after[-1]) <= Slider.LIMIT[None])
    # The solved plan acts meanwhile, which brakes and returns.
    assert not np.any(seen.filtered.fallback) and seen.filtered.action[6, 0, 0] < -0.9


@pytest.mark.parametrize("disturbed", [False, True], ids=["exact", "disturbed"])
def test_a_certificate_ends_with_a_push_further_than_it_allows_for(disturbed):
    """Two lanes on their way to the wall; the second is pushed so far that no force is safe any more."""
    T, bound = 20, jnp.asarray(disturbed * GUST, float)
    pushes = jnp.broadcast_to(bound, (T, 2, 2)).at[12, 1].set(jnp.array([0.2, 1.0]))
    seen = run(slider_filter(disturbed), jnp.zeros((2, 2)), jnp.ones((T, 2, 1)), jnp.array([[0.5, 0.5]]), pushes)
    certified = np.asarray(seen.filtered.certified)
    assert np.all(certified[:, 0]) and np.all(np.abs(seen.after[:, 0]) <= Slider.LIMIT[None])
    assert np.all(certified[:13, 1]) and not np.any(certified[13:16, 1])
    # The remembered plan goes on, which brakes.
    assert np.all(seen.filtered.fallback[13:16, 1]) and np.all(seen.filtered.action[13:16, 1] < 0)


@pytest.mark.long
def test_a_remembered_plan_that_is_closer_than_a_confirmed_one_is_no_fallback(x64):
    """A smoothed solver keeps away from the end of the interval, and what is remembered goes there."""
    planner = pa.SQP(iterations=20, tau=1e-2)
    standing, going = [
        SafetyFilter(pa.SafetyProblem(Cart(), terminal, horizon=1, margin=1e-6), planner)(
            jnp.array([1.5]), jnp.array([1.0])
        )
        for terminal in (Interval(), Border())
    ]
    assert bool(standing.certified) and standing.action[0] == standing.plan.controls[0, 0] < 0.495
    np.testing.assert_allclose(going.action, 0.499)
    assert bool(going.certified) and not bool(going.fallback)


@pytest.mark.parametrize(
    ("periods", "allowed"), [(None, [1, 1, 0, 0, 0]), ((2 * np.pi,), [1, 1, 0, 1, 1])], ids=["line", "circle"]
)
def test_a_certificate_holds_where_the_state_is_what_the_model_made_of_the_last(periods, allowed):
    """Far from where anything is confirmed, so that only what is remembered can be a certificate."""
    safety = SafetyFilter(pa.SafetyProblem(Cart(), Interval(), horizon=1, periods=periods), PLANNER)
    x, yes = jnp.array([5.0]), jnp.array(True)

    def certified(expected: Array, planned: Array) -> Array:
        plan = Guess(jnp.stack([x, planned]), jnp.zeros((1, 1)))
        return safety(x, jnp.array([0.5]), Certificate(plan, safe=yes, known=yes, expected=expected)).certified

    there = jnp.broadcast_to(x, (5, 1))
    apart = there + jnp.array([0.0, 1e-5, 0.01, 2 * np.pi, -6 * np.pi])[:, None]
    check = jax.jit(jax.vmap(certified))
    np.testing.assert_array_equal(check(apart, there), np.array(allowed, bool))
    np.testing.assert_array_equal(check(there, apart), np.array(allowed, bool))
