"""`planahead report`."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command, Folder

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class Report(Command):
    """Write the report of a run: one HTML file with its evaluation, learning curve, a closed loop with plans, and the
    solver's record; or a page that compares several runs.
    """

    folders: tyro.conf.Positional[tuple[Folder, ...]]
    """The run; several are compared, with the evaluations that they have."""
    episodes: int = 100
    """Deterministic episodes per row of the evaluation of a single run."""
    interactive: bool = False
    """Of a single run a page to explore: every plan of an episode under a slider (needs the extra `report`, as
    comparisons do)."""
    out: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The page; in the run's folder, or comparison.html here, unless given. Other files than a run's own reports are
    not overwritten."""

    name: ClassVar[str] = "report"
    examples: ClassVar[tuple[str, ...]] = (
        "runs/fop",
        "runs/fop --interactive",
        "runs/sac runs/zop runs/fop --out comparison.html",
    )

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.errors import UserError, at_least
        from planahead.experiments.run_directory import RunDirectory

        at_least("--episodes", self.episodes, 1)
        if not self.folders:
            raise UserError("no run was named; name one, or several to compare: planahead report RUN [RUN ...]")
        runs = [RunDirectory.open(folder) for folder in self.folders]
        return self._single(runs[0], console) if len(runs) == 1 else self._comparison(runs, console)

    def _single(self, run: Any, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.evaluated_run import evaluate_run
        from planahead.experiments.files import require_writable, write_text
        from planahead.experiments.interactive_figures import require_plotly
        from planahead.experiments.interactive_report import run_page
        from planahead.experiments.report import report_html
        from planahead.experiments.tables import show_unreadable

        if self.interactive:
            require_plotly()
        own = run.path / "interactive.html" if self.interactive else run.report_path
        path = own if self.out is None else _new(self.out)
        require_writable(path, "report")
        console.print("evaluating …", style="dim")
        evaluated = evaluate_run(run, self.episodes)
        show_unreadable(console, evaluated)
        write_text(path, (run_page if self.interactive else report_html)(evaluated))
        console.print(f"report: {path}", highlight=False, soft_wrap=True)
        return {"report": path, **evaluated.summary()}

    def _comparison(self, runs: list[Any], console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.files import require_writable, unused, write_text
        from planahead.experiments.interactive_report import comparison_page

        path = unused(pathlib.Path("comparison.html")) if self.out is None else _new(self.out)
        require_writable(path, "report")
        write_text(path, comparison_page(runs))
        console.print(f"comparison: {path}", highlight=False, soft_wrap=True)
        return {"report": path, "runs": [str(run.path) for run in runs]}


def _new(path: pathlib.Path) -> pathlib.Path:
    from planahead.experiments.errors import UserError

    if path.exists():
        raise UserError(f"--out «{path}» exists already; give another name, or remove it.")
    return path
