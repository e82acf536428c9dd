"""The benchmark of actors in a planner's loop: its tables, and what it refuses before it trains for minutes."""

import dataclasses
import pathlib

import pytest

from planahead.experiments.benchmarks.actor_in_loop import LoopRow, StartRow
from planahead.experiments.benchmarks.actor_tables import LOOP_HEADINGS, START_HEADINGS, loop_cells, start_cells
from planahead.experiments.command import main
from planahead.experiments.run_directory import RunDirectory
from planahead.experiments.settings import TrainSettings

FLOWN = LoopRow("seed 0", 5, "AC4MPC", 10, 1.0, -3.0, 0.0, 100.0, 0.0, 12.0, 2.5)
BEGUN = StartRow("seed 0", 5, "value", "actor", 10, 0.9, 0.002, 7.0, 0.1)


def test_lines_are_means_over_actors_and_say_what_is_missing():
    other = dataclasses.replace(FLOWN, actor="seed 1", success=0.5, cost=None, milliseconds=None)
    alone = dataclasses.replace(FLOWN, policy="actor", cost=None, iterations=None, milliseconds=None)
    first, second = loop_cells([FLOWN, other, alone])
    assert dict(zip(LOOP_HEADINGS, first, strict=True)) == {
        "horizon": "5", "policy": "AC4MPC", "success": "75.0 %", "return": "-3.00", "left the track": "0.0 %",
        "cost": "100", "failed": "0.0 %", "iterations": "12.0", "ms": "2.50",
    }  # fmt: skip
    assert second[1] == "actor" and (second[5], second[7], second[8]) == ("–", "–", "–")
    (line,) = start_cells([BEGUN, dataclasses.replace(BEGUN, actor="seed 1", best=0.7, iterations=float("nan"))])
    assert dict(zip(START_HEADINGS, line, strict=True)) == {
        "horizon": "5", "ends in": "actor's value", "guess": "actor", "at the best": "80.0 %",
        "median excess": "0.2 %", "iterations": "7.0", "failed": "10.0 %",
    }  # fmt: skip


def test_nothing_to_compare_is_said_at_once(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    for missing in (["--seeds"], ["--horizons"]):
        assert main(["bench", "actor-in-loop", *missing, "--out", str(tmp_path / "out")]) == 2
        assert "there is nothing to compare: give --runs or --seeds" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_an_actor_of_another_task_is_refused(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    settings = TrainSettings(task="mass-spring-damper", algorithm="sac", steps=2_000)
    run = RunDirectory.create(tmp_path / "run", settings, {}, {}, {})
    assert main(["bench", "actor-in-loop", "--runs", str(run.path), "--out", str(tmp_path / "out")]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "is a run on «mass-spring-damper»; the actors of this benchmark swing up the «cartpole»" in told
