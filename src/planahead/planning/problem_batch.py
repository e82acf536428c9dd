"""A batch of problems behind functions of all lanes."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import conditions, taped, transcription
from planahead.planning.conditions import Held, Slopes
from planahead.planning.linearisation import Hessian, assembled, linearise
from planahead.planning.single_shooting import Shot
from planahead.planning.taped import Source, Taped
from planahead.planning.transcription import RowData
from planahead.problem import Problem, scan_stages
from planahead.qp.backend import is_native
from planahead.qp.batching import in_blocks
from planahead.qp.interior_point import Backend
from planahead.qp.lanes import lanes_last
from planahead.qp.newton import Residuals
from planahead.qp.types import LaneQP, Point
from planahead.tape.arrays import UnsupportedError
from planahead.tape.graph import TooLargeError

_log = logging.getLogger(__name__)

_CACHE = 0.5e6
"""Bytes of matrices that a block of lanes may have: a quarter of a core's second cache. 128 quadrotors are solved in
two thirds of the time that blocks of four times the size take, as each block also ends when its own lanes do."""
_PASSES = 8
"""Intermediate results of a second derivative that are alive at a time, where XLA takes it: for the two-step quadrotor,
blocks of 140 lanes take 11 µs a lane, blocks of 2,800 take 17."""


class Evaluation(eqx.Module):
    """A trajectory's cost without prices, its defects and its row values, for all lanes."""

    cost: Float[Array, "*B"]
    defects: Float[Array, "N nx *B"]
    rows: Float[Array, "nodes m *B"]


