"""The benchmark of learners: its cells, what is kept of them, and that interruptions cost nothing but time."""

import csv
import dataclasses
import math
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from rich.console import Console

from planahead.experiments.bench import (
    definition,
    figures,
    named,
    outcomes,
    report,
    results,
    running,
    summary,
    tuned_planner,
)
from planahead.experiments.bench.definition import Benchmark, Cell, Conditions, Entry, World
from planahead.experiments.bench.results import CURVE, Result
from planahead.experiments.errors import UserError
from planahead.experiments.evaluation import Evaluation
from planahead.experiments.lock import InUse, locked
from planahead.experiments.run_directory import RunDirectory
from planahead.experiments.training import train
from planahead.learning.presets import PRESETS

RESULT = Result(
    task="cartpole", algorithm="sac", interface="global", seed=0, steps=8, steps_to_goal=None, seconds_to_goal=None,
    seconds=1.0, best_step=8, success_best=1.0, success_last=0.5, success_best_single=None, success_last_single=None,
    return_best=2.0, return_last=1.0, return_best_single=None, success_area=0.5, return_area=1.0, failed_solves=0.0,
    violations_per_step=0.0, violations_per_episode=0.0, train_episodes=4.0, train_violations_per_step=0.1,
    train_violations_per_episode=0.2, train_failed_solves=0.0, episodes=5, settings="", commit=None, planahead="1",
    jax="1", processor="abacus",
)  # fmt: skip
CONDITIONS = Conditions(steps=600, validate_every=200, validation_episodes=3, episodes=4)
CONSOLE = Console(quiet=True)
EVALUATION = Evaluation(
    start_spread=0.1, returns=np.array([1.0, 2.0, 4.0]), lengths=np.array([5, 6, 7]),
    success=np.array([True, True, False]), terminated=np.array([False, True, True]), violations=np.array([0, 0, 1]),
    failed=np.array([0, 0, 2]), outcomes={"lap [s]": np.array([5.0, 6.0, np.nan])},
)  # fmt: skip


def curve(*success: float, step: int = 4) -> list[dict[str, float]]:
    unknown = dict.fromkeys(CURVE, math.nan)
    return [
        unknown | {"step": float(step * i), "seconds": float(i), "success_rate": rate, "mean_return": 2 * rate}
        for i, rate in enumerate(success)
    ]


def finished(result: Result) -> running.Finished:
    return running.Finished(result, curve(0, 1, 1), EVALUATION, None)


def stub_cell(seed: int = 0, entry: str = "stub", **changes: object) -> Cell:
    return Cell("point", Entry.parse(entry), "global", seed, dataclasses.replace(CONDITIONS, **changes))


