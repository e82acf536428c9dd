"""Compositions against their parts: trained where there is something to learn, then judged in changed worlds.

    OUT/PART/               a benchmark folder of every part that is trained, see `bench/__init__.py`
    OUT/episodes/, OUT/robustness.csv, .md, .png    as those of `robustness.py`

All parts of a comparison are judged by the same reward, from the same starts, in worlds that are changed in one respect
at a time. What a planner believes stays as it is. A part whose cell is finished is not trained again.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console

from planahead.experiments.bench.definition import Cell, Conditions, Entry, World
from planahead.experiments.bench.results import read_results
from planahead.experiments.bench.robustness import Condition, sweep_of
from planahead.experiments.bench.robustness_pilots import Pilot, policy_of
from planahead.experiments.bench.running import run_cells
from planahead.experiments.errors import UserError
from planahead.experiments.experiment import make_known_task
from planahead.experiments.fixed_planner import FixedPlanner
from planahead.policies import Policy
from planahead.tasks import Task
from planahead.tasks.flight.plan_follower import PlanFollower
from planahead.tasks.flight.quadrotor import MASS, MOTOR_TIME
from planahead.tasks.linear_system import PUSH, WORLD_A, WORLD_B


@dataclasses.dataclass(frozen=True)
class Part:
    """What is compared under one name: an entry that is trained, or a policy that is not."""

    world: str
    """What it is judged on, and trained on but for `training`, as a `World` is written."""
    entry: str | None = None
    """As an `Entry` is written."""
    training: tuple[str, ...] = ()
    """Arguments of the task that training alone sees, beside those of the comparison."""
    make: Callable[[Task], Policy] = FixedPlanner
    """The policy where nothing is trained."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Parts, and the worlds that they are judged in."""

    parts: Mapping[str, Part]
    training: Conditions
    conditions: tuple[Condition, ...]
    judged: tuple[str, ...] = ()
    """Options of every part's world while it is judged, so that all are judged by the same reward."""
    seeds: tuple[int, ...] = (0, 1, 2)

    def pilots(
        self, names: Sequence[str], seeds: Sequence[int], steps: int | None, out: pathlib.Path, console: Console | None
    ) -> Iterator[Pilot]:
        """Who is judged: part by part, seed by seed where there are any. Trains what is not finished; without a
        `console` it is left out. `UserError` where a training fails."""
        for name in names or self.parts:
            part = self.parts[name]
            world = World.parse("+".join((part.world, *self.judged)))

            def task(world: World = world) -> Task:
                return make_known_task(world.task, "--parts", **world.arguments)

            if part.entry is None:
                yield Pilot(name, folder(name), lambda make=part.make, task=task: make(task()), task)
                continue
            where = out / folder(name)
            cells = [self.cell(part, seed, steps) for seed in seeds or self.seeds]
            if console is not None:
                failed = run_cells(cells, where, console).failed
                if failed:
                    raise UserError(" ".join(f"{cell}: {reason}" for cell, reason in failed.items()))
            results = read_results(where / "results.csv")
            for cell in cells:
                if (found := results.get(cell.key)) is not None:
                    label = f"{folder(name)}-{cell.seed}-{found.best_step}"
                    yield Pilot(name, label, policy_of(where, found), task)

    def cell(self, part: Part, seed: int, steps: int | None) -> Cell:
        """The training of a part."""
        assert part.entry is not None
        options = (*self.training.training_options, *part.training)
        conditions = dataclasses.replace(self.training, training_options=options, steps=steps or self.training.steps)
        return Cell(str(World.parse(part.world)), Entry.parse(part.entry), "global", seed, conditions)


def folder(name: str) -> str:
    """Of a part."""
    return name.replace(", ", "-").replace(" ", "-")


COMPARISONS = {
    "reference-generator": Comparison(
        parts={
            "planned in training": Part("pillars", "ac-mlp"),
            "planned when deployed": Part("pillars", "ac-mlp", ("reference=drawn",)),
            "policy alone": Part("pillars+reference=goal", "ac-mlp"),
            "planner, feedback": Part("pillars", make=lambda task: PlanFollower()),
            "planner, compensating": Part("pillars", make=lambda task: PlanFollower(compensates=True)),
            "planner, ideal model": Part("pillars"),
        },
        training=Conditions(
            steps=2_500_000,
            validate_every=250_000,
            options=(
                *("environments=128", "rollout_steps=64", "batch_size=1024", "hidden_units=64"),
                *("anneal_steps={steps}", "entropy_weight=0.0", "discount=0.98", "learning_rate=0.001", "epochs=8"),
            ),
            training_options=(
                *("mass_spread=0.3", "thrust_scale_spread=0.1", "rate_scale_spread=0.2", "drag_spread=0.5"),
                "wind_spread=1.5",
            ),
        ),
        conditions=(
            *sweep_of("side wind [N]", 0.0, (1.0, 2.0, 3.0), lambda force: {"wind_force": (0.0, force, 0.0)}),
            *sweep_of("gusts [N]", 0.0, (2.0, 4.0), lambda force: {"gust_force": (0.0, force, 0.0)}),
            *sweep_of("mass [share]", 1.0, (0.7, 1.15, 1.3), lambda share: {"mass": share * MASS}),
            *sweep_of("motor lag [share]", 1.0, (2.0, 3.0), lambda share: {"motor_time": share * MOTOR_TIME}),
        ),
        judged=("tracking_reward=0",),
    ),
    "residual": Comparison(
        parts={
            "planner and correction": Part("linear", "sac-zop+correction=0.5+steers=false"),
            "network alone": Part("linear", "sac"),
            "planner alone": Part("linear"),
            "planner, knowing": Part("linear+matched=true"),
        },
        training=Conditions(steps=10_000, validate_every=1_000, validation_episodes=50),
        conditions=(
            *sweep_of("disturbance [1]", PUSH, (0.0, 0.05, 0.12, 0.15), lambda most: {"disturbance": most}),
            *sweep_of("input [share]", 1.0, (0.7, 1.3), lambda share: {"B": tuple(share * entry for entry in WORLD_B)}),
            *sweep_of("instability [1]", WORLD_A[1][1], (1.0, 1.15), lambda pole: {"A": (WORLD_A[0], (0.0, pole))}),
        ),
    ),
}