class ProblemBatch:
    """Problems that share their program. Leaves that differ between lanes have them in their last axis; the others are
    not copied.

    **Arguments:** `rebuild` makes a problem of its array leaves; `in_lanes` says which of the `leaves` carry lanes;
    `backend` who linearises, see `InteriorPoint`.
    """

    def __init__(
        self,
        rebuild: Callable[[Sequence[Array]], Problem],
        leaves: Sequence[Array],
        in_lanes: Sequence[bool],
        lanes: int,
        backend: Backend = "auto",
    ):
        self._rebuild = rebuild
        self._leaves = list(leaves)
        self._axes = [-1 if is_in else None for is_in in in_lanes]
        self._lanes = lanes
        self._backend: Backend = backend
        self._one = [leaf[..., 0] if is_in else leaf for leaf, is_in in zip(leaves, in_lanes, strict=True)]
        self._single = rebuild(self._one)
        self.control_size = self._single.control_size
        self._size = transcription.general_size(self._single)

    def map(self, function, *arguments: Any) -> Any:
        """`function(problem, *arguments)` in every lane; arguments and results have lanes last."""

        def lane(leaves, *arguments):
            return function(self._rebuild(leaves), *arguments)

        axes = (self._axes, *(-1 for _ in arguments))
        batched = jax.vmap(lane, in_axes=axes, out_axes=-1, axis_size=self._lanes)
        return lanes_last(batched(self._leaves, *arguments))

    def row_data(self, dtype: Any, pinned: bool) -> RowData:
        """Bounds and prices of all lanes."""
        return self.map(lambda problem: transcription.row_data(problem, self._size, dtype, pinned=pinned))

    def linearise(self, state, z, costates, multipliers, data: RowData, hessian: Hessian, pinned: bool) -> LaneQP:
        """The QPs in the step from `z`."""
        if is_native(self._backend):
            try:
                model = taped.models(self._taped(), hessian, z, costates, multipliers, self._weights(z.dtype))
                return assembled(self.control_size, model, state, z, data, pinned)
            except (UnsupportedError, TooLargeError) as reason:
                _log.debug("XLA linearises %s: %s", type(self._single).__name__, reason)

        def one(problem, state, z, costates, multipliers, data):
            return linearise(problem, state, z, costates, multipliers, data, hessian=hessian, pinned=pinned)

        def block(lanes, in_lanes, leaves, *arguments):
            return ProblemBatch(self._rebuild, leaves, in_lanes[0], lanes).map(one, *arguments)

        arguments = (state, z, costates, multipliers, data)
        in_lanes = ([axis is not None for axis in self._axes], *jax.tree.map(lambda _: True, arguments))
        return in_blocks(block, lanes_in_cache(self._single, z.dtype))(self._lanes, in_lanes, self._leaves, *arguments)

    def slopes(
        self, control: Float[Array, "nu B"] | None, point: Point, adjoint: Residuals, wanted: Sequence[bool]
    ) -> Slopes:
        """The derivatives of `conditions` at a solution by the leaves that are `wanted`, and by a pinned control."""
        held = Held.of(point, adjoint, self._weights(point.z.dtype))
        if is_native(self._backend):
            try:
                return taped.slopes(self._taped(), held, wanted, control is not None)
            except (UnsupportedError, TooLargeError) as reason:
                _log.debug("XLA differentiates %s: %s", type(self._single).__name__, reason)

        def lane(leaves, held, control):
            return conditions.slopes(self._rebuild, leaves, wanted, held, control)

        batched = jax.vmap(lane, in_axes=(self._axes, -1, -1), out_axes=-1, axis_size=self._lanes)
        return lanes_last(batched(self._leaves, held, control))

    def _weights(self, dtype: Any) -> Float[Array, "nodes B"]:
        return self.map(lambda problem: transcription.stage_weights(problem, dtype))

    def _taped(self) -> Taped:
        leaves = zip(self._one, self._leaves, self._axes, strict=True)
        sources = {id(one): Source(i, leaf, axis is not None) for i, (one, leaf, axis) in enumerate(leaves)}
        return Taped(self._single, sources)

    def evaluate(self, z: Float[Array, "nodes nz B"]) -> Evaluation:
        """Costs, defects and row values along `z`."""

        def one(problem, z):
            cost = transcription.objective(problem, z)
            return Evaluation(cost, transcription.defects(problem, z), transcription.row_values(problem, z, self._size))

        return self.map(one, z)

    def advance(
        self,
        z: Float[Array, "nodes nz B"],
        step: Float[Array, "nodes nz B"],
        gain: Float[Array, "N nu nx B"],
        gaps: Float[Array, "N nx B"],
        alpha: Float[Array, " B"],
        bound: Float[Array, "nodes 2 m B"],
    ) -> Float[Array, "nodes nz B"]:
        """Follow the step through the true dynamics, closing the gaps (see `line_search`); controls stay inside their
        box."""

        def one(problem, z, step, gain, gaps, alpha, bound):
            nu = problem.control_size
            lower, upper = bound[:-1, 0, :nu], -bound[:-1, 1, :nu]

            def follow(x, stage_problem, stage):
                z_k, d_k, K, gap, low, high = stage
                u = z_k[:nu] + alpha * d_k[:nu] + K @ (x - z_k[nu:] - alpha * d_k[nu:])
                u = jnp.clip(u, low, high)
                return stage_problem.dynamics(x, u) - (1 - alpha) * gap, u

            start = z[0, nu:] + alpha * step[0, nu:]
            stages = (z[:-1], step[:-1], gain, gaps, lower, upper)
            states, controls = scan_stages(follow, problem, start, stages)
            return transcription.join(controls, states)

        return self.map(one, z, step, gain, gaps, alpha, bound)


def lanes_in_cache(problem: Problem, dtype: Any) -> int:
    """Lanes whose linearisations fit into the cache together: for 128 quadrotors, blocks of 24 lanes take a third less
    time than all at once."""
    nodes, nz = problem.horizon + 1, problem.state_size + problem.control_size
    rows = problem.state_size + transcription.general_size(problem)
    numbers = nodes * nz * (nz + rows)
    if isinstance(problem, Shot):  # every control's derivative carries a whole trajectory
        numbers += _PASSES * nz * problem.trajectory_size
    return int(_CACHE / (jnp.dtype(dtype).itemsize * numbers))
