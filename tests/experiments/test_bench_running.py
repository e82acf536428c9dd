"""The benchmark of learners: interruptions cost nothing but time, and processes share its cells."""

import contextlib
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import pytest

from planahead.experiments.bench import report, results, running, tuned_planner, tuning_progress
from planahead.experiments.bench.definition import Cell, Conditions, Entry
from planahead.experiments.errors import UserError
from planahead.experiments.lock import InUse, locked
from planahead.experiments.training import train
from tests.experiments.bench_stubs import CONDITIONS, CONSOLE, stub_cell


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

    def test_a_row_of_fewer_episodes_is_not_taken_for_another(self, tmp_path: pathlib.Path):
        running.run_cell(stub_cell(), tmp_path, CONSOLE)
        fewer = stub_cell(episodes=2)
        with pytest.raises(UserError, match=r"was judged by \d+ episodes, and 2 are asked for"):
            running.finished_result(tmp_path, fewer)
        longer = stub_cell(episodes=2, steps=800)
        assert running.finished_result(tmp_path, longer) is None, "it is trained on, and judged anew"

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


@pytest.mark.long
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
    assert process.returncode == 130 and said.count("stopped after") == 2 and "the same command goes on" in said
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

    def test_the_seed_decides(self, tmp_path):
        one, again, other = (
            tuned_planner.tune_planner(dataclasses.replace(self.CELL, seed=seed), tmp_path / str(n), CONSOLE).curve
            for n, seed in enumerate((3, 3, 4))
        )
        returns = [[row["mean_return"] for row in found] for found in (one, again, other)]
        assert returns[0] == returns[1] != returns[2]

    @pytest.mark.long
    def test_a_tuning_that_was_interrupted_ends_as_if_it_had_not_been(self, tmp_path, monkeypatch):
        """At every generation, before it is written and after."""
        cell = dataclasses.replace(self.CELL, conditions=dataclasses.replace(CONDITIONS, steps=2_400))
        whole = tuned_planner.tune_planner(cell, tmp_path / "whole.json", CONSOLE)
        path, write = tmp_path / "parts.json", tuning_progress.Progress.write
        written: list[int] = []

        def interrupted(progress: tuning_progress.Progress, path: pathlib.Path) -> None:
            if len(progress.generations) not in written:
                written.append(len(progress.generations))
                if len(written) % 2:
                    write(progress, path)
                raise KeyboardInterrupt
            write(progress, path)

        monkeypatch.setattr(tuning_progress.Progress, "write", interrupted)
        sittings, parts = 0, None
        while parts is None:
            sittings += 1
            with contextlib.suppress(KeyboardInterrupt):
                parts = tuned_planner.tune_planner(cell, path, CONSOLE)
        assert sittings == len(written) + 1 == len(json.loads(path.read_text())["generations"]) + 1 > 3
        assert parts.parameters() == whole.parameters() and parts.best_step == whole.best_step
        for one, other in zip(parts.curve, whole.curve, strict=True):
            np.testing.assert_equal({**one, "seconds": 0.0}, {**other, "seconds": 0.0})

    def test_more_steps_go_on_and_other_settings_are_refused(self, tmp_path):
        path = tmp_path / "tuning.json"
        first = tuned_planner.tune_planner(self.CELL, path, CONSOLE).curve
        before = json.loads(path.read_text())["generations"]

        def with_conditions(**changes: int) -> Cell:
            return dataclasses.replace(self.CELL, conditions=dataclasses.replace(CONDITIONS, **changes))

        longer = tuned_planner.tune_planner(with_conditions(steps=1_200), path, CONSOLE).curve
        after = json.loads(path.read_text())["generations"]
        assert len(after) > len(before) and after[: len(before)] == before
        assert [row["step"] for row in longer] == [*range(0, 1_201, 200)] and longer[0] == first[0]
        tuned_planner.tune_planner(with_conditions(steps=1_200, episodes=99), path, CONSOLE)  # of the end, not of it
        with pytest.raises(UserError, match=r"other settings: validation_episodes is \d+ there, 5 came"):
            tuned_planner.tune_planner(with_conditions(validation_episodes=5), path, CONSOLE)
        assert json.loads(path.read_text())["generations"] == after

    def test_a_budget_without_a_generation_keeps_the_planner_as_it_comes(self, tmp_path):
        """And a point in the cell's name is no suffix."""
        cell = Cell(
            "mass-spring-damper+discount=0.95+matched=true", Entry.parse("planner-tuned"), "global", 1,
            dataclasses.replace(CONDITIONS, steps=200),
        )  # fmt: skip
        assert running.run_cell(cell, tmp_path, CONSOLE).steps == 200
        found = json.loads((tmp_path / "runs" / cell.name / "parameters.json").read_text())
        assert found["best"] == found["last"] and not (tmp_path / "runs" / cell.name / "tuning.json").exists()

    def test_a_damaged_tuning_is_told(self, tmp_path):
        path = tmp_path / "tuning.json"
        tuned_planner.tune_planner(self.CELL, path, CONSOLE)
        content = json.loads(path.read_text())
        short = [{**content["generations"][0], "returns": [0.0]}]
        unknown = [{**content["generations"][0], "returns": [None] * content["about"]["population"]}]
        for damage in (
            {"about": 3}, {"curve": []}, {"best": [0.0]}, {"best": None}, {"generations": 3}, {"generations": short},
            {"generations": unknown}, {"sums": {}}, {"step": None},
        ):  # fmt: skip
            path.write_text(json.dumps(content | damage))
            with pytest.raises(UserError, match=r"tuning\.json» is damaged .* Move it away"):
                tuned_planner.tune_planner(self.CELL, path, CONSOLE)
        for name in content:
            path.write_text(json.dumps({other: value for other, value in content.items() if other != name}))
            with pytest.raises(UserError, match=r"tuning\.json» is damaged .* Move it away"):
                tuned_planner.tune_planner(self.CELL, path, CONSOLE)
