"""`planahead report`."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command, Folder

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class Report(Command):
    """Write the report of a run: one HTML file with its evaluation, learning curve, a closed loop with plans, and the
    solver's record.
    """

    folder: tyro.conf.Positional[Folder]
    """The run."""
    episodes: int = 100
    """Deterministic episodes per row of the evaluation."""

    name: ClassVar[str] = "report"
    examples: ClassVar[tuple[str, ...]] = ("runs/fop",)

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.errors import at_least
        from planahead.experiments.evaluated_run import evaluate_run
        from planahead.experiments.files import require_writable
        from planahead.experiments.report import write_report
        from planahead.experiments.run_directory import RunDirectory
        from planahead.experiments.tables import show_unreadable

        at_least("--episodes", self.episodes, 1)
        run = RunDirectory.open(self.folder)
        require_writable(run.report_path, "report")
        console.print("evaluating …", style="dim")
        evaluated = evaluate_run(run, self.episodes)
        show_unreadable(console, evaluated)
        write_report(evaluated)
        console.print(f"report: {run.report_path}", highlight=False, soft_wrap=True)
        return {"report": run.report_path, **evaluated.summary()}
