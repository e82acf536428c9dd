"""`planahead bench stable-baselines`: two implementations of one idea, trained beside each other."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from planahead.experiments.benchmarks import stable_baselines as bench
from planahead.experiments.benchmarks.rows import csv_text, read_csv
from planahead.experiments.benchmarks.stable_baselines_figure import learning_figure
from planahead.experiments.benchmarks.stable_baselines_learners import Checkpoint
from planahead.experiments.command import main

ROW = bench.Row("windmaze-easy", bench.THEIRS, 1, 500, 500, 10, -2.5, 0.7, 0.01, 12.0)


def test_rows_survive_their_file(tmp_path: pathlib.Path):
    rows = [ROW, dataclasses.replace(ROW, learner=bench.PLANNER, seconds=None)]
    path = tmp_path / "scores.csv"
    assert read_csv(path, bench.Row) == []
    path.write_text(csv_text(rows))
    assert read_csv(path, bench.Row) == rows


def test_a_table_has_a_line_for_every_learner_with_intervals_over_its_seeds():
    rows = [dataclasses.replace(ROW, seed=seed, success=success) for seed, success in enumerate((0.5, 0.75, 1.0))]
    planner = dataclasses.replace(ROW, learner=bench.PLANNER, training_steps=0, steps=0, seconds=None)
    earlier = dataclasses.replace(ROW, steps=250)
    fewer = dataclasses.replace(ROW, episodes=5, success=0.2)  # of an earlier run: scores of their own
    assert bench.cells([planner, earlier, *rows, fewer]) == [
        ("windmaze-easy", bench.PLANNER, "–", "–", "10", "70 %", "-2.50", "1.0 %", "–"),
        (
            "windmaze-easy",
            bench.THEIRS,
            "500",
            "3",
            "10",
            "75 [50, 100] %",
            "-2.50 [-2.50, -2.50]",
            "1.0 [1.0, 1.0] %",
            "12 s",
        ),
        ("windmaze-easy", bench.THEIRS, "500", "1", "5", "20 %", "-2.50", "1.0 %", "12 s"),
    ]


@pytest.mark.long
def test_both_are_trained_once(tmp_path: pathlib.Path):
    pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed: pip install '.[sb3]'")
    out = tmp_path / "out"
    arguments = ["bench", "stable-baselines", "--tasks", "mass-spring-damper", "--seeds", "0", "--steps", "200"]
    arguments += ["--validate-every", "150", "--episodes", "3", "--out", str(out)]
    assert main([*arguments, "--json", str(tmp_path / "first.json")]) == 0
    rows = read_csv(out / "scores.csv", bench.Row)
    assert [row.learner for row in rows if row.last] == [bench.PLANNER, bench.OURS, bench.THEIRS]
    assert [row.steps for row in rows if row.learner == bench.THEIRS] == [150, 200]
    assert all(row.success <= 1.0 and row.failed_plans == 0.0 for row in rows)
    assert json.loads((tmp_path / "first.json").read_text())["scores"][0]["learner"] == bench.PLANNER
    assert main(arguments) == 0
    assert read_csv(out / "scores.csv", bench.Row) == rows  # times too: nothing was trained again
    assert bench.OURS in (out / "scores.md").read_text()
    assert (out / "learning.png").stat().st_size > 10_000


def test_what_is_asked_twice_is_trained_once_and_what_broke_off_starts_anew(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed: pip install '.[sb3]'")
    trained: list[tuple[str, int]] = []

    def learner(name: str) -> Callable[..., Iterator[Checkpoint]]:
        def train(task: object, steering: object, marks: Sequence[int], seed: int) -> Iterator[Checkpoint]:
            trained.append((name, seed))
            for mark in marks:
                yield Checkpoint(mark, lambda seen: seen, 1.0)

        return train

    found = {"mean_return": 0.0, "success": 1.0, "failed_plans": 0.0}
    monkeypatch.setattr(bench, "evaluated", lambda *_: found)
    monkeypatch.setattr(bench, "TRAINED", {name: learner(name) for name in (bench.OURS, bench.THEIRS)})
    broken_off = bench.Row("linear", bench.OURS, 1, 100, 60, 5, -9.0, 0.0, 0.0, 1.0)
    rows = bench.run(["linear"], [0, 0, 1], 100, 60, 5, [broken_off])
    assert trained == [(bench.OURS, 0), (bench.THEIRS, 0), (bench.OURS, 1), (bench.THEIRS, 1)]
    assert len(rows) == 1 + 4 * 2  # at 60 and 100 steps
    assert broken_off not in rows


def test_a_figure_has_panels_for_every_task_and_a_level_for_the_planner():
    steps = [dataclasses.replace(ROW, steps=250, success=0.2), ROW]
    planner = dataclasses.replace(ROW, learner=bench.PLANNER, training_steps=0, steps=0, success=0.1)
    other = [dataclasses.replace(row, task="cartpole") for row in steps]
    figure = learning_figure([planner, *steps, *other])
    assert len(figure.axes) == 4
    success = {tuple(np.asarray(line.get_ydata(), float)) for line in figure.axes[0].lines}
    assert {(20.0, 70.0), (10.0, 10.0)} <= success


def test_an_unknown_task_is_said(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed: pip install '.[sb3]'")
    assert main(["bench", "stable-baselines", "--tasks", "cartpol", "--out", str(tmp_path)]) == 2
    said = "there is no task «cartpol» (did you mean cartpole?); the known ones are «cartpole»"
    assert said in capsys.readouterr().err


def test_nothing_to_compare_is_said(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "stable-baselines", "--seeds", "--out", str(tmp_path)]) == 2
    assert "there is nothing to compare: give --tasks and --seeds" in capsys.readouterr().err
