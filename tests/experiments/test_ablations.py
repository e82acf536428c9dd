"""Ablations, flights and wall times of a benchmark: what is trained for them, and what is told."""

import dataclasses
import pathlib

import numpy as np
import pytest
from rich.console import Console

from planahead.experiments.bench import (
    ablations,
    definition,
    flights,
    named,
    outcomes,
    report,
    results,
    running,
    wall_time,
)
from planahead.experiments.bench.definition import Ablation, Benchmark, Conditions, Entry, World
from planahead.experiments.errors import UserError
from tests.experiments.bench_stubs import EVALUATION, RESULT, curve

GAIN = Ablation("gain", {"low": ("cartpole", "sac"), "high": ("cartpole+pole_mass=0.2", "sac")})
WIDTH = Ablation("width", {"wide": ("cartpole", "sac"), "narrow": ("cartpole", "sac+hidden_units=8")})
BENCHMARK = Benchmark("", {"cartpole": Conditions(steps=7)}, ("sac",), (0, 1), ablations=(GAIN, WIDTH))


def test_a_variant_of_several_ablations_is_trained_once_per_seed():
    found = definition.cells(BENCHMARK)
    assert [cell.name for cell in found] == [
        "cartpole-sac-global-0", "cartpole-sac+hidden_units=8-global-0", "cartpole+pole_mass=0.2-sac-global-0",
        "cartpole-sac-global-1", "cartpole-sac+hidden_units=8-global-1", "cartpole+pole_mass=0.2-sac-global-1",
    ]  # fmt: skip
    assert {cell.conditions.steps for cell in found} == {7} and found[0].ablations == (GAIN, WIDTH)
    first = dataclasses.replace(found[0], ablations=())
    assert first == found[0], "what is told of a cell does not make it another one"


def test_tasks_and_algorithms_choose_variants():
    (cell,) = definition.cells(BENCHMARK, tasks=["cartpole+pole_mass=0.20"], seeds=(0,))
    assert cell.name == "cartpole+pole_mass=0.2-sac-global-0"
    found = definition.cells(BENCHMARK, algorithms=["sac+hidden-units=8"], seeds=(0,))
    assert [str(cell.entry) for cell in found] == ["sac+hidden_units=8"]
    with pytest.raises(UserError, match=r"no variant fits .* «sac on cartpole»"):
        definition.cells(BENCHMARK, tasks=["chain"])


def test_the_benchmark_varies_one_thing_at_a_time():
    """Every variant is written in the one way that results have, and differs from the first in one option."""
    benchmark = named.known_benchmark("ablations")
    for ablation in benchmark.ablations:
        options = []
        for task, algorithm in ablation.variants.values():
            world, entry = World.parse(task), Entry.parse(algorithm)
            assert (str(world), str(entry)) == (task, algorithm)
            options.append({entry.algorithm, *world.options, *entry.options})
        for other in options[1:]:
            assert len(options[0] - other) <= 1 and len(other - options[0]) == 1, ablation.name
    assert {cell.conditions.steps for cell in definition.cells(benchmark)} == {3_000_000}
    assert all(cell.settings.learner_options()["anneal_steps"] == 3_000_000 for cell in definition.cells(benchmark))


def test_the_report_has_a_table_and_a_picture_per_ablation(tmp_path: pathlib.Path):
    for number, (task, algorithm) in enumerate([*GAIN.variants.values(), WIDTH.variants["narrow"]]):
        for seed in (0, 1):
            row = dataclasses.replace(RESULT, task=task, algorithm=algorithm, seed=seed, success_best=0.5 * number)
            running.publish(tmp_path, running.Finished(row, curve(0, 0.5, 1), EVALUATION, None), (GAIN, WIDTH))
    told = (tmp_path / "ablations.md").read_text()
    lines = {line.split(" |")[0]: line for line in told.splitlines()}
    assert "| 50 % |" in lines["| high"] and "| 100 % |" in lines["| narrow"]
    assert lines["| high"].endswith("± 0.500 |")
    assert told.count("| low |") == told.count("| wide |") == 1
    for name in ("gain", "width"):
        assert (tmp_path / f"ablation-{name}.png").stat().st_size > 10_000
    assert not list(tmp_path.glob("learning-*.png"))
    found = ablations.variant_summaries(GAIN, report.write_benchmark_report(tmp_path, ablations=(GAIN,)))
    assert [(line.algorithm, line.task, line.seeds) for line in found] == [
        ("low", "cartpole", (0, 1)), ("high", "cartpole+pole_mass=0.2", (0, 1)),
    ]  # fmt: skip


