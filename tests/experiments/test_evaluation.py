"""An evaluation is arithmetic: it must give what a hand that follows the episodes gives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.experiments.episodes import evaluation_spread, has_single_start, run_episodes, with_spread
from planahead.experiments.evaluation import Evaluation, evaluate
from planahead.experiments.statistics import wilson_interval
from planahead.experiments.trajectory import Trajectory
from tests.experiments.stubs import PointTask, Proportional

KEY = jax.random.key(0)


def policy(gain: float) -> Proportional:
    return Proportional(jnp.full((), gain))


def test_one_episode_by_hand():
    found = evaluate(PointTask(), policy(2.0), KEY, episodes=1, spread=0.0)
    positions = 0.8 ** np.arange(1, 9)  # x⁺ = x - 0.1 · 2 x
    np.testing.assert_allclose(found.returns, [-(positions**2).sum()], rtol=1e-6)
    assert found.lengths.tolist() == [8]
    assert found.success.tolist() == [True]  # 0.8⁸ = 0.17 < 0.5
    assert found.terminated.tolist() == [False]
    assert found.failed.tolist() == [6]  # the policy's memory counts: from the third of eight decisions on
    assert found.failed_solves == pytest.approx(6 / 8)
    assert found.status is None and found.iterations is None


def test_nothing_counts_after_the_end():
    found = evaluate(PointTask(), policy(-4.0), KEY, episodes=1, spread=0.0)  # 1.4, 1.96, 2.744: out in the third step
    assert found.lengths.tolist() == [3]
    np.testing.assert_allclose(found.returns, [-(1.4**2 + 1.96**2 + 2.744**2)], rtol=1e-6)
    assert found.violations.tolist() == [2]  # 1.96 and 2.744 are beyond 1.5
    assert found.terminated.tolist() == [True]
    assert found.success.tolist() == [False]
    assert found.failed.tolist() == [1]
    assert (found.violations_per_step, found.violations_per_episode) == (pytest.approx(2 / 3), 1.0)


def test_statistics_of_several_episodes_by_hand():
    found = Evaluation(
        start_spread=0.1,
        returns=np.array([1.0, 2.0, 6.0, 7.0]),
        lengths=np.array([10, 10, 5, 15]),
        success=np.array([True, True, True, False]),
        terminated=np.array([False, False, True, False]),
        violations=np.array([0, 3, 1, 0]),
        failed=np.array([1, 0, 0, 3]),
    )
    assert found.success_rate == 0.75
    assert found.success_interval == wilson_interval(3, 4)
    assert found.mean_return == 4.0
    assert found.return_interval.low < 4.0 < found.return_interval.high
    assert found.violations_per_step == 4 / 40
    assert found.violations_per_episode == 2 / 4
    assert found.failed_solves == 4 / 40
    assert found.summary()["per_episode"]["length"] == [10, 10, 5, 15]


def test_starts_are_spread_as_asked_and_repeat_with_the_key():
    first = evaluate(PointTask(), policy(0.0), KEY, episodes=500, spread=0.1)
    starts = np.sqrt(-first.returns / 8)  # the policy stands still
    assert starts.min() >= 0.9 - 1e-6 and starts.max() <= 1.1 + 1e-6
    np.testing.assert_allclose([starts.mean(), starts.std()], [1.0, 0.1 / np.sqrt(3)], atol=0.005)
    np.testing.assert_array_equal(evaluate(PointTask(), policy(0.0), KEY, 500, 0.1).returns, first.returns)
    assert np.ptp(evaluate(PointTask(), policy(0.0), KEY, 20, 0.0).returns) == 0.0


def test_spread_of_a_task_that_draws_its_own_starts():
    assert evaluation_spread(PointTask()) == 0.1 and has_single_start(PointTask())
    task = with_spread(PointTask(), 0.5)
    assert evaluation_spread(task) == 0.5 and not has_single_start(task)


@pytest.mark.parametrize(("episodes", "spread"), [(0, 0.1), (3, -0.1), (3, float("nan"))])
def test_an_evaluation_needs_episodes_and_a_spread(episodes: int, spread: float):
    with pytest.raises(ValueError, match="expected at least one, and at least 0"):
        evaluate(PointTask(), policy(1.0), KEY, episodes, spread)


def test_a_recorded_episode_is_the_evaluated_one():
    for gain in (2.0, -4.0):
        episodes = run_episodes(PointTask(), policy(gain), KEY, 1, spread=0.0)
        recorded, found = Trajectory.of(episodes), Evaluation.of(episodes)
        assert recorded.steps == found.lengths[0]
        assert recorded.total_reward == pytest.approx(found.returns[0])
        assert recorded.success == found.success[0] and recorded.terminated == found.terminated[0]
        assert recorded.failed.sum() == found.failed[0]
        assert recorded.observations.shape == (recorded.steps + 1, 1)
        np.testing.assert_allclose(
            recorded.observations[:, 0], (1 - 0.1 * gain) ** np.arange(recorded.steps + 1), rtol=1e-5
        )
        np.testing.assert_allclose(recorded.actions[:, 0], -gain * recorded.observations[:-1, 0], rtol=1e-6)
        np.testing.assert_allclose(recorded.times[-1], 0.1 * recorded.steps)
        assert float(recorded.state(0).x[0]) == 1.0
        assert recorded.planned_states is None


def test_summary_holds_what_a_program_needs():
    summary = dataclasses.asdict(evaluate(PointTask(), policy(2.0), KEY, 3, 0.1))
    assert summary["start_spread"] == 0.1
    keys = evaluate(PointTask(), policy(2.0), KEY, 3, 0.1).summary().keys()
    assert {"episodes", "success_rate", "mean_return", "mean_return_interval", "violations_per_step"} <= keys
    assert {"violations_per_episode", "failed_solves"} <= keys