class TestCells:
    def test_the_first_seed_is_complete_first_and_the_planner_is_judged_once(self):
        benchmark = Benchmark("", {"cartpole": Conditions(), "chain": Conditions(steps=7)}, ("sac", "planner"), (3, 4))
        found = definition.cells(benchmark, interfaces=("global", "stage"))
        assert [cell.name for cell in found] == [
            "cartpole-sac-global-3", "cartpole-planner-global-0", "cartpole-sac-stage-3",
            "chain-sac-global-3", "chain-planner-global-0", "chain-sac-stage-3",
            "cartpole-sac-global-4", "cartpole-sac-stage-4", "chain-sac-global-4", "chain-sac-stage-4",
        ]  # fmt: skip
        assert [cell.conditions.steps for cell in found[:4]] == [100_000] * 3 + [7]
        assert {cell.conditions.steps for cell in definition.cells(benchmark, steps=5)} == {5}

    def test_an_entry_is_spelt_in_one_way(self):
        tails = ("prior-weight=0.10+residual=True", "residual=true+prior_weight=.1")
        first, second = (Entry.parse(f"sac-zop+{tail}") for tail in tails)
        assert first == second and str(first) == "sac-zop+prior_weight=0.1+residual=true"
        cell = Cell("cartpole", first, "stage", 1, Conditions(options=("batch_size=64", "residual=false")))
        assert cell.settings.learner_options() == {"batch_size": 64, "residual": True, "prior_weight": 0.1}
        assert cell.settings.task_arguments() == {"interface": "stage"}

    def test_a_task_is_spelt_in_one_way_and_brings_its_options(self):
        first, second = (
            World.parse(f"race-split-s+{tail}") for tail in ("horizon=5+plant=realistic", "plant=realistic+horizon=5")
        )
        assert first == second and str(first) == "race-split-s+horizon=5+plant=realistic"
        cell = Cell(str(first), Entry("ac-mpc"), "stage", 1, Conditions(steps=9, options=("anneal_steps={steps}",)))
        assert cell.settings.task == "race-split-s"
        assert cell.settings.task_arguments() == {"horizon": 5, "plant": "realistic"}
        assert cell.settings.learner_options() == {"anneal_steps": 9}
        assert "anneal_steps=9" in results.told_settings(cell), "a longer training is another one"
        other = dataclasses.replace(cell, interface="global").settings.task_arguments()
        assert other["interface"] == "global", "the task's own interface is per stage"
        for text, told in (
            ("race", "the known ones are"),
            ("race-split-s+wings=2", "no option 'wings'"),
            ("race-split-s+interface=stage", "--interfaces"),
        ):
            with pytest.raises(UserError, match=told):
                World.parse(text)

    def test_conditions_of_a_task_with_options_are_those_of_the_task(self):
        benchmark = Benchmark("", {"chain": Conditions(steps=7)}, ("sac",), (0,))
        (cell,) = definition.cells(benchmark, ["chain+masses=3"])
        assert (cell.task, cell.conditions.steps) == ("chain+masses=3", 7)

    def test_every_benchmark_can_be_built(self):
        for benchmark in named.BENCHMARKS.values():
            cells = definition.cells(benchmark)
            assert len({cell.name for cell in cells}) == len(cells) > 0
            assert all(cell.settings.algorithm for cell in cells if cell.entry.trained)

    def test_the_lines_of_every_benchmark_can_be_told_apart(self):
        for name, benchmark in named.BENCHMARKS.items():
            lines = {(str(cell.entry), cell.interface) for cell in definition.cells(benchmark)}
            looks = list(figures._looks({line: [] for line in sorted(lines)}))
            assert len(set(looks)) == len(lines), name
        assert PRESETS.keys() <= figures.COLOURS.keys()


class TestOutcomes:
    def test_episodes_survive_writing_and_reading(self, tmp_path: pathlib.Path):
        path = outcomes.episodes_path(tmp_path, "cell")
        outcomes.write_episodes(path, EVALUATION)
        found = outcomes.read_episodes(path)
        assert list(found) == [*outcomes.COMMON, "lap [s]"]
        np.testing.assert_array_equal(found["success"], EVALUATION.success)
        np.testing.assert_array_equal(found["lap [s]"], EVALUATION.outcomes["lap [s]"])
        path.write_text(path.read_text().replace("5", "five"))
        with pytest.raises(UserError, match=r"is damaged: .*'five'"):
            outcomes.read_episodes(path)

    def test_only_successful_episodes_count(self, tmp_path: pathlib.Path):
        rows = [dataclasses.replace(RESULT, seed=seed) for seed in (0, 1)]
        assert outcomes.outcomes_markdown(tmp_path, rows) is None, "no episodes are kept"
        for row, slower in zip(rows, (0.0, 1.0), strict=True):
            laps = {"lap [s]": np.array([5.0, 6.0, 99.0]) + slower}
            evaluation = dataclasses.replace(EVALUATION, outcomes=laps)
            outcomes.write_episodes(outcomes.episodes_path(tmp_path, row.name), evaluation)
        told = outcomes.outcomes_markdown(tmp_path, rows)
        assert told is not None and "| sac | 2 | 6 | 66.7 % [30.0, 90.3] | 6.000 [5.500, 6.500] ± 0.500 |" in told

    def test_seeds_without_success_are_said(self, tmp_path: pathlib.Path):
        rows = [dataclasses.replace(RESULT, seed=seed) for seed in (0, 1)]
        for row, success in zip(rows, (EVALUATION.success, np.zeros(3, bool)), strict=True):
            evaluation = dataclasses.replace(
                EVALUATION, success=success, outcomes={"lap [s]": np.array([5.0, 6.0, 99.0])}
            )
            outcomes.write_episodes(outcomes.episodes_path(tmp_path, row.name), evaluation)
        told = outcomes.outcomes_markdown(tmp_path, rows)
        assert told is not None and "| sac | 2 | 6 | 33.3 % [9.7, 70.0] | 5.500 ± 0.500 (1 of 2 seeds) |" in told

    def test_a_task_without_outcomes_has_no_table(self, tmp_path: pathlib.Path):
        evaluation = dataclasses.replace(EVALUATION, outcomes={})
        outcomes.write_episodes(outcomes.episodes_path(tmp_path, RESULT.name), evaluation)
        assert outcomes.outcomes_markdown(tmp_path, [RESULT]) is None


