"""Solvers of the reference problems, compiled once per process and shared by the tests of this room.

Compiling costs seconds and solving milliseconds, so what the tests want of a problem goes through few batched programs.
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from tests.planning.ipopt import Optimum
from tests.planning.reference_problems import REFERENCES, Reference

FLOAT64_TOLERANCE = 1e-10
"""Far below what is asserted, so that differences of solutions over small steps are still exact to many digits."""


def each_reference(*names: str, where: Any = lambda reference: True) -> Any:
    """Run a test for every reference problem (or those named); pytest-xdist keeps a problem's tests in one process."""
    chosen = [entry for entry in REFERENCES if where(entry) and (not names or entry.name in names)]
    assert len(chosen) >= len(names), f"unknown reference problem among {names}"
    return pytest.mark.parametrize(
        "reference", [pytest.param(entry, id=entry.name, marks=pytest.mark.xdist_group(entry.name)) for entry in chosen]
    )


def planner(reference: Reference, **settings: Any) -> pa.SQP:
    """The planner a user would take for this problem."""
    return pa.SQP(hessian=reference.hessian, **settings)


@functools.cache
def optimum(reference: Reference, point: tuple[float, ...], action: tuple[float, ...] | None = None) -> Optimum:
    """What IPOPT says."""
    return reference.oracle().solve(point, action)


@functools.cache
def _solver(reference: Reference, settings: tuple[tuple[str, Any], ...]):
    chosen = planner(reference, **dict(settings))

    @eqx.filter_jit
    def solve(problem, states, actions):
        mapped = eqx.filter_vmap(
            lambda state, action: pa.solve(problem, state, action, planner=chosen),
            in_axes=(0, None if actions is None else 0),
        )
        return mapped(states, actions)

    return solve


def plans(reference: Reference, points: Any, actions: Any = None, **settings: Any) -> pa.Plan:
    """Plans from several `points`, as one batch, in the precision that is switched on."""
    solve = _solver(reference, tuple(sorted(settings.items())))
    states = jnp.asarray(np.array(points), float)
    return solve(reference.build(), states, None if actions is None else jnp.asarray(np.array(actions), float))


def lane(plan: pa.Plan, index: int) -> pa.Plan:
    """One plan of a batch."""
    return jax.tree.map(lambda leaf: leaf[index], plan)
