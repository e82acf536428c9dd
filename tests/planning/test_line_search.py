"""What a line search promises: gaps close by 1 - α, accepted steps pay, poor guesses still lead to an optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.planning.globalisation import Step
from planahead.planning.problem_batch import ProblemBatch
from planahead.qp import InteriorPoint, backend
from tests.planning.reference_problems import REFERENCES

pytestmark = pytest.mark.usefixtures("x64")
BY_NAME = {reference.name: reference for reference in REFERENCES}
LANES = 16


def poor_guesses(problem: pa.Problem) -> tuple[np.ndarray, np.ndarray]:
    """States and controls that have nothing to do with the dynamics, one trajectory a lane."""
    random = np.random.default_rng(0)
    N, nx, nu = problem.horizon, problem.state_size, problem.control_size
    return 2 * random.normal(size=(LANES, N + 1, nx)), random.normal(size=(LANES, N, nu))


def from_poor_guesses(name: str, planner: pa.SQP) -> pa.Plan:
    reference = BY_NAME[name]
    problem, state = reference.build(), jnp.array(reference.state)

    def plan(states, controls):
        return pa.solve(problem, state, guess=pa.Guess(states, controls), planner=planner)

    return jax.jit(jax.vmap(plan))(*poor_guesses(problem))


@pytest.mark.long
def test_poor_guesses_lead_home_where_full_steps_alone_do_not():
    searched = from_poor_guesses("van_der_pol", pa.SQP())
    stepped = from_poor_guesses("van_der_pol", pa.SQP(globalisation=pa.FullStep()))
    best = pa.solve(BY_NAME["van_der_pol"].build(), jnp.array(BY_NAME["van_der_pol"].state))
    assert (searched.status == pa.Status.SOLVED).all()
    assert 0 < (stepped.status == pa.Status.SOLVED).sum() < LANES
    np.testing.assert_allclose(searched.cost, best.cost, rtol=1e-6)


@pytest.mark.parametrize("name", ["bounded_control", "nonlinear_constraint", "van_der_pol"])
def test_backtracking_from_the_beginning_ends_at_the_same_plan(name):
    reference = BY_NAME[name]
    problem, state = reference.build(), jnp.array(reference.state)
    hessian = pa.Exact() if reference.exact_hessian else pa.GaussNewton()
    searches = [pa.LineSearch(full_steps=0), pa.LineSearch()]
    plans = [pa.solve(problem, state, planner=pa.SQP(hessian=hessian, globalisation=search)) for search in searches]
    assert [pa.Status(int(plan.status)).name for plan in plans] == ["SOLVED"] * 2
    np.testing.assert_allclose(plans[0].controls, plans[1].controls, atol=1e-6)


def proposed(problem: pa.Problem, z: jax.Array) -> tuple[ProblemBatch, Step]:
    """The problem in all lanes, and the step that its QPs propose from `z`."""
    leaves, structure = jax.tree.flatten(problem)
    problems = ProblemBatch(structure.unflatten, [jnp.asarray(leaf) for leaf in leaves], [False] * len(leaves), LANES)
    data = problems.row_data(z.dtype, pinned=False)
    state, rows = z[0, problem.control_size :], jnp.zeros(data.linear.shape)
    costates = jnp.zeros((z.shape[0], problem.state_size, LANES))
    qp = problems.linearise(state, z, costates, rows, data, pa.GaussNewton(), pinned=False)
    everyone = jnp.ones(LANES, bool)
    outcome = backend.solve(qp, backend.everywhere(qp), InteriorPoint(), everyone)
    return problems, Step(z, qp, outcome, data.bound, everyone, everyone, ~everyone)


class Pendulum(pa.Problem):
    """A force whose effect changes its sign on the way up, so that long steps do not pay."""

    horizon: int = pa.static(15)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)

    def dynamics(self, x, u):
        return pa.rk4(lambda x, u: jnp.stack([x[1], 4 * jnp.sin(x[0]) + jnp.cos(x[0]) * u[0]]), x, u, 0.2)

    def stage_residual(self, x, u):
        return jnp.concatenate([x, 0.01 * u])

    def control_bounds(self):
        return pa.Bounds(-20.0, 20.0)


@pytest.mark.long
def test_gaps_shrink_by_what_is_left_of_the_step_and_accepted_steps_pay():
    problem, search = Pendulum(), pa.LineSearch(full_steps=0)
    random = np.random.default_rng(0)
    hanging = jax.vmap(lambda angle: pa.cold_start(problem, jnp.stack([angle, 0.0 * angle])).states)
    states = hanging(jnp.pi + random.normal(size=LANES)) + 0.05 * random.normal(size=(LANES, problem.horizon + 1, 2))
    z = jnp.moveaxis(jnp.concatenate([jnp.zeros((LANES, problem.horizon + 1, 1)), states], 2), 0, -1)
    problems, step = proposed(problem, z)
    move = search.move(problems, search.begin(z), step)

    assert (move.alpha == 1).any() and ((move.alpha > 0) & (move.alpha < 1)).any()
    before, after = problems.evaluate(z), problems.evaluate(move.z)
    np.testing.assert_allclose(after.defects, (1 - move.alpha)[None, None] * before.defects, atol=1e-9)
    weight = 1.1 * jnp.max(jnp.abs(step.outcome.point.pi), (0, 1))
    gaps = jnp.stack([jnp.sum(jnp.abs(value.defects), (0, 1)) for value in (before, after)])
    merit = jnp.stack([before.cost, after.cost]) + weight[None] * gaps
    assert move.accepted.all() and (merit[1] < merit[0]).all()

    impatient = pa.LineSearch(full_steps=0, trials=1)
    once = impatient.move(problems, impatient.begin(z), step)
    np.testing.assert_array_equal(once.accepted, move.alpha == 1)
    refused = ~np.asarray(once.accepted)
    assert not np.any(np.asarray(once.alpha)[refused])
    np.testing.assert_array_equal(np.asarray(once.z)[..., refused], np.asarray(z)[..., refused])


def test_lanes_that_may_not_move_stay():
    problem, search = Pendulum(), pa.LineSearch(full_steps=0)
    z = jnp.ones((problem.horizon + 1, 3, LANES))
    problems, step = proposed(problem, z)
    nobody = Step(z, step.qp, step.outcome, step.bound, step.active, ~step.active, step.violated)
    move = search.move(problems, search.begin(z), nobody)
    np.testing.assert_array_equal(move.z, z)
