"""The quadratic models and cotangents that the native evaluator makes are those of XLA, of every task and kind of
Hessian."""

import logging

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.planning import problem_batch
from planahead.planning.conditions import Slopes
from planahead.planning.linearisation import Hessian
from planahead.planning.problem_batch import ProblemBatch
from planahead.problem import per_stage
from planahead.qp import native
from planahead.qp.newton import Residuals
from planahead.qp.types import LaneQP, Point

pytestmark = [
    pytest.mark.skipif(not native.available(), reason="without the native kernel XLA makes them all"),
    pytest.mark.usefixtures("x64"),
]
LANES = 5
HESSIANS = {
    "gauss-newton": pa.GaussNewton(),
    "exact": pa.Exact(convexify="none"),
    "projected": pa.Exact(),
}


class Batch:
    """Random lanes of a problem; its leaves with numbers `own` differ between them."""

    def __init__(self, problem: pa.Problem, own: tuple[int, ...]):
        leaves, self.structure = jax.tree.flatten(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), problem))
        self.random = np.random.default_rng(0)
        factors = jnp.asarray(1 + 0.1 * self.random.random(LANES))
        self.leaves = [jnp.multiply.outer(leaf, factors) if index in own else leaf for index, leaf in enumerate(leaves)]
        self.in_lanes = [index in own for index in range(len(leaves))]
        nodes, nx, nz = problem.horizon + 1, problem.state_size, problem.state_size + problem.control_size
        self.state, self.z, self.costates = self.normal(nx), self.normal(nodes, nz), self.normal(nodes, nx)

    def normal(self, *shape: int) -> jax.Array:
        return jnp.asarray(0.3 * self.random.normal(size=(*shape, LANES)))

    def problems(self, backend) -> ProblemBatch:
        return ProblemBatch(self.structure.unflatten, self.leaves, self.in_lanes, LANES, backend)


def models(problem: pa.Problem, hessian: Hessian, pinned: bool = False, own: tuple[int, ...] = ()) -> list[LaneQP]:
    """By the evaluator and by XLA, around random trajectories."""
    batch = Batch(problem, own)
    data = batch.problems("portable").row_data(batch.z.dtype, pinned)
    multipliers = jnp.broadcast_to(batch.normal(data.linear.shape[1])[None], data.linear.shape)

    def linearised(backend):
        around = (batch.state, batch.z, batch.costates, multipliers, data)
        return batch.problems(backend).linearise(*around, hessian, pinned)

    return [jax.jit(lambda backend=backend: linearised(backend))() for backend in ("native", "portable")]


def slopes(
    problem: pa.Problem, pinned: bool = False, own: tuple[int, ...] = (), held: tuple[int, ...] = ()
) -> list[Slopes]:
    """The same of the conditions' slopes, by all leaves but those `held`; any weights will do."""
    batch = Batch(problem, own)
    data = batch.problems("portable").row_data(batch.z.dtype, pinned)
    point = Point(batch.z, batch.costates, *(batch.normal(*data.bound.shape[:3]) for _ in range(4)))
    exists = jnp.isfinite(data.bound)  # rows that are not there have no weight
    rows, prices = (jnp.where(exists, batch.normal(*data.bound.shape[:3]), 0.0) for _ in range(2))
    stationarity, dynamics = batch.normal(*batch.z.shape[:2]), batch.normal(problem.horizon, problem.state_size)
    adjoint = Residuals(stationarity, dynamics, batch.state, rows, jnp.zeros_like(rows), prices, jnp.zeros_like(rows))
    wanted = [index not in held for index in range(len(batch.leaves))]
    control = batch.z[0, : problem.control_size] if pinned else None

    def of(backend):
        return batch.problems(backend).slopes(control, point, adjoint, wanted)

    return [jax.jit(lambda backend=backend: of(backend))() for backend in ("native", "portable")]


def check(problem: pa.Problem, hessian: Hessian, **how) -> None:
    ours, theirs = models(problem, hessian, **how)
    for name in ("H", "g", "F", "c", "G", "bound"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-9, err_msg=name)


def check_slopes(problem: pa.Problem, **how) -> None:
    ours, theirs = slopes(problem, **how)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-9 * np.abs(other).max())


@pytest.fixture(autouse=True)
def tapes_only(request, caplog):
    """XLA in place of the evaluator would make every comparison one with itself."""
    with caplog.at_level(logging.DEBUG, problem_batch.__name__):
        yield
    refused = [record for record in caplog.get_records("call") if record.message.startswith("XLA ")]
    assert bool(refused) == ("without_a_tape" in request.node.name)


@pytest.mark.parametrize("hessian", HESSIANS)
@pytest.mark.parametrize("name", ["cartpole", "windmaze-walls", "obstacles", "race-split-s"])
def test_tasks(name, hessian):
    check(pa.make_task(name).problem, HESSIANS[hessian])


@pytest.mark.parametrize("pinned", [False, True], ids=["free", "pinned"])
@pytest.mark.parametrize("name", ["cartpole", "windmaze-walls", "obstacles", "race-split-s"])
def test_slopes_of_tasks(name, pinned):
    check_slopes(pa.make_task(name).problem, pinned=pinned)


def test_chain():
    check(pa.make_task("chain", masses=3).problem, pa.GaussNewton())


def test_a_pinned_control_does_not_move():
    problem = pa.make_task("obstacles").problem
    check(problem, pa.GaussNewton(), pinned=True)
    check(problem, pa.Exact(), pinned=True)


