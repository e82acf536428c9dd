"""`planahead new`: what it writes works as it is, and nothing is overwritten."""

import importlib
import pathlib
import sys
from collections.abc import Iterator

import pytest

from planahead.experiments.command import main
from planahead.experiments.errors import UserError
from planahead.experiments.experiment import make_known_task
from planahead.tasks import make_task


@pytest.fixture
def written(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """A new task's folder, where its modules can be imported, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["new", "tank_level"]) == 0
    yield tmp_path
    for module in ("tank_level", "test_tank_level"):
        sys.modules.pop(module, None)


@pytest.mark.filterwarnings("ignore:.*A Box observation space m")
def test_its_own_tests_pass(written: pathlib.Path):
    tests = importlib.import_module("test_tank_level")
    found = [getattr(tests, name) for name in dir(tests) if name.startswith("test_")]
    assert len(found) == 5
    for test in found:
        test()


def test_the_task_goes_by_its_module_and_class(written: pathlib.Path):
    task = make_task("tank_level:TankLevelTask", interface="stage", wind=0.1)
    assert (task.name, float(task.environment.wind)) == ("tank_level:TankLevelTask", pytest.approx(0.1))
    with pytest.raises(
        ValueError, match=r"task 'tank_level:Tank': tank_level has no Task called 'Tank'; it has: TankLevelTask\."
    ):
        make_task("tank_level:Tank")
    with pytest.raises(ValueError, match="there is no module 'tank_lvl' in this folder or among what is installed"):
        make_task("tank_lvl:TankLevelTask")


def test_what_a_module_lacks_is_not_taken_for_the_module(written: pathlib.Path):
    (written / "broken.py").write_text("import no_such_library\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        make_task("broken:Task")


def test_nothing_is_overwritten(written: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    before = (written / "tank_level.py").read_text()
    assert main(["new", "tank-level"]) == 2
    assert "tank_level.py and test_tank_level.py exist already" in " ".join(capsys.readouterr().err.split())
    assert (written / "tank_level.py").read_text() == before


@pytest.mark.parametrize("name", ["2tanks", "class", "Tank", "a b", "example"])
def test_names_that_are_none(name: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    assert main(["new", name, "--out", str(tmp_path)]) == 2
    assert "e.g. tank_level" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_a_module_that_is_there_is_not_hidden(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    assert main(["new", "queue", "--out", str(tmp_path)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "there is a module «queue» already, which queue.py would hide" in told and "e.g. queue_task." in told
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_folder_to_write_to(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "notes").write_text("mine")
    assert main(["new", "reservoir_level", "--out", str(tmp_path / "notes")]) == 2
    assert "cannot create the folder" in " ".join(capsys.readouterr().err.split())


def test_half_a_name_is_none():
    for name in (":TankLevelTask", "tank_level:"):
        with pytest.raises(ValueError, match=f"there is no task '{name}'; the known ones are: .* 'module:Kind'"):
            make_task(name)


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("name", ["tank_level", "tank_level.py"])
def test_a_file_of_this_folder_is_no_task_and_its_task_is_named(name: str):
    with pytest.raises(UserError, match=rf"there is no task «{name}» \(did you mean tank_level:TankLevelTask\?\)"):
        make_known_task(name)


def test_a_file_of_another_folder_is_no_module(written: pathlib.Path):
    with pytest.raises(UserError, match=r"there is no task «.*tank_level»; the known ones are"):
        make_known_task(str(written / "tank_level"))
