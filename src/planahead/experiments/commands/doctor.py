"""`planahead doctor`."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from planahead.experiments.commands.command import Command

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class Doctor(Command):
    """Say what is installed, what it runs on, and how long a first plan takes in a fresh process."""

    name: ClassVar[str] = "doctor"
    examples: ClassVar[tuple[str, ...]] = ("", "--json doctor.json")

    def run(self, console: "Console") -> Mapping[str, Any]:
        from rich.table import Table

        from planahead.experiments.doctor import examine
        from planahead.qp import native

        console.print("planning the cart-pole in a fresh process …", style="dim")
        found = examine()
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column()
        table.add_row("python", found["python"])
        for name, version in found["packages"].items():
            table.add_row(name, version)
        machine = found["machine"]
        table.add_row("machine", f"{machine['processor']}, {machine['cores']} cores, {machine['system']}")
        table.add_row("devices", f"{', '.join(machine['devices'])} (backend {machine['backend']})")
        table.add_row(
            "precision",
            "float64 (x64 is on)" if machine["x64"] else "float32 (x64 is off; JAX_ENABLE_X64=1 turns it on)",
        )
        for name, state in found["qp_backends"].items():
            table.add_row(f"QP, {name}", state)
        table.add_row("gymnasium", ", ".join(found["gymnasium"]) or "no task is registered")
        for extra, missing in found["extras"].items():
            lacks = f"without {', '.join(missing)}; in the clone: pip install '.\\[{extra}]'"
            table.add_row(f"extra {extra}", lacks if missing else "installed")
        times = found["cold_start"]
        if times is not None:
            table.add_row(
                "cold start",
                f"[bold]{times['total']:.1f} s[/] from `import planahead` to the first plan of the cart-pole: "
                f"import {times['import']:.1f} s, compiling and solving {times['first_plan']:.1f} s; "
                f"the second plan takes {1000 * times['second_plan']:.2f} ms",
            )
        console.print(table, highlight=False)
        for problem in found["problems"]:
            console.print(f"[red]problem:[/] {problem}", highlight=False)
        if not found["problems"]:
            fast = native.available()
            words = (
                "[green]everything is in place[/]" if fast else "[yellow]everything works, without the fast kernel[/]"
            )
            console.print(words)
        return found
