"""One compiled program per reference problem answers all questions that the tests have about its plans.

Compiling costs seconds and solving milliseconds. So the program solves, in one batch, a problem at its points and at
the neighbours that central differences need, and pulls back one random weight per output of the plan; the tests of
this room then read the numbers. Results are kept for the process, and pytest-xdist keeps the tests of a problem in
one process.

Neighbours: every input p (each array leaf of the problem, the state, the pinned control) moves along a random
direction d of its own, so that nothing hides behind an input with a larger derivative, by h·(-2, -1, 1, 2).
"""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from tests.planning.ipopt import Optimum
from tests.planning.reference_problems import REFERENCES, Point, Reference

SMOOTHED_STEP = 4e-4
OFFSETS = np.array([-2.0, -1.0, 1.0, 2.0])
OUTPUTS = ("states", "controls", "cost", "multipliers")
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""`jax.jit` for programs that run once: optimising the machine code would take more time than it saves."""
TOLERANCE = 1e-11
"""Of the solves: far below what is asserted, since a difference over h amplifies errors by 1/h."""


HEAVY = ("quadrotor", "pendulum_swing_up", "cart_pole_balance")
"""Problems whose studies compile for half a minute each."""


def each_reference(*names: str, where: Any = lambda reference: True, heavy_is_slow: bool = False) -> Any:
    """Run a test for every reference problem, or for those named; with `heavy_is_slow`, heavy ones only in the slow
    suite."""

    def marks(entry: Reference) -> list[Any]:
        slow = [pytest.mark.slow] if heavy_is_slow and entry.name in HEAVY else []
        return [pytest.mark.xdist_group(entry.name), *slow]

    chosen = [entry for entry in REFERENCES if where(entry) and (not names or entry.name in names)]
    assert len(chosen) >= len(names), f"unknown reference problem among {names}"
    return pytest.mark.parametrize(
        "reference", [pytest.param(entry, id=entry.name, marks=marks(entry)) for entry in chosen]
    )


def planner(reference: Reference, **settings: Any) -> pa.SQP:
    """The planner a user would take for this problem."""
    return pa.SQP(hessian=pa.Exact() if reference.exact_hessian else pa.GaussNewton(), **settings)


@functools.cache
def optimum(reference: Reference, point: Point, action: Point | None = None) -> Optimum:
    """What IPOPT says."""
    return reference.oracle().solve(point, action)


@dataclasses.dataclass(frozen=True)
class Study:
    """Plans of one point and its neighbours. Lane 0 is the point; lanes 1 + 4i … 4 + 4i move input i."""

    plans: pa.Plan  # lanes first
    step: float
    inputs: tuple[str, ...]
    directions: tuple[np.ndarray, ...]
    weights: dict[str, np.ndarray]
    """The random weight of every output, flattened."""
    gradients: dict[str, tuple[np.ndarray, ...]]
    """For every output, the gradient of its weighted sum with respect to every input."""

    @property
    def plan(self) -> pa.Plan:
        return jax.tree.map(lambda leaf: leaf[0], self.plans)

    def output(self, name: str) -> np.ndarray:
        """An output of all lanes, `[lanes, entries]`."""
        leaves = jax.tree.leaves(getattr(self.plans, name))
        return np.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


@functools.cache
def study(
    reference: Reference, points: tuple[Point, ...], action: Point | None = None, tau: float | None = None
) -> dict[Point, Study]:
    """Study `reference` at `points`, in float64; with an `action`, of the problem whose first control is pinned."""
    with jax.enable_x64(True):
        return _study(reference, points, action, tau)


def _study(reference: Reference, points: tuple[Point, ...], action: Point | None, tau: float | None):
    random, step = np.random.default_rng(3), reference.step if tau is None else SMOOTHED_STEP
    leaves, fixed = eqx.partition(reference.build(), eqx.is_inexact_array)
    example: dict[str, Any] = {"problem": leaves, "state": jnp.asarray(points[0], float)}
    if action is not None:
        example["control"] = jnp.asarray(action, float)
    paths, structure = jax.tree_util.tree_flatten_with_path(example)
    names = tuple(jax.tree_util.keystr(path) for path, _ in paths)
    state_index = names.index("['state']")

    def values_at(point: Point) -> list[np.ndarray]:
        return [np.asarray(point) if i == state_index else np.asarray(value) for i, (_, value) in enumerate(paths)]

    directions = tuple(
        random.normal(size=value.shape) * np.where(value == 0, 1.0, np.abs(value)) for value in values_at(points[0])
    )
    lanes = 1 + len(OFFSETS) * len(names)
    batches = []
    for point in points:
        batch = [np.stack([value] * lanes).astype(float) for value in values_at(point)]
        for i, direction in enumerate(directions):
            for j, offset in enumerate(OFFSETS):
                batch[i][1 + len(OFFSETS) * i + j] += offset * step * direction
        batches.append(batch)
    together = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    chosen = planner(reference, tolerance=TOLERANCE, tau=tau, iterations=400)  # Gauss-Newton steps shrink only linearly

    def outputs(inputs):
        plan = pa.solve(eqx.combine(inputs["problem"], fixed), inputs["state"], inputs.get("control"), planner=chosen)
        flat = {
            name: jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(getattr(plan, name))])
            for name in OUTPUTS
        }
        return flat, plan

    sizes = {name: value.shape[0] for name, value in jax.eval_shape(outputs, example)[0].items()}
    weights = {name: random.normal(size=size) for name, size in sizes.items()}
    # One row of cotangents per output: zero everywhere else.
    rows = {name: jnp.asarray(np.outer(np.arange(len(OUTPUTS)) == i, weights[name])) for i, name in enumerate(OUTPUTS)}

    def program(inputs):
        _, pull, plan = jax.vjp(outputs, inputs, has_aux=True)
        return plan, jax.vmap(lambda row: pull(row)[0])(rows)

    lanes_together = jax.tree.unflatten(structure, [jnp.asarray(value) for value in together])
    plans, pulled = quick_jit(jax.vmap(program))(lanes_together)
    plans, pulled = jax.tree.map(np.asarray, (plans, pulled))
    studies = {}
    for index, point in enumerate(points):
        first = index * lanes
        gradients = {
            name: tuple(leaf[first, row] for leaf in jax.tree.leaves(pulled)) for row, name in enumerate(OUTPUTS)
        }
        mine = jax.tree.map(lambda leaf, first=first: leaf[first : first + lanes], plans)
        studies[point] = Study(mine, step, names, directions, weights, gradients)
    return studies


def best_plans(reference: Reference) -> dict[Point, Study]:
    """Studies of the best plans at all points of a reference problem."""
    points = (reference.state, reference.inactive, reference.weak)
    return study(reference, tuple(point for point in points if point is not None))


def pinned_plan(reference: Reference) -> Study:
    """The study of the best plan that starts with the reference problem's action."""
    return study(reference, (reference.state,), reference.action)[reference.state]
