"""Who is at the best optimum, by numbers made up; training is tested in `tests/learning/test_cacto.py`."""

import numpy as np
import pytest

from planahead.experiments.benchmarks.cacto import HEADINGS, _rows, _Solves, cells
from planahead.experiments.command import main

NEVER = np.inf


def solves(guess: str, costs: list[list[float]], roots: list[float] | None = None, **about: float) -> _Solves:
    found = np.array(costs)
    named = {"task": "valley", "guess": guess, **about}
    return _Solves(named, found, np.full(found.shape, 5), None if roots is None else np.array(roots))


FOUND = [
    solves("cold", [[4.0], [9.0], [NEVER], [NEVER]]),
    solves("random", [[4.02, 6.0], [NEVER, 12.0], [18.0, 16.0], [NEVER, NEVER]]),
    solves("actor", [[4.0], [8.95], [NEVER], [NEVER]], [2.0, 3.0, 4.0, 1.0], sobolev=0.1, seed=0, problems=64),
]


def test_every_guess_is_held_against_the_best_of_all():
    cold, random, actor = _rows(FOUND)
    # From the last start nobody comes anywhere, so it does not count; 9.0 is within 1 % of 8.95.
    assert [row.starts for row in (cold, random, actor)] == [3, 3, 3]
    np.testing.assert_allclose([cold.best, random.best, actor.best], [2 / 3, 2 / 6, 2 / 3])
    np.testing.assert_allclose([cold.failed, random.failed, actor.failed], [1 / 3, 1 / 6, 1 / 3])
    assert cold.value_error is None and actor.value_error is not None
    missed = (3.0 - 8.95**0.5) ** 2 / 3
    np.testing.assert_allclose(actor.value_error, (missed / ((4.0 + 8.95 + 16.0) / 3)) ** 0.5)
    lines = cells([cold, random, actor])
    assert all(len(line) == len(HEADINGS) for line in lines)
    assert lines[2][:4] == ("valley", "actor, with slopes", "64", "67 %") and lines[0][1:4] == ("cold", "–", "67 %")


def test_a_task_without_a_setting_is_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "cacto", "--tasks", "chain"]) == 2
    assert "--tasks chain: there is no setting for it; known are «cartpole», «obstacles»" in capsys.readouterr().err
