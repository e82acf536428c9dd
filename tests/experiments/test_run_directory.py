"""A run's folder: never overwritten, whole rows only, and clear words where the disk says no."""

import pathlib

import pytest

from planahead.experiments.errors import UserError
from planahead.experiments.run_directory import RunDirectory
from planahead.experiments.settings import TrainSettings

SETTINGS = TrainSettings("sac", "cartpole", steps=100)


def create(path: pathlib.Path) -> RunDirectory:
    return RunDirectory.create(path, SETTINGS, {"noise": "action"}, {"batch_size": 64}, {"python": "3"})


def test_configuration_comes_back(tmp_path: pathlib.Path):
    create(tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    assert run.settings() == SETTINGS
    assert run.config()["learner"] == {"batch_size": 64}
    assert run.config()["policy"] == {"noise": "action"}
    assert run.versions() == {"python": "3"}


def test_a_run_is_never_overwritten(tmp_path: pathlib.Path):
    create(tmp_path / "run")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(
        UserError,
        match=r"already holds a run, and a run is never overwritten. Go on with it with --resume, or choose another",
    ):
        create(tmp_path / "run")
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_folder_with_other_files_is_left_alone(tmp_path: pathlib.Path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="is a folder with other files in it"):
        create(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: pathlib.Path):
    (tmp_path / "file").touch()  # root may write everywhere, but nobody can make a folder below a file
    with pytest.raises(
        UserError,
        match=r"cannot create the folder .*Not a directory. Choose a path below a folder that you may write to",
    ):
        create(tmp_path / "file" / "run")


def test_a_folder_without_a_run(tmp_path: pathlib.Path):
    with pytest.raises(UserError, match=r"holds no run .*Make a run there with: planahead train"):
        RunDirectory.open(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        RunDirectory.open(tmp_path / "nowhere")


def test_a_task_is_told_from_a_folder_that_is_called_like_one(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cartpole", "tank_level:TankLevelTask"):
        with pytest.raises(UserError, match=f"«{name}» is a task, .* evaluated by: planahead plan {name}$"):
            RunDirectory.open(pathlib.Path(name))
    with pytest.raises(UserError, match="«runs/cartpole» is not a folder"):
        RunDirectory.open(pathlib.Path("runs/cartpole"))
    pathlib.Path("cartpole").mkdir()
    with pytest.raises(UserError, match="«cartpole» holds no run"):
        RunDirectory.open(pathlib.Path("cartpole"))


def test_configuration_that_is_no_json(tmp_path: pathlib.Path):
    run = create(tmp_path / "run")
    run.config_path.write_text('{"settings": {')
    with pytest.raises(UserError, match=r"the configuration .* is not JSON"):
        run.settings()
    run.config_path.write_text("[]")
    with pytest.raises(UserError, match="holds a list"):
        run.settings()


def test_configuration_without_a_part(tmp_path: pathlib.Path):
    run = create(tmp_path / "run")
    run.config_path.write_text('{"settings": {}, "learner": {}}')
    expected = "the objects «settings», «policy», «learner» were expected. Restore the file"
    said = f"has the keys «settings», «learner»; {expected}"
    with pytest.raises(UserError, match=said):
        run.settings()


def test_a_damaged_table_is_not_cut(tmp_path: pathlib.Path):
    run = create(tmp_path / "run")
    path = run.table_path("metrics")
    path.write_text("step,return\n100,0.5\nxyz,0.6\n")
    with pytest.raises(
        UserError, match=r"metrics.csv» is damaged: .*'xyz'; a step was expected at the start of every row"
    ):
        run.cut(100)
    assert "xyz" in path.read_text()


def test_tables_grow_by_whole_rows_and_are_cut_back(tmp_path: pathlib.Path):
    run = create(tmp_path / "run")
    for step in (100, 200, 300):
        run.append("metrics", {"step": step, "return": step / 3})
    path = run.table_path("metrics")
    path.write_text(path.read_text() + "400,1")  # killed in the middle of a row
    assert [row["step"] for row in run.read("metrics")] == [100, 200, 300]
    run.cut(200)
    assert path.read_text() == f"step,return\n100,{100 / 3!r}\n200,{200 / 3!r}\n"
    assert run.read("validations") == []
