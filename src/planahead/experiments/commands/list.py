"""`planahead list`."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command
from planahead.experiments.taxonomy import TAXONOMY

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from planahead.experiments.explanations import Explanation


@dataclasses.dataclass(frozen=True)
class List(Command):
    """List the tasks, the algorithms, and the baselines that benchmarks have beside them, with a sentence each, and
    the roles that the planner has in them; or everything that can be set of one of them.
    """

    what: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="NAME")] = None
    """A task or an algorithm, to be explained with its options."""

    name: ClassVar[str] = "list"
    examples: ClassVar[tuple[str, ...]] = ("", "sac-zop", "race-split-s", "--json names.json")

    def run(self, console: "Console") -> Mapping[str, Any]:
        from rich import box
        from rich.table import Table

        from planahead.experiments.bench.definition import BASELINES
        from planahead.experiments.experiment import algorithm_sentences, task_sentences
        from planahead.experiments.explanations import explain

        if self.what is not None:
            explanation = explain(self.what)
            _show(explanation, console)
            return dataclasses.asdict(explanation)
        result = {"tasks": task_sentences(), "algorithms": algorithm_sentences(), "baselines": BASELINES}
        for title, sentences in result.items():
            table = Table(title=title, box=box.SIMPLE_HEAD, show_header=False, title_justify="left", title_style="bold")
            for name, sentence in sentences.items():
                table.add_row(f"[bold cyan]{name}[/]", sentence)
            console.print(table)
        console.print(_taxonomy())
        console.print("planahead list NAME explains one with all that can be set.", highlight=False)
        return {**result, "taxonomy": [dataclasses.asdict(place) for place in TAXONOMY]}


def _taxonomy() -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title="roles of the planner", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for heading in ("role", "architecture", "how", "algorithms"):
        table.add_column(heading, overflow="fold")
    role = None
    for place in TAXONOMY:
        shown = "" if place.role == role else place.role
        role = place.role
        table.add_row(
            f"[bold cyan]{shown}[/]", place.architecture, place.methods, ", ".join(place.entries) or place.after
        )
    return table


def _show(explanation: "Explanation", console: "Console") -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    console.print(explanation.text, highlight=False, markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in (f"{explanation.flag} NAME=VALUE", "default", ""):
        table.add_column(heading)
    for option in explanation.options:
        table.add_row(f"[bold cyan]{escape(option.name)}[/]", escape(option.default), escape(option.meaning))
    console.print(table)