def test_parameters_of_every_stage_and_lane():
    problem = per_stage(pa.make_task("cartpole").problem, "angle_reference")
    problem = eqx.tree_at(lambda p: p.angle_reference.values, problem, jnp.linspace(0.0, 1.0, problem.horizon + 1))
    count = len(jax.tree.leaves(problem))
    check(problem, pa.GaussNewton(), own=tuple(range(count)))
    check(problem, pa.Exact(convexify="none"), own=tuple(range(0, count, 2)))
    check_slopes(problem, own=tuple(range(count)))
    check_slopes(problem, own=tuple(range(0, count, 2)), held=tuple(range(0, count, 3)), pinned=True)


class Scalar(pa.Problem):
    """Scalar costs that are not convex, of the stages alone or of both, general rows of different numbers, a
    discount."""

    horizon: int = pa.static(3)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    discount: jax.Array | float = 0.9
    scale: jax.Array | float = 1.0

    def dynamics(self, x, u):
        return jnp.stack([x[0] + 0.1 * x[1], x[1] + 0.1 * self.scale * jnp.sin(x[0]) * u[0]])

    def stage_cost(self, x, u):
        return jnp.cos(x[0]) * u[0] + u[0] ** 2

    def constraints(self, x, u):
        return jnp.stack([x[0] * u[0] - 1, x[1] ** 2 - 4])

    def terminal_constraints(self, x):
        return jnp.sin(x[:1])


class ScalarEnd(Scalar):
    """The same with a terminal cost."""

    def terminal_cost(self, x):
        return x[0] ** 4 - x[1] ** 2


@pytest.mark.parametrize("hessian", HESSIANS)
@pytest.mark.parametrize("kind", [Scalar, ScalarEnd])
def test_scalar_costs(kind, hessian):
    check(kind(), HESSIANS[hessian])


@pytest.mark.parametrize("kind", [Scalar, ScalarEnd])
def test_slopes_of_scalar_costs_beside_a_discount_that_does_not_move(kind):
    check_slopes(jax.tree.map(jnp.asarray, kind(scale=2.0)), held=(0,))


@pytest.mark.parametrize("pinned", [False, True], ids=["free", "pinned"])
def test_a_problem_of_which_nothing_moves_has_slopes_of_its_control_alone(pinned):
    check_slopes(pa.make_task("cartpole").problem, pinned=pinned, held=tuple(range(100)))


def test_slopes_by_a_discount_are_without_a_tape():
    ours, theirs = (np.asarray(found.leaves[0]) for found in slopes(jax.tree.map(jnp.asarray, Scalar())))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert np.abs(ours).min() > 0


class Patient(pa.WrappedProblem):
    """Its discount is no leaf, but computed from one."""

    patience: jax.Array = eqx.field(kw_only=True)

    @property
    def discount(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return jax.nn.sigmoid(self.patience)


def test_slopes_by_what_a_discount_is_computed_from_are_without_a_tape():
    patient = Patient(ScalarEnd(), patience=jnp.asarray(2.0))  # pyright: ignore[reportCallIssue]  # its only fields
    problem = jax.tree.map(jnp.asarray, patient)
    ours, theirs = (np.asarray(found.leaves[-1]) for found in slopes(problem))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert np.abs(ours).min() > 0


class Decomposing(Scalar):
    """The smallest eigenvalue of a matrix has no scalar form."""

    def dynamics(self, x, u):
        return x + 0.1 * jnp.linalg.eigvalsh(jnp.diag(x) + jnp.full((2, 2), 2.0))[0] + u[0]


class WithNetwork(Scalar):
    """A small network may be in a tape, a large one is faster without."""

    matrices: list[jax.Array] = eqx.field(kw_only=True)

    @classmethod
    def of(cls, units: int) -> "WithNetwork":
        random = np.random.default_rng(0)
        sizes = ((units, 3), (units, units), (2, units))
        return cls(matrices=[jnp.asarray(random.normal(size=size) / size[1]) for size in sizes])

    def dynamics(self, x, u):
        first, second, last = self.matrices
        return x + 0.1 * last @ jnp.tanh(second @ jnp.tanh(first @ jnp.concatenate([x, u])))


@pytest.mark.parametrize(
    "problem", [Decomposing(), WithNetwork.of(16)], ids=["a decomposition", "a network without a tape"]
)
def test_problems_without_a_tape_are_left_to_xla(problem):
    check(problem, pa.GaussNewton())
    check_slopes(problem)


def test_a_small_network_has_a_tape():
    check(WithNetwork.of(8), pa.GaussNewton())
    check_slopes(WithNetwork.of(8), held=(0,))


def test_what_is_not_a_number_shows():
    """A zero of the tape times an infinity is a zero; the value beside it is not."""
    problem = eqx.tree_at(lambda p: p.discount, Scalar(), jnp.nan, is_leaf=lambda leaf: leaf is None)
    plan = pa.solve(problem, jnp.zeros(2))
    assert plan.status == pa.Status.INVALID_INPUT
    cart_pole = pa.make_task("cartpole").problem
    solve = eqx.filter_jit(pa.solve)
    for leaf in range(len(jax.tree.leaves(cart_pole))):
        leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, cart_pole))
        leaves[leaf] = jnp.full(jnp.shape(leaves[leaf]), jnp.nan, leaves[leaf].dtype)
        assert solve(structure.unflatten(leaves), jnp.ones(4)).status == pa.Status.INVALID_INPUT
