"""`planahead demo`."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class Demo(Command):
    """The main job, end to end: a planner that sees 0.25 s ahead swings a pole past the top and runs off its track; a
    network learns to steer it, and the pole stands.
    """

    out: Annotated[pathlib.Path, tyro.conf.arg(metavar="DIR")] = pathlib.Path("demo")
    """Where the run, the picture and the report go. A finished demo there is shown again, an interrupted one goes on.
    """
    algorithm: Annotated[str, tyro.conf.arg(metavar="NAME")] = "sac-foa"
    """What learns."""
    steps: int = 40_000
    """Environment steps."""
    seed: int = 0
    """The only source of randomness."""
    episodes: int = 100
    """Deterministic episodes per row of the table."""

    name: ClassVar[str] = "demo"
    examples: ClassVar[tuple[str, ...]] = ("", "--algorithm sac-fop --out demo-fop")

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments import figures
        from planahead.experiments.errors import at_least
        from planahead.experiments.evaluated_run import evaluate_policy, evaluate_run, write_evaluation
        from planahead.experiments.experiment import Stream, stream_key
        from planahead.experiments.files import write_json
        from planahead.experiments.fixed_planner import FixedPlanner
        from planahead.experiments.report import write_report
        from planahead.experiments.run_directory import RunDirectory
        from planahead.experiments.settings import TrainSettings
        from planahead.experiments.tables import evaluation_table
        from planahead.experiments.training import prepare, train

        at_least("--episodes", self.episodes, 1)
        path = self.out / "run"
        settings = TrainSettings(self.algorithm, "cartpole", steps=self.steps, seed=self.seed)
        resume = RunDirectory(path).config_path.exists()
        if resume:
            console.print(f"going on with the demo in {self.out}/ (delete it for a fresh one)", highlight=False)
        experiment, run = prepare(settings, path, resume)
        task, key = experiment.task, stream_key(0, Stream.EVALUATION)

        console.print("[bold]1[/] the planner as it comes: compiling, then planning …", highlight=False)
        planner = FixedPlanner(task)
        rows, before = evaluate_policy(task, planner, "untrained planner", key, self.episodes)
        console.print(evaluation_table(rows, first="policy"))

        console.print(f"[bold]2[/] {self.algorithm} learns which angle the planner is to aim at", highlight=False)
        result = train(experiment, run, console)
        if not result.finished:
            console.print("stopped and saved; the same command goes on where this one left off")
            raise KeyboardInterrupt

        console.print("[bold]3[/] the trained policy", highlight=False)
        evaluated = evaluate_run(run, self.episodes, experiment=experiment)
        write_evaluation(evaluated)
        write_report(evaluated)
        rows += [dataclasses.replace(row, policy=f"{self.algorithm}, {row.policy}") for row in evaluated.rows]
        picture = self.out / "untrained-and-trained.png"
        columns = {
            "Before: the planner as it comes": before,
            f"After: steered by {self.algorithm}": evaluated.trajectory,
        }
        figures.save(figures.closed_loop(task, columns), picture)
        summary = {"seconds": result.seconds, "picture": picture, "rows": [row.summary() for row in rows]}
        write_json(self.out / "result.json", summary)
        console.print(evaluation_table(rows, first="policy"))
        console.print(f"picture: {picture}\nreport:  {run.report_path}", highlight=False, soft_wrap=True)
        return summary
