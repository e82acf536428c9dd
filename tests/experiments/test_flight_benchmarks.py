"""The benchmarks of racing that train nothing: what a time-optimal lap is made of, and what mistakes are told."""

import pathlib

import casadi
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.experiments.benchmarks import time_optimal
from planahead.experiments.commands import bench_flight
from planahead.tasks.flight.believed import Believed
from planahead.tasks.flight.lap import Lap
from planahead.tasks.flight.quadrotor import COMMAND_HIGH, COMMAND_LOW, TIME_STEP, Nominal
from tests.experiments.test_command import refused


def somewhere(seed: int, inner: int) -> tuple[np.ndarray, np.ndarray]:
    """A state in flight and a command; `inner` states are not of the body as a whole."""
    rng = np.random.default_rng(seed)
    attitude = rng.normal(size=4)
    parts = (rng.normal(size=3), attitude / np.linalg.norm(attitude), 8.0 * rng.normal(size=3))
    rest = np.concatenate([3.0 * rng.normal(size=6), rng.uniform(0.0, 34.0, size=1)])[:inner]
    return np.concatenate([*parts, rest]), rng.uniform(COMMAND_LOW, COMMAND_HIGH)


@pytest.mark.parametrize("seed", range(5))
def test_a_lap_is_made_of_the_steps_of_the_race(seed):
    state, command = somewhere(seed, 0)
    for step in (TIME_STEP, 0.05):
        ours = np.asarray(time_optimal._step(casadi)(state, command, step)).ravel()
        races = Nominal().fly(jnp.asarray(state), jnp.asarray(command), jnp.zeros(3), step)
        np.testing.assert_allclose(ours, races, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_a_lap_with_lags_is_made_of_the_steps_that_planners_believe(seed):
    state, command = somewhere(seed, 7)
    ours = np.asarray(time_optimal._lagged_step(casadi)(state, command, TIME_STEP)).ravel()
    believed = jax.jit(lambda x, u: Believed(lags=True).fly(x, u))(jnp.asarray(state), jnp.asarray(command))
    np.testing.assert_allclose(ours, believed, atol=1e-4)


LAP = Lap.load("split-s-90", 7)


class TestTimeOptimal:
    def finds(self, monkeypatch: pytest.MonkeyPatch, solved: bool) -> None:
        found = time_optimal.Optimised(LAP, solved)
        monkeypatch.setattr(time_optimal, "time_optimal_lap", lambda track, **settings: found)

    def test_what_was_found_is_written(self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys):
        self.finds(monkeypatch, True)
        monkeypatch.chdir(tmp_path)
        from planahead.experiments.command import main

        assert main(["bench", "time-optimal", "--out", "lap.csv"]) == 0
        assert "split-s: 5.19" in capsys.readouterr().out
        assert Lap.parse((tmp_path / "lap.csv").read_text(), 7).duration == pytest.approx(float(LAP.duration))

    def test_what_did_not_converge_is_not_written(self, tmp_path, monkeypatch, capsys):
        self.finds(monkeypatch, False)
        said = refused(capsys, "bench", "time-optimal", "--out", str(tmp_path / "lap.csv"))
        assert "IPOPT did not converge; it had reached 5.19" in said and "Nothing is written." in said
        assert not (tmp_path / "lap.csv").exists()

    def test_casadi_that_is_missing_is_said(self, monkeypatch, capsys):
        def missing(track, **settings):
            raise ImportError("No module named 'casadi'")

        monkeypatch.setattr(time_optimal, "time_optimal_lap", missing)
        assert "CasADi is needed, and is not installed: pip install casadi" in refused(capsys, "bench", "time-optimal")

    @pytest.mark.parametrize(
        ("mistake", "message"),
        [
            (
                ("--track", "horizontal"),
                "--track got «horizontal»; tracks that are loops are «split-s», «split-s-real»",
            ),
            (("--thrust", "1.5"), "--thrust got 1.5; a share above 0 and at most 1 was expected"),
            (("--rates", "0"), "--rates got 0.0; a share above 0 and at most 1 was expected"),
            (("--opening", "nan"), "--opening got nan; a share above 0 and at most 1 was expected"),
            (("--clearance", "-1"), "--clearance got -1.0; a number of 0 or more was expected"),
            (("--rate-price", "inf"), "--rate-price got inf; a number of 0 or more was expected"),
        ],
    )
    def test_mistakes_are_told(self, capsys, mistake, message):
        assert message in refused(capsys, "bench", "time-optimal", *mistake)


class TestRobustness:
    @pytest.mark.parametrize(
        ("mistake", "message"),
        [
            (("--episodes", "0"), "--episodes is 0; at least 1 was expected"),
            (("--task", "race-circle"), "--task got «race-circle»; the flights are on race-split-s"),
            ((), "has no finished cell on race-split-s+plant=realistic; train some first: planahead bench racing"),
        ],
    )
    def test_mistakes_are_told(self, tmp_path, capsys, mistake, message):
        folders = "--racing", str(tmp_path / "racing"), "--out", str(tmp_path / "out")
        assert message in refused(capsys, "bench", "robustness", *folders, *mistake)

    def test_a_report_without_flights_is_refused(self, tmp_path, monkeypatch, capsys):
        from planahead.experiments.bench import robustness_pilots

        monkeypatch.setattr(robustness_pilots, "pilots_of_runs", lambda racing, task: [])
        said = refused(capsys, "bench", "robustness", "--out", str(tmp_path), "--report-only")
        assert "holds no flights; run it without --report-only" in said


def test_both_are_commands():
    assert [command.name for command in bench_flight.FLIGHT_BENCHMARKS] == ["bench time-optimal", "bench robustness"]
