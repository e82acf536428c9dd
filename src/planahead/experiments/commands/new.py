"""`planahead new`."""

import dataclasses
import importlib.util
import keyword
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command, Folder

if TYPE_CHECKING:
    from rich.console import Console

TEMPLATE = pathlib.Path(__file__).parents[1] / "new_task"


@dataclasses.dataclass(frozen=True)
class New(Command):
    """Write a task of your own to begin with: a plant, a planning problem and tests that pass, commented."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """Of the module, in lower case with underscores: `tank_level` becomes tank_level.py with a TankLevelTask."""
    out: Folder = pathlib.Path()
    """Where; nothing there is overwritten."""

    name: ClassVar[str] = "new"
    examples: ClassVar[tuple[str, ...]] = ("tank_level", "tank_level --out examples")

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.errors import UserError
        from planahead.experiments.files import make_folder, write_text

        module = self.task.replace("-", "_")
        if not module.isidentifier() or keyword.iskeyword(module) or module != module.lower():
            raise UserError(f"«{self.task}» is no name of a module; lower case with underscores, e.g. tank_level.")
        if module == "example":
            raise UserError("«example» is what the name is to replace; take another one, e.g. tank_level.")
        kind = "".join(part.capitalize() for part in module.split("_"))
        paths = {name: self.out / name.replace("example", module) for name in ("example.py", "test_example.py")}
        taken = [str(path) for path in paths.values() if path.exists()]
        if taken:
            raise UserError(f"{' and '.join(taken)} exist already; take another name or another folder.")
        if importlib.util.find_spec(module) is not None:
            raise UserError(
                f"there is a module «{module}» already, which {module}.py would hide, or be hidden by; take another "
                f"name, e.g. {module}_task."
            )
        make_folder(self.out)
        for name, path in paths.items():
            text = (TEMPLATE / name).read_text(encoding="utf-8")
            write_text(path, text.replace("Example", kind).replace("example", module))
        there = "" if self.out == pathlib.Path() else f"cd {self.out} && "
        for path in paths.values():
            console.print(f"{path}", highlight=False, markup=False, soft_wrap=True)
        console.print("\nnext:", highlight=False)
        for line in (
            f"python -m pytest test_{module}.py        # pip install pytest",
            f"planahead plan {module}:{kind}Task",
            f"planahead train sac-zop {module}:{kind}Task --steps 12000",
        ):
            console.print(f"  {there}{line}", highlight=False, markup=False, soft_wrap=True)
        return {"files": [str(path) for path in paths.values()], "task": f"{module}:{kind}Task"}