class TestWallTime:
    def test_a_planner_is_compared_seed_by_seed_with_the_same_learner_without_one(self):
        times = {"ac-mlp": 10.0, "ac-mpc": 25.0, "ac-mpc+value_expansion=1": 30.0, "sac": 1.0}
        rows = [
            dataclasses.replace(RESULT, algorithm=algorithm, seed=seed, seconds=seconds * (1 + seed), steps=2000)
            for algorithm, seconds in times.items()
            for seed in (0, 1)
        ]
        told = wall_time.wall_time_markdown(rows)
        assert told is not None
        lines = {line.split(" | ")[1]: line.split(" | ")[2:] for line in told.splitlines() if line.startswith("| c")}
        assert {name: (cells[0], cells[1], cells[-1]) for name, cells in lines.items()} == {
            "ac-mpc": ("ac-mlp", "2", "2.50 |"), "ac-mpc+value_expansion=1": ("ac-mlp", "2", "3.00 |"),
        }  # fmt: skip

    def test_other_steps_and_machines_are_not_compared(self):
        base = dataclasses.replace(RESULT, algorithm="ac-mlp")
        for change in ({"steps": 9}, {"processor": "another"}, {"seed": 1}, {"task": "chain"}):
            other = dataclasses.replace(RESULT, algorithm="ac-mpc", **change)
            assert wall_time.wall_time_markdown([base, other]) is None, change
        assert wall_time.wall_time_markdown([base]) is None


class TestFlights:
    FLIGHT = np.array(
        [[0.0, 0.0, 1.0, 3.0, 0.0, 0.0], [0.06, 0.0, 1.0, 3.0, 4.0, 0.0], [0.12, 0.04, 1.0, 3.0, 4.0, 0.0]]
    )

    def test_a_flight_survives_its_file(self, tmp_path: pathlib.Path):
        path = flights.flight_path(tmp_path, "cell")
        flights.write_flight(path, self.FLIGHT)
        np.testing.assert_allclose(flights.read_flight(path), self.FLIGHT, rtol=1e-3)
        path.write_text(path.read_text().replace("0.06", "far"))
        with pytest.raises(UserError, match=r"is damaged: .*'far'; numbers were expected"):
            flights.read_flight(path)
        path.write_text("x\n1\n")
        with pytest.raises(UserError, match="two rows of"):
            flights.read_flight(path)

    def test_the_first_seed_of_every_algorithm_is_drawn(self, tmp_path: pathlib.Path):
        rows = [
            dataclasses.replace(RESULT, task="race-circle", algorithm=algorithm, seed=seed)
            for algorithm in ("ac-mlp", "ac-mpc")
            for seed in (1, 2)
        ]
        for row in rows:
            running.publish(tmp_path, running.Finished(row, curve(0, 1, 1), EVALUATION, self.FLIGHT))
        figure = flights.task_flights(tmp_path, "race-circle", rows)
        assert figure is not None
        titles = [title for axes in figure.axes if "above" in (title := axes.get_title("left"))]
        assert titles == ["ac-mlp, seed 1, from above", "ac-mpc, seed 1, from above"]
        assert (tmp_path / "flight-race-circle.png").stat().st_size > 10_000
        assert flights.task_flights(tmp_path, "chain", rows) is None


@pytest.mark.slow
def test_the_flight_of_a_cell_is_kept_and_drawn(tmp_path: pathlib.Path):
    """Of the planner as it comes, which holds the point."""
    cell = definition.Cell("hover", Entry("planner"), "global", 0, Conditions(episodes=2, validation_episodes=2))
    running.run_cell(cell, tmp_path, Console(quiet=True))
    flight = flights.read_flight(flights.flight_path(tmp_path, cell.name))
    assert np.linalg.norm(flight[-1, :3]) <= 0.1 and (tmp_path / "flight-hover.png").exists()
    assert outcomes.episodes_path(tmp_path, cell.name).exists() and results.read_results(tmp_path / "results.csv")
