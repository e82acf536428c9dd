"""A batch of problems behind functions of all lanes."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import transcription
from planahead.planning.linearisation import Hessian, linearise
from planahead.planning.transcription import RowData
from planahead.problem import Problem, scan_stages
from planahead.qp.lanes import lanes_last
from planahead.qp.types import LaneQP


class Evaluation(eqx.Module):
    """A trajectory's cost without prices, its defects and its row values, for all lanes."""

    cost: Float[Array, "*B"]
    defects: Float[Array, "N nx *B"]
    rows: Float[Array, "nodes m *B"]


class ProblemBatch:
    """Problems that share their program. Leaves that differ between lanes have them in their last axis; the others are
    not copied.

    **Arguments:** `rebuild` makes a problem of its array leaves; `in_lanes` says which of the `leaves` carry lanes.
    """

    def __init__(
        self,
        rebuild: Callable[[Sequence[Array]], Problem],
        leaves: Sequence[Array],
        in_lanes: Sequence[bool],
        lanes: int,
    ):
        self._rebuild = rebuild
        self._leaves = list(leaves)
        self._axes = [-1 if is_in else None for is_in in in_lanes]
        self._lanes = lanes
        single = rebuild([leaf[..., 0] if is_in else leaf for leaf, is_in in zip(leaves, in_lanes, strict=True)])
        self.control_size = single.control_size
        self._size = transcription.general_size(single)

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

        def one(problem, state, z, costates, multipliers, data):
            return linearise(problem, state, z, costates, multipliers, data, hessian=hessian, pinned=pinned)

        return self.map(one, state, z, costates, multipliers, data)

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
