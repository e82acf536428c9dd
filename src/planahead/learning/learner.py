"""What a learner is: a pure function under `jit` that turns experience into a better policy, one chunk at a time."""

import abc
from typing import Generic, TypeVar

import equinox as eqx
from jaxtyping import Array, PRNGKeyArray

from planahead.policies import Policy
from planahead.tasks import Task

LearnerState = TypeVar("LearnerState", bound=eqx.Module)
Metrics = dict[str, Array]
"""Scalars by name, averaged over the chunk."""


class Learner(eqx.Module, Generic[LearnerState]):
    """Settings of an algorithm, and the algorithm as two pure functions.

    Side effects (progress, files, stopping) live in `planahead.experiments`, which knows no algorithm.
    """

    steps_per_chunk: eqx.AbstractVar[int]
    """Environment steps of one `advance`."""

    @abc.abstractmethod
    def init(self, task: Task, policy: Policy, key: PRNGKeyArray) -> LearnerState:
        """The state before the first step. Raises `ValueError` where policy and learner do not fit."""

    @abc.abstractmethod
    def advance(self, state: LearnerState, key: PRNGKeyArray) -> tuple[LearnerState, Metrics]:
        """Take `steps_per_chunk` environment steps with their gradient steps."""

    @abc.abstractmethod
    def policy(self, state: LearnerState) -> Policy:
        """The policy as it is now."""

    def _check_range(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name}={getattr(self, name)}; {expected}")

    def _check_word(self, name: str, known: tuple[str, ...]) -> None:
        expected = " or ".join(f"'{word}'" for word in known)
        self._check_range(name, getattr(self, name) in known, f"{expected} was expected")

    def _check_multiple(self, name: str, of: str) -> None:
        value, unit = getattr(self, name), getattr(self, of)
        if value % unit != 0:
            below, above = value // unit * unit, (value // unit + 1) * unit
            raise ValueError(
                f"{name}={value} is not a multiple of {of}={unit}; use {f'{below} or ' if below else ''}{above}"
            )
