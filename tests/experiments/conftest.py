"""The stub task and its learner under names that the command line can be given."""

from typing import Any

import jax.numpy as jnp
import pytest

from planahead.experiments import experiment
from planahead.tasks import names
from tests.experiments.stubs import Proportional, Raising


@pytest.fixture
def stub_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """`stub` is an algorithm and `point` a task, for one test."""

    def make(name: str, task: Any, key: Any, **settings: Any) -> tuple[Proportional, Raising]:
        assert name == "stub"
        return Proportional(jnp.zeros(())), Raising(**settings)

    def check(name: str, settings: dict[str, Any]) -> None:
        for setting, value in settings.items():
            if setting != "rate" or not isinstance(value, float):
                raise ValueError(f"{setting}={value!r}: a number was expected for rate")

    monkeypatch.setitem(names.TASKS, "point", "tests.experiments.stubs:PointTask")
    monkeypatch.setattr(experiment, "algorithm_names", lambda: ("stub",))
    monkeypatch.setattr(experiment, "make_algorithm", make)
    monkeypatch.setattr(experiment, "check_settings", check)
