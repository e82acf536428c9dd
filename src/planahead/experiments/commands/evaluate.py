"""`planahead evaluate`."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command, Folder

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class Evaluate(Command):
    """Evaluate the last and the best policy of a run, from perturbed starts and from the single start."""

    folder: tyro.conf.Positional[Folder]
    """The run."""
    episodes: int = 100
    """Deterministic episodes per row."""
    seed: int = 0
    """Of the starts, which are the same for every run."""
    task_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """What of the world is otherwise than in the run, e.g. `pole_mass=0.2`; the policy and what its planner believes
    stay as they are, and nothing is kept in the run."""

    name: ClassVar[str] = "evaluate"
    examples: ClassVar[tuple[str, ...]] = (
        "runs/fop",
        "runs/fop --episodes 1000 --json fop.json",
        "runs/fop --task-options pole_mass=0.2",
    )

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.errors import UserError, at_least
        from planahead.experiments.evaluated_run import evaluate_run, write_evaluation
        from planahead.experiments.run_directory import RunDirectory
        from planahead.experiments.tables import evaluation_table, outcome_table, show_unreadable

        at_least("--episodes", self.episodes, 1)
        run = RunDirectory.open(self.folder)
        console.print(f"evaluating {self.episodes} episodes …", style="dim", highlight=False)
        evaluated = evaluate_run(run, self.episodes, self.seed, options=self.task_options)
        title = " ".join((evaluated.settings.algorithm, "on", evaluated.settings.task, *self.task_options))
        console.print(evaluation_table(evaluated.rows, title))
        if (outcomes := outcome_table(evaluated.rows)) is not None:
            console.print(outcomes)
        show_unreadable(console, evaluated)
        if evaluated.warning():
            console.print(evaluated.warning(), style="yellow")
        if self.task_options:
            return {**evaluated.summary(), "task_options": self.task_options}
        try:
            write_evaluation(evaluated)
        except UserError as error:
            if self.json is None:
                raise UserError(
                    f"{error} The table above is the evaluation; --json FILE keeps it elsewhere."
                ) from error
            console.print(f"not kept in the run: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return evaluated.summary()
