"""The table of a benchmark is shared: every process adds its row and keeps those of the others."""

import dataclasses
import pathlib
import threading

import pytest

from planahead.experiments import bench
from planahead.experiments.bench import Cell
from planahead.experiments.errors import UserError

CELL = Cell(
    algorithm="sac", seed=0, steps_to_goal=None, seconds_to_goal=None, seconds=1.0, best_step=100, success_best=1.0,
    success_last=0.5, success_best_single=None, success_last_single=None, return_best=2.0, return_last=1.0,
    return_best_single=None, failed_solves=0.0, violations_per_step=0.0, violations_per_episode=0.0,
)  # fmt: skip


def rows(path: pathlib.Path) -> list[list[str]]:
    return [line.split(",")[:2] for line in path.read_text().splitlines()[1:]]


def test_a_row_replaces_its_older_one_and_keeps_the_others(tmp_path: pathlib.Path):
    path = tmp_path / "results.csv"
    for seed in (10, 2, 0):
        found = bench.add_row(path, dataclasses.replace(CELL, seed=seed))
    assert found == [("sac", 0), ("sac", 2), ("sac", 10)]
    bench.add_row(path, dataclasses.replace(CELL, seed=2, seconds=7.0))
    assert rows(path) == [["sac", "0"], ["sac", "2"], ["sac", "10"]]
    assert [line.split(",")[4] for line in path.read_text().splitlines()[1:]] == ["1.0", "7.0", "1.0"]


def test_rows_that_are_added_at_once_are_all_kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    drawn = []
    monkeypatch.setattr(bench.figures, "learning_curves", dict)
    monkeypatch.setattr(bench.figures, "save", lambda figure, path: drawn.append(figure))
    cells = [dataclasses.replace(CELL, algorithm=name, seed=seed) for name in ("sac", "sac-zop") for seed in range(4)]
    for cell in cells:
        folder = tmp_path / f"{cell.algorithm}-{cell.seed}"
        folder.mkdir()
        (folder / "validations.csv").write_text("step,success_rate\n0,0.5\n")
    threads = [threading.Thread(target=bench.publish, args=(tmp_path, cell)) for cell in cells]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(tmp_path / "results.csv") == sorted([cell.algorithm, str(cell.seed)] for cell in cells)
    assert not (tmp_path / "results.lock").exists()
    assert {name: len(seeds) for name, seeds in drawn[-1].items()} == {"sac": 4, "sac-zop": 4}  # whoever was last


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("sac,0", "sac,zero"), "is damaged: .*'zero'; a seed was expected. Move it away"),
        (("seed", "sed"), "has the columns"),
    ],
)
def test_a_damaged_table_is_said(tmp_path: pathlib.Path, change: tuple[str, str], message: str):
    path = tmp_path / "results.csv"
    bench.add_row(path, CELL)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(UserError, match=message):
        bench.add_row(path, CELL)