class TestTable:
    def rows(self, path: pathlib.Path) -> list[list[str]]:
        with open(path, newline="") as file:
            return [[row["algorithm"], row["seed"], row["seconds"]] for row in csv.DictReader(file)]

    def test_a_row_replaces_its_older_one_and_keeps_the_others(self, tmp_path: pathlib.Path):
        path = tmp_path / "results.csv"
        for seed in (10, 2, 0):
            results.add_result(path, dataclasses.replace(RESULT, seed=seed))
        found = results.add_result(path, dataclasses.replace(RESULT, seed=2, seconds=7.0))
        assert self.rows(path) == [["sac", "0", "1.0"], ["sac", "2", "7.0"], ["sac", "10", "1.0"]]
        assert results.read_results(path) == found and found[RESULT.key] == RESULT  # `None` and all types survive

    def test_rows_that_are_added_at_once_are_all_kept(self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(running, "write_benchmark_report", lambda out, **_: None)
        found = [dataclasses.replace(RESULT, algorithm=a, seed=s) for a in ("sac", "sac-zop") for s in range(4)]
        threads = [threading.Thread(target=running.publish, args=(tmp_path, finished(row))) for row in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.rows(tmp_path / "results.csv") == sorted([row.algorithm, str(row.seed), "1.0"] for row in found)
        assert not (tmp_path / "results.lock").exists()
        assert sorted(path.stem for path in (tmp_path / "curves").iterdir()) == sorted(row.name for row in found)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (("global,0", "global,zero"), "is damaged: .*'zero'.*Move it away"),
            (("seed", "sed"), "has the columns"),
        ],
    )
    def test_a_damaged_table_is_said(self, tmp_path: pathlib.Path, change: tuple[str, str], message: str):
        path = tmp_path / "results.csv"
        results.add_result(path, RESULT)
        path.write_text(path.read_text().replace(*change))
        with pytest.raises(UserError, match=message):
            results.add_result(path, RESULT)

    def test_a_curve_survives_its_file(self, tmp_path: pathlib.Path):
        path, rows = tmp_path / "curve.csv", curve(0.0, 1 / 3, step=1_000_003)
        results.write_curve(path, rows)
        found = results.read_curve(path)
        assert found[1]["step"] == 1_000_003 and found[1]["success_rate"] == pytest.approx(1 / 3, rel=1e-6)
        assert math.isnan(found[0]["train_entropy"])
        path.write_text(path.read_text().replace("0.333333", "a third"))
        with pytest.raises(UserError, match=r"is damaged: .*'a third'; numbers were expected"):
            results.read_curve(path)
        path.write_text("step\n0\n")
        with pytest.raises(UserError, match="has the columns"):
            results.read_curve(path)


