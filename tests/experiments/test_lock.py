"""A lock holds while its process lives, and no longer."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from planahead.experiments.errors import UserError
from planahead.experiments.lock import locked

HOST = socket.gethostname()


def write(path: pathlib.Path, pid: int, host: str = HOST) -> None:
    path.write_text(json.dumps({"pid": pid, "host": host}))


def refusal(path: pathlib.Path) -> str:
    with pytest.raises(UserError) as error, locked(path, "the run «run»"):
        pass
    return str(error.value)


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_it_names_its_holder_and_goes_with_it(tmp_path: pathlib.Path):
    path = tmp_path / "lock"
    with locked(path, "the run «run»"):
        assert json.loads(path.read_text()) == {"pid": os.getpid(), "host": HOST}
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), locked(path, "the run «run»"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_living_process_keeps_it(tmp_path: pathlib.Path):
    path = tmp_path / "lock"
    write(path, os.getppid())
    assert refusal(path) == (
        f"the run «run» is in use: its lock «{path}» is held by process {os.getppid()} on «{HOST}». "
        "Wait until that process ends, or stop it; if there is no such process any more, delete the lock."
    )
    assert path.exists()


def test_a_dead_process_loses_it(tmp_path: pathlib.Path, dead: int):
    path = tmp_path / "lock"
    write(path, dead)
    with locked(path, "the run «run»"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_of_another_host_nothing_is_known(tmp_path: pathlib.Path, dead: int):
    path = tmp_path / "lock"
    write(path, dead, "elsewhere")
    assert f"is held by process {dead} on «elsewhere»" in refusal(path)


def test_a_lock_without_a_name_holds(tmp_path: pathlib.Path):
    path = tmp_path / "lock"
    path.touch()
    assert "is held by a process that it does not name" in refusal(path)


def test_a_folder_that_is_not_there(tmp_path: pathlib.Path):
    assert "cannot write" in refusal(tmp_path / "nowhere" / "lock")


def test_processes_that_wait_take_turns(tmp_path: pathlib.Path):
    """Each adds its number to a file by reading, waiting and writing, which loses lines without a lock."""
    program = """
import pathlib, sys, time
from planahead.experiments.lock import locked
lock, table = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
for _ in range(5):
    with locked(lock, "the table", 60.0):
        text = table.read_text()
        time.sleep(0.01)
        table.write_text(text + "line\\n")
"""
    table = tmp_path / "table"
    table.touch()
    arguments = [sys.executable, "-c", program, str(tmp_path / "lock"), str(table)]
    processes = [subprocess.Popen(arguments) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert table.read_text() == 15 * "line\n"
