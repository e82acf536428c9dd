"""`planahead train`."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command
from planahead.experiments.files import file_name
from planahead.experiments.settings import TrainSettings

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class Train(Command):
    """Train an algorithm on a task, then evaluate it and write a report. Ctrl-C saves; --resume goes on to the same
    numbers.
    """

    settings: tyro.conf.OmitArgPrefixes[TrainSettings]
    run_path: Annotated[pathlib.Path | None, tyro.conf.arg(name="run", metavar="DIR")] = None
    """The run's folder, which must not hold a run yet; runs/TASK-ALGORITHM-SEED unless given."""
    resume: bool = False
    """Go on with the run in DIR from its last checkpoint; its settings hold, and --steps may raise its goal."""
    episodes: int = 100
    """Episodes of the evaluation at the end."""

    name: ClassVar[str] = "train"
    examples: ClassVar[tuple[str, ...]] = (
        "sac-zop cartpole",
        "sac-fop cartpole --steps 100000 --seed 0 --run runs/fop",
        "sac-fop cartpole --run runs/fop --resume",
        "sac-zop cartpole --options learning_rate=3e-4 batch_size=64 --run runs/small-batches",
    )

    @property
    def folder(self) -> pathlib.Path:
        s = self.settings
        return self.run_path or pathlib.Path("runs") / f"{file_name(s.task)}-{s.algorithm}-{s.seed}"

    def with_stored_settings(self) -> "Train":
        """What to parse the arguments over when a run is resumed: its settings, so that only what was given differs."""
        from planahead.experiments.run_directory import RunDirectory

        stored = RunDirectory.open(self.folder).settings()
        return Train(settings=stored)

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.errors import at_least
        from planahead.experiments.evaluated_run import evaluate_run, write_evaluation
        from planahead.experiments.report import write_report
        from planahead.experiments.tables import evaluation_table
        from planahead.experiments.training import prepare, train

        at_least("--episodes", self.episodes, 1)
        experiment, run = prepare(self.settings, self.folder, self.resume)
        console.print(f"run [bold]{run.path}[/]", highlight=False)
        result = train(experiment, run, console)
        if not result.finished:
            console.print(f"\nstopped and saved at step {result.step:,}; go on with:", highlight=False)
            console.print(f"  {self.resume_line()}", highlight=False, soft_wrap=True)
            raise KeyboardInterrupt
        console.print("evaluating …", style="dim")
        evaluated = evaluate_run(run, self.episodes, experiment=experiment)
        console.print(evaluation_table(evaluated.rows))
        if evaluated.warning():
            console.print(evaluated.warning(), style="yellow")
        write_evaluation(evaluated)
        write_report(evaluated)
        console.print(f"report: {run.report_path}", highlight=False, soft_wrap=True)
        return {**evaluated.summary(), "seconds": result.seconds}

    def resume_line(self) -> str:
        s = self.settings
        return f"planahead train {s.algorithm} {s.task} --run {self.folder} --resume"