def test_training_is_averaged_by_steps_and_by_episodes(tmp_path: pathlib.Path):
    """Two chunks of 100 steps: one violation in 4 episodes, then one in one."""
    run = RunDirectory(tmp_path)
    for step in (0, 200, 300):
        run.append("validations", {"step": step, "success_rate": 0.25})
    chunks = [(100, 4, 0.25, 0.01, math.nan), (200, 1, 1.0, 0.05, -3.0), (300, 0, math.nan, 0.0, -2.0)]
    for step, episodes, per_episode, per_step, entropy in chunks:
        run.append("metrics", {"step": step, "entropy": entropy, "episodes": episodes,
                               "violations_per_episode": per_episode, "violations_per_step": per_step})  # fmt: skip
        run.append("timing", {"step": step, "seconds": step / 10})
    start, both, last = results.curve_of_run(run)
    assert math.isnan(start["train_violations_per_step"]) and start["seconds"] == 0
    assert both["train_violations_per_step"] == pytest.approx(0.03)
    assert both["train_violations_per_episode"] == pytest.approx(2 / 5) and both["train_episodes"] == 5
    assert both["train_entropy"] == -3.0 and both["seconds"] == 20 and math.isnan(both["train_temperature"])
    assert math.isnan(last["train_violations_per_episode"])
    totals = results._trained([start, both, last])
    assert totals["train_violations_per_step"] == pytest.approx(0.02)  # 6 of 300
    assert totals["train_violations_per_episode"] == pytest.approx(2 / 5)


