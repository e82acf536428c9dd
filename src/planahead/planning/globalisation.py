"""How far to go along a step: the part of the SQP that makes it survive poor guesses, and full steps as its short case.

A globalisation is data. What it remembers of every lane between iterations is its memory, which the SQP carries and
does not read.
"""

from abc import abstractmethod
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from planahead.planning.problem_batch import ProblemBatch
from planahead.qp import Outcome
from planahead.qp.types import LaneQP

SEARCHES = 3
"""A lane stalls after this many steps in a row that were not accepted: the first may be cured by a higher price of
violations, the second by full steps; three say that nothing helps."""


class Step(eqx.Module):
    """Where all lanes are, and the step that their QPs propose."""

    z: Float[Array, "nodes nz B"]
    qp: LaneQP
    """Around `z`, with the prices of this iteration."""
    outcome: Outcome
    """Of the QP; `outcome.point.z` is the step."""
    bound: Float[Array, "nodes 2 m B"]
    """Of the rows themselves; those of `qp` are relative to `z`."""
    active: Bool[Array, " B"]
    usable: Bool[Array, " B"]
    """Active lanes whose QP gave numbers."""
    violated: Bool[Array, " B"]
    """Lanes that break hard rows at `z`."""


class Move(eqx.Module):
    """What a globalisation made of a step."""

    z: Float[Array, "nodes nz B"]
    alpha: Float[Array, " B"]
    """Length of the step; multipliers follow it."""
    accepted: Bool[Array, " B"]
    stuck: Bool[Array, " B"]
    """Lanes in which nothing is accepted any more."""
    restarted: Bool[Array, " B"]
    """Lanes that went back to an earlier `z`, whose multipliers mean nothing there."""
    memory: Any


class Globalisation(eqx.Module):
    """Decides how far lanes go along their steps."""

    @property
    @abstractmethod
    def uses_gain(self) -> bool:
        """Whether `move` reads `step.outcome.gain`; where not, it is not computed."""

    @abstractmethod
    def begin(self, z: Float[Array, "nodes nz B"]) -> Any:
        """The memory at the guess `z`."""

    @abstractmethod
    def look(self, memory: Any, error: Float[Array, " B"]) -> Any:
        """The memory after the optimality residual `error` was seen."""

    @abstractmethod
    def move(self, problems: ProblemBatch, memory: Any, step: Step) -> Move:
        """Move all lanes that are usable; the others stay."""


@final
class FullStep(Globalisation):
    """Always take the whole step: for real-time iterations that start close to the solution.

    From a poor guess it may end as `INFEASIBLE` although feasible plans exist elsewhere; `LineSearch` goes on looking.
    """

    @property
    def uses_gain(self) -> bool:
        return False

    def begin(self, z: Float[Array, "nodes nz B"]) -> Int[Array, " B"]:
        """Steps in a row that were not usable: none."""
        return jnp.zeros(z.shape[-1], int)

    def look(self, memory: Int[Array, " B"], error: Float[Array, " B"]) -> Int[Array, " B"]:
        return memory

    def move(self, problems: ProblemBatch, memory: Int[Array, " B"], step: Step) -> Move:
        failures = jnp.where(step.active, jnp.where(step.usable, 0, memory + 1), memory)
        return Move(
            z=step.z + step.outcome.point.z,
            alpha=jnp.ones(failures.shape, step.z.dtype),
            accepted=step.usable,
            stuck=step.active & (failures >= SEARCHES),
            restarted=jnp.zeros(failures.shape, bool),
            memory=failures,
        )
