"""The benchmark of learners: which cells it has, what is kept of them, and what is said of that."""

import csv
import dataclasses
import math
import pathlib
import threading

import numpy as np
import pytest
from matplotlib.figure import Figure

from planahead.experiments.bench import definition, figures, named, outcomes, report, results, running, summary
from planahead.experiments.bench.definition import Benchmark, Cell, Conditions, Entry, World
from planahead.experiments.bench.results import Result
from planahead.experiments.errors import UserError
from planahead.experiments.run_directory import RunDirectory
from planahead.learning.presets import PRESETS
from tests.experiments.bench_stubs import CONDITIONS, EVALUATION, RESULT, curve


def finished(result: Result) -> running.Finished:
    return running.Finished(result, curve(0, 1, 1), EVALUATION, None)


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

    def test_a_task_of_ones_own_goes_by_its_module_and_class(self):
        own = "tests.experiments.stubs:PointTask"
        cell = Cell(str(World.parse(own)), Entry("sac"), "global", 0, CONDITIONS)
        assert cell.settings.task == own and cell.settings.task_arguments() == {}
        assert cell.name == "tests.experiments.stubs-PointTask-sac-global-0", "a colon is no part of a file's name"
        assert dataclasses.replace(RESULT, task=own).name == cell.name
        assert report.picture_path(pathlib.Path(), own).name == "learning-tests.experiments.stubs-PointTask.png"
        with pytest.raises(UserError, match=r"tests\.experiments\.stubs has no Task called 'Pint'"):
            World.parse("tests.experiments.stubs:Pint")

    def test_conditions_of_a_task_with_options_are_those_of_the_task(self):
        benchmark = Benchmark("", {"chain": Conditions(steps=7)}, ("sac",), (0,))
        (cell,) = definition.cells(benchmark, ["chain+masses=3"])
        assert (cell.task, cell.conditions.steps) == ("chain+masses=3", 7)

    def test_every_benchmark_can_be_built(self):
        for benchmark in named.BENCHMARKS.values():
            cells = definition.cells(benchmark)
            assert len({cell.name for cell in cells}) == len(cells) > 0
            assert all(cell.settings.algorithm for cell in cells if cell.entry.trained)

    def test_variants_are_written_in_the_one_way_that_results_have(self):
        """A table would miss any other."""
        for benchmark in named.BENCHMARKS.values():
            for task, algorithm in (pair for ablation in benchmark.ablations for pair in ablation.variants.values()):
                assert (str(World.parse(task)), str(Entry.parse(algorithm))) == (task, algorithm)

    def test_a_task_may_have_algorithms_of_its_own(self):
        algorithms = {"cartpole": ("sac",), "chain": ("sac-zop", "planner")}
        benchmark = Benchmark("", {"cartpole": Conditions(), "chain": Conditions()}, algorithms, (0,))
        found = [(cell.task, str(cell.entry)) for cell in definition.cells(benchmark)]
        assert found == [("cartpole", "sac"), ("chain", "sac-zop"), ("chain", "planner")]
        (cell,) = definition.cells(benchmark, ["cartpole+pole_mass=0.2"])
        assert str(cell.entry) == "sac"
        assert len(definition.cells(benchmark, ["linear"], ["sac", "td3"])) == 2
        with pytest.raises(
            UserError, match="«linear», for which this benchmark has no algorithms; it has some for «cart"
        ):
            definition.cells(benchmark, ["linear"])

    def test_the_lines_of_every_benchmark_can_be_told_apart(self):
        for name, benchmark in named.BENCHMARKS.items():
            cells = definition.cells(benchmark)
            for task in {cell.task for cell in cells}:
                lines = {(str(cell.entry), cell.interface) for cell in cells if cell.task == task}
                for sheet in figures._sheets({line: [] for line in sorted(lines)}).values():
                    assert len(set(figures._looks(sheet))) == len(sheet), name
        assert PRESETS.keys() <= figures.COLOURS.keys()

    def test_settings_that_several_algorithms_share_are_a_sheet_of_their_own(self):
        larger = ("sac+batch_size=64", "sac-zop+batch_size=64", "sac-zop+batch_size=64+prior_weight=0.1")
        names = ("sac", "sac-zop", "sac-zop+prior_weight=0.1", *larger, "planner")
        drawn = figures.benchmark_figure("cartpole", {(name, "global"): [curve(0, 1)] for name in names})
        labels = {
            part.get_suptitle(): [text.get_text() for text in part.legends[0].get_texts()] for part in drawn.subfigs
        }
        assert labels == {
            "cartpole": ["planner", "sac (1)", "sac-zop (1)", "sac-zop+prior_weight=0.1 (1)"],
            "cartpole, batch_size=64": ["planner", "sac (1)", "sac-zop (1)", "sac-zop+prior_weight=0.1 (1)"],
        }

    def test_planners_are_on_every_sheet_and_make_none(self):
        tuned = ("sac+batch_size=64", "sac-zop+batch_size=64", "sac-foa+learning_rate=0.003")
        (sheet,) = figures._sheets({(name, "global"): [] for name in ("planner-tuned", *tuned)}).values()
        assert len(sheet) == 4
        sheets = figures._sheets({(name, "global"): [] for name in ("sac", "planner-tuned", *tuned)})
        assert [[name for name, _ in sheet] for sheet in sheets.values()] == [
            ["planner-tuned", "sac", "sac-foa+learning_rate=0.003"],
            ["planner-tuned", "sac", "sac-zop"],
        ]

    def test_seeds_are_averaged_where_all_of_them_were_judged(self):
        """One that was interrupted has been judged at other steps too."""
        rows = [
            [{**curve(0)[0], "step": step, "mean_return": step} for step in steps]
            for steps in ((0.0, 1.0, 2.0), (0.0, 2.0))
        ]
        axes = Figure().subplots()
        figures.draw_line(axes, figures.Line("sac", rows, "black"), "mean_return", 1.0)
        np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[0, 0], [2, 2]])

    def test_a_long_curve_is_means_over_neighbours(self):
        rows = [
            {**curve(0)[0], "step": float(step), "mean_return": float(step % 2)} for step in range(figures.LONG + 1)
        ]
        axes = Figure().subplots()
        figures.draw_line(axes, figures.Line("sac", [rows], "black"), "mean_return", 1.0)
        steps, means = np.asarray(axes.lines[0].get_xydata()).T
        assert (steps[0], steps[-1]) == (4.0, figures.LONG - 4.0)
        assert set(np.round(means * figures.AROUND)) == {4, 5}

    def test_what_has_learned_nothing_yet_does_not_squeeze_the_others(self):
        returns = {0.0: -600.0, 1.0: -10.0, 2.0: -5.0}
        learned = [{**curve(0)[0], "step": step, "mean_return": value} for step, value in returns.items()]
        curves = {("sac", "global"): [learned], ("planner", "global"): [[{**learned[0], "mean_return": -20.0}]]}
        panel = figures.benchmark_figure("chain", curves).subfigs[0].axes[1]
        assert panel.get_title(loc="left") == "Return"
        assert panel.get_ylim() == pytest.approx((-20.75, -4.25))


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

    def test_a_goal_that_too_few_seeds_meet(self):
        rows = [dataclasses.replace(RESULT, seed=i, steps_to_goal=s) for i, s in enumerate((8, 12, 16, None, None))]
        (found,) = summary.summarise(rows)
        assert dict(zip(summary.headings(), found.cells(), strict=True))["steps to 95 %"] == "3 of 5 seeds"
        assert found.flat()["seeds_at_goal"] == 3

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