@pytest.mark.usefixtures("stub_names")
class TestRunning:
    def test_a_killed_cell_goes_on_from_its_checkpoint(self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
        whole = running.run_cell(stub_cell(), tmp_path / "whole", CONSOLE)
        out = tmp_path / "out"

        def half(experiment, run, console):
            """Stops after half of the steps, as a signal would make it."""
            settings = dataclasses.replace(experiment.settings, steps=300)
            done = train(dataclasses.replace(experiment, settings=settings), run, console)
            return dataclasses.replace(done, finished=False)

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(running, "train", half)
            running.run_cell(stub_cell(), out, CONSOLE)
        assert running.finished_result(out, stub_cell()) is None
        assert not (out / "results.csv").exists() and not list((out / "runs").glob("*.lock"))

        def watched(experiment, run, console):
            assert experiment.load_state(run)[1].step == 300
            return train(experiment, run, console)

        monkeypatch.setattr(running, "train", watched)
        gone_on = running.run_cell(stub_cell(), out, CONSOLE)
        assert gone_on.steps == 600
        # Validated once more, where it was stopped; everything that the learner did is the same.
        same = ("success_best", "success_last", "return_last", "train_failed_solves")
        assert {n: getattr(gone_on, n) for n in same} == {n: getattr(whole, n) for n in same}

    def test_more_steps_go_on_and_fewer_are_there(self, tmp_path: pathlib.Path):
        running.run_cell(stub_cell(), tmp_path, CONSOLE)
        assert running.finished_result(tmp_path, stub_cell(steps=300)) is not None
        assert running.finished_result(tmp_path, stub_cell(steps=800)) is None
        result = running.run_cell(stub_cell(steps=800), tmp_path, CONSOLE)
        assert result.steps == 800 == results.read_curve(report.curve_path(tmp_path, result.name))[-1]["step"]

    def test_a_row_without_its_curve_is_not_finished(self, tmp_path: pathlib.Path):
        """A process may be killed between the two."""
        result = running.run_cell(stub_cell(), tmp_path, CONSOLE)
        report.curve_path(tmp_path, result.name).unlink()
        assert running.finished_result(tmp_path, stub_cell()) is None
        assert running.run_cell(stub_cell(), tmp_path, CONSOLE).return_last == result.return_last

    def test_other_conditions_are_another_cell(self, tmp_path: pathlib.Path):
        running.run_cell(stub_cell(), tmp_path, CONSOLE)
        with pytest.raises(UserError, match=r"was made with «validate_every=200 .*», and «validate_every=100 "):
            running.finished_result(tmp_path, stub_cell(validate_every=100))

    def test_a_cell_is_held_by_one_process(self, tmp_path: pathlib.Path):
        cells = [stub_cell(0), stub_cell(1)]
        (tmp_path / "runs").mkdir()
        with locked(tmp_path / "runs" / f"{cells[0].name}.lock", "it"):
            with pytest.raises(InUse):
                running.run_cell(cells[0], tmp_path, CONSOLE)
            outcome = running.run_cells(cells, tmp_path, CONSOLE)
        assert outcome == running.Outcome((cells[1].name,), (cells[0].name,), {})

    def test_a_failing_cell_does_not_stop_the_others(self, tmp_path: pathlib.Path):
        cells = [stub_cell(0), stub_cell(1)]
        (tmp_path / "runs" / cells[0].name).mkdir(parents=True)
        (tmp_path / "runs" / cells[0].name / "config.json").write_text("{")
        outcome = running.run_cells(cells, tmp_path, CONSOLE)
        assert outcome.finished == (cells[1].name,) and "is not JSON" in outcome.failed[cells[0].name]

    def test_the_planner_is_judged_and_not_trained(self, tmp_path: pathlib.Path):
        cell = stub_cell(entry="planner")
        result = running.run_cell(cell, tmp_path, CONSOLE)
        assert (result.steps, result.success_best, result.train_violations_per_step) == (0, 1.0, None)
        assert not (tmp_path / "runs" / cell.name).exists()
        assert [row["success_rate"] for row in results.read_curve(report.curve_path(tmp_path, cell.name))] == [1.0]
        assert running.finished_result(tmp_path, cell) == result


class TestSummary:
    def test_interquartile_means_over_seeds(self):
        values = (0.0, 0.5, 0.75, 1.0, 1.0)
        rows = [dataclasses.replace(RESULT, seed=i, success_best=value) for i, value in enumerate(values)]
        (found,) = summary.summarise(rows)
        estimate = found.estimates["success_best"]
        assert estimate.value == pytest.approx(0.75) and estimate.low < 0.75 < estimate.high <= 1.0
        assert found.seeds == (0, 1, 2, 3, 4)
        assert math.isinf(found.estimates["steps_to_goal"].value)
        row = dict(zip(summary.headings(), found.cells(), strict=True))
        assert row["steps to 95 %"] == "never" and row["success, best"].startswith("75 % [")

    def test_a_goal_that_one_seed_misses(self):
        rows = [dataclasses.replace(RESULT, seed=i, steps_to_goal=s) for i, s in enumerate((8, 8, 12, 16, None))]
        estimate = summary.summarise(rows)[0].estimates["steps_to_goal"]
        assert estimate.value == 12 and math.isinf(estimate.high) and estimate.low >= 8

    def test_lines_are_in_order(self):
        names = ("sac-fop+prior_weight=0.1", "td3", "sac-fop", "planner")
        rows = [dataclasses.replace(RESULT, algorithm=name) for name in names]
        rows.append(dataclasses.replace(RESULT, algorithm="sac-fop", interface="stage"))
        found = [(line.algorithm, line.interface) for line in summary.summarise(rows)]
        assert found == [("planner", "global"), ("sac-fop", "global"), ("sac-fop", "stage"),
                         ("sac-fop+prior_weight=0.1", "global"), ("td3", "global")]  # fmt: skip

    def test_table_and_pictures_come_from_rows_and_curves_alone(self, tmp_path: pathlib.Path):
        for seed, lost in enumerate((0.0, 0.1, 0.2)):
            row = dataclasses.replace(RESULT, seed=seed)
            results.add_result(tmp_path / "results.csv", row)
            rows = [r | {"train_violations_per_step": lost} for r in curve(0.0, 0.5, 1.0 - lost)]
            results.write_curve(report.curve_path(tmp_path, row.name), rows)
        results.add_result(tmp_path / "results.csv", dataclasses.replace(RESULT, algorithm="unfinished"))
        (line,) = report.write_benchmark_report(tmp_path)
        assert line.seeds == (0, 1, 2)
        with open(tmp_path / "summary.csv", newline="") as file:
            (row,) = csv.DictReader(file)
        assert row["steps_to_goal"] == "inf" and float(row["train_violations_per_step"]) == pytest.approx(0.1)
        assert "| sac | 3 | 0k | never |" in (tmp_path / "summary.md").read_text()
        assert report.picture_path(tmp_path, "cartpole").stat().st_size > 10_000
        with pytest.raises(UserError, match="has no finished cell of «chain»; it has some of «cartpole»"):
            report.write_benchmark_report(tmp_path, ("chain",))


def test_processes_share_the_cells(tmp_path: pathlib.Path):
    """Real processes, which know no stub: planners of a small task, one of which another invocation holds."""
    from planahead.experiments.bench.jobs import run_cells_at_once

    conditions = Conditions(episodes=2)
    cells = [Cell("mass-spring-damper", Entry("planner"), "global", seed, conditions) for seed in (0, 1)]
    (tmp_path / "runs").mkdir()
    start = time.monotonic()
    with locked(tmp_path / "runs" / f"{cells[1].name}.lock", "it"):
        outcome = run_cells_at_once(cells, tmp_path, 2, CONSOLE)
    assert outcome == running.Outcome((cells[0].name,), (cells[1].name,), {}), time.monotonic() - start
    assert np.isfinite(report.finished_results(tmp_path)[0].return_best)


@pytest.mark.slow
def test_a_stopped_benchmark_saves_and_goes_on(tmp_path: pathlib.Path):
    """Two learners at once, stopped by the system; the same command finishes both, from where they were."""
    settings = "steps_per_chunk=400 warm_up_steps=160 batch_size=16 hidden_units=16 replay_size=1600".split()
    command = [
        sys.executable, "-m", "planahead.experiments.command", "bench", "mpc-prior", "--tasks", "mass-spring-damper",
        "--algorithms", "+".join(["sac", *settings]), "--seeds", "0", "1", "--steps", "400000", "--episodes", "2",
        "--jobs", "2", "--out", str(tmp_path),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    tables = [run / "timing.csv" for run in (tmp_path / "runs" / cell_name(settings, seed) for seed in (0, 1))]
    try:
        while process.poll() is None and not all(t.exists() and t.read_text().count("\n") > 3 for t in tables):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and said.count("stopped and saved") == 2 and "the same command goes on" in said
    before = [len(table.read_text().splitlines()) for table in tables]
    assert not (tmp_path / "results.csv").exists() and not list((tmp_path / "runs").glob("**/lock"))

    steps = [str(400 * (max(before) + 2)) if part == "400000" else part for part in command]
    done = subprocess.run(steps, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [result.seed for result in report.finished_results(tmp_path)] == [0, 1]
    for table, rows in zip(tables, before, strict=True):
        assert table.read_text().splitlines()[rows - 1].split(",")[0] == str(400 * (rows - 1))
        assert "going on at step" in (tmp_path / "runs" / f"{table.parent.name}.log").read_text()


def cell_name(settings: Sequence[str], seed: int) -> str:
    return Cell("mass-spring-damper", Entry.parse("+".join(["sac", *settings])), "global", seed).name


class TestTunedPlanner:
    CELL = Cell("mass-spring-damper", Entry.parse("planner-tuned"), "global", 0, CONDITIONS)

    def test_constants_are_tuned_within_the_budget_and_kept(self, tmp_path):
        result = running.run_cell(self.CELL, tmp_path, CONSOLE)
        curve = results.read_curve(report.curve_path(tmp_path, self.CELL.name))
        assert [row["step"] for row in curve] == [0, 200, 400, 600] and result.steps == 600
        # What is kept validated best; the problem's own parameters are the first candidate.
        best = max((row["success_rate"], row["mean_return"]) for row in curve)
        assert best in [(r["success_rate"], r["mean_return"]) for r in curve if r["step"] == result.best_step]
        lengths = [row["train_episode_length"] * row["train_episodes"] for row in curve if row["train_episodes"] > 0]
        assert 0 < sum(lengths) <= CONDITIONS.steps and result.train_violations_per_step == 0.0
        assert running.run_cell(self.CELL, tmp_path, CONSOLE) == result  # looked up, not tuned again

    def test_the_seed_decides(self):
        one, again, other = (
            tuned_planner.tune_planner(dataclasses.replace(self.CELL, seed=seed), CONSOLE).curve for seed in (3, 3, 4)
        )
        returns = [[row["mean_return"] for row in found] for found in (one, again, other)]
        assert returns[0] == returns[1] != returns[2]
