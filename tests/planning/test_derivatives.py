"""Every derivative of a plan against central differences, in float64: relative error at most 1e-5.

Pairs: each output (states, controls, cost, multipliers), contracted with random weights w, by each input (every array
leaf of the problem, the state, the pinned control) along a random direction d. One pull-back of w gives wᵀ(∂y/∂p)d for
all inputs p; it is compared with differences of y alone, so that each number below is one pair at one point.

The difference is the five-point rule [8 (y₁ - y₋₁) - (y₂ - y₋₂)] / 12h, which is wrong by h⁴ y⁽⁵⁾/30 and carries the
solver's residual ε as ε/h. With h = 1e-3 and ε = 1e-10 both stay near 1e-7 for derivatives of order one. The active set
must not change within 2h: points are chosen so. At weakly active points `tau` smooths the map on the scale √tau ≈ 0.03.
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa
from tests.planning.compiled import each_reference, planner
from tests.planning.reference_problems import Point, Reference

STEP = 1e-3
OFFSETS = np.array([-2.0, -1.0, 1.0, 2.0])
STENCIL = np.array([1.0, -8.0, 8.0, -1.0]) / 12
OUTPUTS = ("states", "controls", "cost", "multipliers")
RELATIVE_ERROR = 1e-5


@functools.cache
def compiled(reference: Reference, pinned: bool, tau: float) -> Any:
    """Outputs, their pull-backs of several weights, and whether they are to be trusted; over a batch of inputs."""
    chosen = planner(reference, tolerance=1e-10, tau=tau)

    def outputs(inputs, fixed):
        problem = eqx.combine(inputs["problem"], fixed)
        plan = pa.solve(problem, inputs["state"], inputs["control"] if pinned else None, planner=chosen)
        flat = {name: jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(getattr(plan, name))]) for name in OUTPUTS}
        return flat, plan.gradient_valid & (plan.status == pa.Status.SOLVED)

    @eqx.filter_jit
    def program(batch, seed, fixed):
        def one(inputs):
            flat, pull, valid = jax.vjp(lambda inputs: outputs(inputs, fixed), inputs, has_aux=True)
            weights = random_weights(flat, seed)
            return flat, jax.vmap(lambda weight: pull(weight)[0])(weights), valid, weights

        return jax.vmap(one)(batch)

    return program


def random_weights(flat: dict[str, Any], seed: Any) -> dict[str, Any]:
    """One weight per output, in the rows of a batch: row i is zero except in output i."""
    keys = jax.random.split(jax.random.key(seed), len(flat))
    rows = jnp.eye(len(flat))
    return {name: rows[i][:, None] * jax.random.normal(keys[i], flat[name].shape) for i, name in enumerate(OUTPUTS)}


def check_all_pairs(reference: Reference, point: Point, pinned: bool = False, tau: float = 0.0) -> None:
    random = np.random.default_rng(3)
    leaves, fixed = eqx.partition(reference.build(), eqx.is_inexact_array)
    inputs: dict[str, Any] = {"problem": leaves, "state": jnp.asarray(point, float)}
    if pinned:
        inputs["control"] = jnp.asarray(reference.action, float)
    paths, structure = jax.tree_util.tree_flatten_with_path(inputs)
    names, values = [jax.tree_util.keystr(path) for path, _ in paths], [np.asarray(value) for _, value in paths]
    directions = [random.normal(size=value.shape) * np.maximum(1.0, np.abs(value)) for value in values]

    # Lane 0 is the point; lanes 1 + 4i … 4 + 4i move input i along its direction and leave the others alone.
    batch = [np.stack([value] * (1 + 4 * len(values))) for value in values]
    for i, direction in enumerate(directions):
        for j, offset in enumerate(OFFSETS):
            batch[i][1 + 4 * i + j] += offset * STEP * direction
    lanes = jax.tree.unflatten(structure, [jnp.asarray(value) for value in batch])
    flat, pulled, valid, weights = jax.tree.map(np.asarray, compiled(reference, pinned, tau)(lanes, 0, fixed))
    assert valid.all(), f"{reference.name}: {(~valid).sum()} of {valid.size} solves failed"

    gradients = [np.asarray(leaf)[0] for leaf in jax.tree.leaves(pulled)]  # [4 weights, leaf]
    for o, output in enumerate(OUTPUTS):
        weight = weights[output][0, o]
        contracted = flat[output] @ weight
        for i, name in enumerate(names):
            difference = STENCIL @ contracted[1 + 4 * i : 5 + 4 * i] / STEP
            adjoint = float(np.sum(gradients[i][o] * directions[i]))
            # Weights are random: a product much smaller than |w| is a cancellation, or a derivative that is zero.
            scale = max(abs(difference), 1e-3 * np.linalg.norm(weight))
            error = abs(adjoint - difference) / scale
            assert error <= RELATIVE_ERROR, (
                f"{reference.name}: ∂{output}/∂{name}: {adjoint:.9g} by the adjoint, {difference:.9g} by differences"
            )


@each_reference()
def test_best_plan_with_active_constraints(reference: Reference, x64):
    check_all_pairs(reference, reference.state)


@each_reference()
def test_pinned_first_control(reference: Reference, x64):
    check_all_pairs(reference, reference.state, pinned=True)


@each_reference(where=lambda reference: reference.inactive is not None)
def test_best_plan_without_active_constraints(reference: Reference, x64):
    check_all_pairs(reference, reference.inactive)


@each_reference(where=lambda reference: reference.weak is not None)
def test_smoothed_plan_where_a_constraint_is_about_to_become_active(reference: Reference, x64):
    check_all_pairs(reference, reference.weak, tau=1e-3)
