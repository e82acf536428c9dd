"""Compositions against their parts: what is trained, who is judged, and in which worlds."""

import pathlib

import numpy as np
import pytest
from rich.console import Console

from planahead.experiments.bench.definition import Conditions
from planahead.experiments.bench.parts import COMPARISONS, Comparison, Part
from planahead.experiments.bench.robustness import collect, fly, sweep_of, world_of, worlds_of, write_robustness
from planahead.experiments.command import main
from planahead.experiments.experiment import Experiment
from planahead.tasks import Pillars, PlanFollower

CONSOLE = Console(quiet=True)
every_comparison = pytest.mark.parametrize("name", COMPARISONS)


@every_comparison
def test_what_is_trained_can_be_and_differs_where_it_says(name: str):
    comparison = COMPARISONS[name]
    for part in comparison.parts.values():
        if part.entry is not None:
            settings = comparison.cell(part, 0, None).settings
            assert settings.steps == comparison.training.steps
            settings.learner_options()
    assert len({tuple(vars(part).items()) for part in comparison.parts.values()}) == len(comparison.parts)


def test_the_switch_is_what_training_alone_sees():
    parts, cell = COMPARISONS["reference-generator"].parts, COMPARISONS["reference-generator"].cell
    experiment = Experiment.from_settings(cell(parts["planned when deployed"], 0, None).settings)
    assert experiment.training_task is not None
    trained, judged = experiment.training_task.environment, experiment.task.environment
    assert isinstance(trained, Pillars) and isinstance(judged, Pillars)
    assert (trained.reference, judged.reference) == ("drawn", "planned")
    assert float(trained.randomisation.mass_spread) == pytest.approx(0.3) and float(judged.wind_spread) == 0.0


@every_comparison
def test_every_condition_changes_the_world_of_every_part(name: str, tmp_path: pathlib.Path):
    comparison = COMPARISONS[name]
    untrained = [part for part, what in comparison.parts.items() if what.entry is None]
    for pilot in comparison.pilots(untrained, (), None, tmp_path, None):
        task = pilot.task()
        for condition in worlds_of(comparison.conditions):
            changed = world_of(task, condition).environment
            for constant, value in condition.constants.items():
                parts = [changed, getattr(changed, "vehicle", None), getattr(changed, "wind", None)]
                (found,) = {id(p): getattr(p, constant) for p in parts if hasattr(p, constant)}.values()
                np.testing.assert_allclose(found, value, rtol=1e-6)


def test_all_are_judged_by_the_same_reward(tmp_path: pathlib.Path):
    for pilot in COMPARISONS["reference-generator"].pilots(["planner, feedback"], (), None, tmp_path, None):
        assert float(pilot.task().environment.tracking_reward) == 0.0 and isinstance(pilot.load(), PlanFollower)


@pytest.mark.long
def test_a_comparison_trains_judges_and_goes_on(tmp_path: pathlib.Path):
    world = "mass-spring-damper"
    tiny = Comparison(
        parts={"network": Part(world, "sac"), "planner": Part(world)},
        training=Conditions(
            steps=192,
            validate_every=192,
            validation_episodes=2,
            episodes=2,
            options=("hidden_units=8", "batch_size=8", "warm_up_steps=96", "steps_per_chunk=96"),
        ),
        conditions=tuple(sweep_of("mass [share]", 1.0, (2.0,), lambda share: {"mass": share})),
        seeds=(0,),
    )
    pilots = list(tiny.pilots((), (), None, tmp_path, CONSOLE))
    assert [pilot.group for pilot in pilots] == ["network", "planner"]
    fly(pilots, tmp_path, 3, CONSOLE, conditions=tiny.conditions)
    rows = collect(list(tiny.pilots((), (), None, tmp_path, None)), tmp_path, conditions=tiny.conditions)
    assert len(rows) == 4 and all(len(row.returns) == 1 and not row.laps for row in rows)
    told = write_robustness(rows, tmp_path).read_text()
    assert "| world | network | planner |" in told and "| mass [share]: 2 |" in told and "mean return" in told


def test_an_unknown_part_is_answered_with_the_known_ones(capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "residual", "--parts", "net"]) == 2
    assert "--parts got «net»; the known ones are «planner and correction», «network alone»" in " ".join(
        capsys.readouterr().err.split()
    )
