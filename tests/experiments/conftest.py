"""The stub task and its learner under names that the command line can be given."""

from typing import Any

import jax.numpy as jnp
import pytest

from planahead.experiments import experiment
from planahead.tasks import registry
from tests.experiments.stubs import PointTask, Proportional, Raising


@pytest.fixture
def stub_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """`stub` is an algorithm and `point` a task, for one test."""

    def make(name: str, task: Any, key: Any, **settings: Any) -> tuple[Proportional, Raising]:
        assert name == "stub"
        return Proportional(jnp.zeros(())), Raising(**settings)

    monkeypatch.setitem(registry.TASKS, "point", PointTask)
    monkeypatch.setattr(experiment, "algorithm_names", lambda: ("stub",))
    monkeypatch.setattr(experiment, "make_algorithm", make)
