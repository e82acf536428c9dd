"""`planahead list`."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from planahead.experiments.commands.command import Command

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class List(Command):
    """List the tasks, the algorithms, and the baselines that benchmarks have beside them, with a sentence each."""

    name: ClassVar[str] = "list"
    examples: ClassVar[tuple[str, ...]] = ("", "--json names.json")

    def run(self, console: "Console") -> Mapping[str, Any]:
        from rich import box
        from rich.table import Table

        from planahead.experiments.bench.definition import BASELINES
        from planahead.experiments.experiment import algorithm_sentences, task_sentences

        result = {"tasks": task_sentences(), "algorithms": algorithm_sentences(), "baselines": BASELINES}
        for title, sentences in result.items():
            table = Table(title=title, box=box.SIMPLE_HEAD, show_header=False, title_justify="left", title_style="bold")
            for name, sentence in sentences.items():
                table.add_row(f"[bold cyan]{name}[/]", sentence)
            console.print(table)
        return result
