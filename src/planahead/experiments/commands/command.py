"""What a subcommand is: a frozen dataclass whose fields are its arguments, and one method that does the work."""

import abc
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

if TYPE_CHECKING:
    from rich.console import Console

Folder = Annotated[pathlib.Path, tyro.conf.arg(metavar="DIR")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command(abc.ABC):
    """A subcommand. The first sentence of its docstring describes it; `examples` end its `--help`."""

    json: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the result to FILE as JSON."""

    name: ClassVar[str]
    examples: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def run(self, console: "Console") -> Mapping[str, Any]:
        """Do the work, show it on `console`, and return what `--json` writes."""

    @classmethod
    def description(cls) -> str:
        """The text above the options in `--help`."""
        text = " ".join((cls.__doc__ or "").split())
        return "\n".join([text, "", "examples:", *(f"  planahead {cls.name} {example}" for example in cls.examples)])
