"""The benchmark of robustness: who flies, what is kept, and what is said of it."""

import dataclasses
import pathlib

import numpy as np
import pytest
from rich.console import Console

from planahead.experiments.bench import robustness
from planahead.experiments.bench.outcomes import episodes_path, write_episodes
from planahead.experiments.bench.results import add_result, write_curve
from planahead.experiments.bench.robustness import CONDITIONS, WORLDS, collect, fly, world_of, write_robustness
from planahead.experiments.bench.robustness_figure import robustness_figure
from planahead.experiments.bench.robustness_pilots import Pilot, baselines, pilots_of_runs
from planahead.experiments.errors import UserError
from planahead.tasks import make_task
from tests.experiments.bench_stubs import EVALUATION, RESULT, curve

CONSOLE = Console(quiet=True)


def pilot(group: str, seed: int) -> Pilot:
    def load():
        raise AssertionError("nothing is to fly")

    return Pilot(group, f"{group}-{seed}", load)


def flown(out: pathlib.Path, who: Pilot, successes: int, lap: float) -> None:
    evaluation = dataclasses.replace(
        EVALUATION,
        success=np.arange(3) < successes,
        outcomes={"lap [s]": np.where(np.arange(3) < successes, lap, np.nan)},
    )
    for condition in WORLDS:
        write_episodes(episodes_path(out, f"{who.name}--{condition.world}"), evaluation)


def test_seeds_are_what_varies(tmp_path: pathlib.Path):
    pilots = [pilot("ac-mpc", 0), pilot("ac-mpc", 1), pilot("l1", 0)]
    for who, successes, lap in zip(pilots, (3, 0, 2), (5.0, 9.0, 6.0), strict=True):
        flown(tmp_path, who, successes, lap)
    fly(pilots, tmp_path, 3, CONSOLE)  # all is there
    rows = collect(pilots, tmp_path)
    assert len(rows) == 2 * len(CONDITIONS)
    mpc, l1 = rows[0], rows[1]
    assert (mpc.share, mpc.interval.low, mpc.interval.high, mpc.laps) == (0.5, 0.0, 1.0, (5.0,))
    assert l1.share == pytest.approx(2 / 3) and 0.2 < l1.interval.low < 0.3
    write_robustness(rows, tmp_path)
    told = (tmp_path / "robustness.md").read_text()
    cells = "50 [0, 100], 5.00 s (1 of 2) | 67 [21, 94], 6.00 s |"
    assert f"| start [± m]: 0.5 | {cells}" in told and f"| gusts [N]: 0 | {cells}" in told
    assert len((tmp_path / "robustness.csv").read_text().splitlines()) == 1 + len(rows)
    assert sum(axes.get_visible() for axes in robustness_figure(rows).axes) == 7


def test_flights_of_another_number_are_refused(tmp_path: pathlib.Path):
    who = pilot("l1", 0)
    flown(tmp_path, who, 1, 5.0)
    with pytest.raises(UserError, match="has 3 flights, and --episodes is 100"):
        fly([who], tmp_path, 100, CONSOLE)


def test_what_is_missing_is_flown(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(robustness, "run_episodes", lambda task, policy, key, number, run: (task, policy, number))
    monkeypatch.setattr(robustness.Evaluation, "of", lambda run: EVALUATION)
    who = Pilot("l1", "l1", lambda: baselines(["l1"])[0].load())
    flown(tmp_path, who, 1, 5.0)
    missing = episodes_path(tmp_path, f"l1--{WORLDS[5].world}")
    missing.unlink()
    fly([who], tmp_path, 3, CONSOLE)
    assert missing.exists()


def test_every_condition_changes_the_world_as_it_says():
    task = make_task("race-split-s", plant="realistic")
    assert len({(condition.sweep, condition.value) for condition in CONDITIONS}) == len(CONDITIONS)
    undisturbed = [condition for condition in CONDITIONS if condition.world == "undisturbed"]
    assert [condition.value for condition in undisturbed] == [0.5, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0], "one of every sweep"
    assert len(WORLDS) == len(CONDITIONS) - 6, "flown once"
    assert not any(condition.constants for condition in undisturbed)
    assert float(task.environment.start_spread) == 0.5
    for condition in CONDITIONS:
        changed = world_of(task, condition).environment
        for name, value in condition.constants.items():
            part = (
                changed if hasattr(changed, name) else changed.wind if hasattr(changed.wind, name) else changed.vehicle
            )
            np.testing.assert_allclose(getattr(part, name), value, rtol=1e-6)


def test_pilots_are_the_finished_cells_of_a_task(tmp_path: pathlib.Path):
    world = "race-split-s+plant=realistic"
    for task, seed in ((world, 0), (world, 1), ("race-split-s", 0), ("race-split-s-real", 0)):
        row = dataclasses.replace(RESULT, task=task, algorithm="ac-mpc", interface="stage", seed=seed)
        add_result(tmp_path / "results.csv", row)
        if seed == 0:
            write_curve(tmp_path / "curves" / f"{row.name}.csv", curve(0, 1, 1))
    (found,) = pilots_of_runs(tmp_path, world)
    assert found.group == "ac-mpc (stage)" and found.name == "race-split-s+plant=realistic-ac-mpc-stage-0-8"
    with pytest.raises(UserError, match=r"no finished cell on race-split-s.horizon=5; train some first"):
        pilots_of_runs(tmp_path, "race-split-s+horizon=5")
    with pytest.raises(UserError, match="the flights are on race-split-s"):
        pilots_of_runs(tmp_path, "race-circle")
    with pytest.raises(UserError, match="--baselines got «pid»; the known ones are «tracking», «contouring», «l1»"):
        baselines(["pid"])


def test_every_group_has_a_colour_of_its_own(tmp_path: pathlib.Path):
    pilots = [pilot(name, 0) for name in ("ac-mpc (stage)", "alone", "beside", "knowing")]
    for who in pilots:
        flown(tmp_path, who, 2, 5.0)
    figure = robustness_figure(collect(pilots, tmp_path))
    assert len({line.get_color() for line in figure.axes[0].lines}) == 4
