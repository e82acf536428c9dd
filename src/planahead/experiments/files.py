"""Files that are either as they were or wholly new, whatever happens while they are written.

    write to a neighbour  ->  flush to the disk (fsync)  ->  rename over the name

A rename within one folder is atomic, so a reader (or a resumed run) never meets half a file. Numbers that JSON has no
word for (NaN and infinities) are written as `null`, so that any program can read the result.
"""

import contextlib
import itertools
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from planahead.experiments.errors import UserError


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Put `content` at `path`, atomically. Raises `UserError` where the folder cannot be written."""
    neighbour = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(neighbour, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(neighbour, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            neighbour.unlink()
        raise UserError(
            f"cannot write «{path}»: {error.strerror or error}. Choose a folder that exists, that you may write to "
            "and that has room left."
        ) from error


def write_text(path: pathlib.Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_json(path: pathlib.Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    write_text(path, json.dumps(plain(content), indent=2, allow_nan=False) + "\n")


def read_json(path: pathlib.Path, what: str) -> dict[str, Any]:
    """The object in a JSON file; `what` names the file's role in messages."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {what} «{path}»: {error.strerror or error}.") from error
    except ValueError as error:
        raise UserError(f"{what} «{path}» is not JSON ({error}). Restore the file or start a new run.") from error
    if not isinstance(content, dict):
        raise UserError(f"{what} «{path}» holds a {type(content).__name__}; an object {{...}} was expected.")
    return content


def require_writable(path: pathlib.Path, flag: str) -> None:
    """Refuse a file that could not be written later; `flag` is what the user typed before its name."""
    if path.is_dir():
        raise UserError(f"{flag} {path}: that is a folder; name a file in it, e.g. {path / 'result.json'}.")
    if not path.parent.is_dir():
        raise UserError(f"{flag} {path}: the folder «{path.parent}» does not exist; create it first.")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise UserError(
            f"{flag} {path}: cannot write into «{path.parent}»: {error.strerror or error}. Choose a folder that you "
            "may write to."
        ) from error


def file_name(name: str) -> str:
    """`name` as a part of a file's, on every system; a task of one's own has a colon.

    >>> file_name("tank_level:TankLevelTask")
    'tank_level-TankLevelTask'
    """
    return name.replace(":", "-")


def unused(path: pathlib.Path) -> pathlib.Path:
    """`path`, or where it exists the first of its neighbours `NAME-2`, `NAME-3`, … that does not."""
    names = itertools.chain([path], (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2)))
    return next(name for name in names if not name.exists())


def make_folder(path: pathlib.Path) -> None:
    """Create a folder and its parents, or say why that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create the folder «{path}»: {error.strerror or error}. Choose a path below a folder that you may "
            "write to."
        ) from error


def plain(content: Any) -> Any:
    """The same content in the types that JSON knows.

    >>> plain({"rate": float("nan"), "steps": (1, 2)})
    {'rate': None, 'steps': [1, 2]}
    """
    if isinstance(content, Mapping):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, str) or content is None:
        return content
    if isinstance(content, Sequence):
        return [plain(value) for value in content]
    if isinstance(content, os.PathLike):
        return os.fspath(content)
    if hasattr(content, "tolist"):  # numpy and jax, scalars and arrays
        return plain(content.tolist())
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, bool | int):
        return content
    raise TypeError(f"{type(content).__name__} has no place in JSON")
