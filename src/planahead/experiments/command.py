"""The `planahead` command: which subcommands there are, and what happens to what they raise.

A mistake of the user (`UserError`, an unknown option) is one message and exit code 2; an interruption is exit code 130;
a programming error keeps its traceback.
"""

import dataclasses
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Any, Union

import tyro
from rich.console import Console
from rich.text import Text

from planahead.experiments.commands.bench import Bench
from planahead.experiments.commands.command import Command
from planahead.experiments.commands.demo import Demo
from planahead.experiments.commands.diagnose import Diagnose
from planahead.experiments.commands.doctor import Doctor
from planahead.experiments.commands.evaluate import Evaluate
from planahead.experiments.commands.list import List
from planahead.experiments.commands.new import New
from planahead.experiments.commands.own_benchmarks import OWN_BENCHMARKS
from planahead.experiments.commands.plan import Plan
from planahead.experiments.commands.report import Report
from planahead.experiments.commands.train import Train
from planahead.experiments.commands.view import View
from planahead.experiments.errors import UserError
from planahead.experiments.files import require_writable, write_json

COMMANDS: tuple[type[Command], ...] = (Demo, Train, Evaluate, Report, Plan, View, Diagnose, List, New, Bench, Doctor)
DESCRIPTION = (
    "Plan with a model, learn from the world: model predictive control and reinforcement learning as one program."
)
CONFIG = (tyro.conf.FlagCreatePairsOff,)
LOG_WIDTH = 120  # where the output is no terminal; tables then keep their columns


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=shutil.get_terminal_size((LOG_WIDTH, 0)).columns)
    if arguments == ["--version"]:
        console.print(f"planahead {metadata.version('planahead')}", highlight=False)
        return 0
    if "" not in sys.path:
        sys.path.insert(0, "")  # so that `module:Kind` finds a task in the folder where the command was typed
    try:
        command = parse(arguments)
        if command.json is not None:
            require_writable(command.json, "--json")  # before the work, not after it
        result = command.run(console)
        if command.json is not None:
            write_json(command.json, result)
            console.print(f"{command.json}", highlight=False, markup=False, soft_wrap=True)
    except UserError as error:
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), str(error)))
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        return 0
    return 0


def parse(arguments: Sequence[str]) -> Command:
    """The subcommand that the arguments describe; help and mistakes end the program as tyro has it."""
    by_name = {command.name: command for command in COMMANDS}
    if (benchmark := OWN_BENCHMARKS.get(" ".join(arguments[:2]))) is not None:  # with options of its own
        return _parse(benchmark, list(arguments[2:]))
    if not arguments or arguments[0] not in by_name:
        _overview(arguments)
        raise AssertionError("an unknown subcommand was accepted")
    kind, rest = by_name[arguments[0]], list(arguments[1:])
    command = _parse(kind, rest)
    if isinstance(command, Train) and command.resume:
        again = _parse(Train, rest, default=command.with_stored_settings())
        assert isinstance(again, Train)
        return dataclasses.replace(again, run_path=command.folder)
    return command


def _parse(kind: type[Command], arguments: list[str], default: Command | None = None) -> Command:
    options: dict[str, Any] = {} if default is None else {"default": default}
    return tyro.cli(
        kind, prog=f"planahead {kind.name}", description=kind.description(), args=arguments, config=CONFIG, **options
    )


def _overview(arguments: Sequence[str]) -> None:
    """Print the list of subcommands, or tyro's message about what is no subcommand."""
    kinds = tuple(
        Annotated[kind, tyro.conf.subcommand(kind.name, description=" ".join((kind.__doc__ or "").split()))]
        for kind in COMMANDS
    )
    arguments = list(arguments) or ["--help"]
    either: Any = Union[kinds]  # noqa: UP007, a union of a tuple
    tyro.cli(either, prog="planahead", description=DESCRIPTION, args=arguments, config=CONFIG)


if __name__ == "__main__":
    sys.exit(main())
