"""One process at a time: a file that says who holds a folder.

    LOCK   {"pid": 4242, "host": "workstation"}     made with O_EXCL: of several processes that try, one succeeds

A process that is killed leaves its lock behind. On its own host the next one sees that it is dead and takes the lock
over; of a process on another host nothing can be known, so its lock holds until somebody removes it.
"""

import contextlib
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator

from planahead.experiments.errors import UserError

_SECONDS_BETWEEN_LOOKS = 0.05


class InUse(UserError):
    """A living process holds the lock."""


@contextlib.contextmanager
def locked(path: pathlib.Path, what: str, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock at `path`; `what` it stands for is told in messages.

    **Raises:** `InUse` where a living process still holds it after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while not _take(path):
        text = _read(path)
        if text is None:
            continue  # released just now
        holder = _holder(text)
        if holder is not None and _is_dead(*holder):
            _remove(path, text)
        elif time.monotonic() >= deadline:
            who = "a process that it does not name" if holder is None else f"process {holder[0]} on «{holder[1]}»"
            raise InUse(
                f"{what} is in use: its lock «{path}» is held by {who}. Wait until that process ends, or stop it; if "
                "there is no such process any more, delete the lock."
            )
        else:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _take(path: pathlib.Path) -> bool:
    """Make the lock; `False` where there is one."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    except OSError as error:
        raise UserError(
            f"cannot write «{path}»: {error.strerror or error}. Choose a folder that you may write to."
        ) from error
    with open(descriptor, "w") as file:
        json.dump({"pid": os.getpid(), "host": socket.gethostname()}, file)
    return True


def _read(path: pathlib.Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the lock «{path}»: {error}. Delete it if no process uses its folder.") from error


def _holder(text: str) -> tuple[int, str] | None:
    """Process and host of a lock; `None` where it does not say (its process may be about to write it)."""
    try:
        content = json.loads(text)
        return int(content["pid"]), str(content["host"])
    except (ValueError, TypeError, KeyError):
        return None


def _is_dead(pid: int, host: str) -> bool:
    if host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # it lives, and is somebody else's
    return False


def _remove(path: pathlib.Path, text: str) -> None:
    """Remove a dead process's lock, unless another process was faster and the lock is already its own."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.stale")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if aside.read_text() != text:
        os.rename(aside, path)
    else:
        aside.unlink()
