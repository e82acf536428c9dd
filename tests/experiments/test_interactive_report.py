"""Pages to explore: they hold all they show, every plan is in them, and runs that cannot be compared are named."""

import json
import pathlib
import re
from typing import Any

import jax
import numpy as np
import pytest

from planahead.experiments import interactive_figures
from planahead.experiments.command import main
from planahead.experiments.episodes import run_episodes
from planahead.experiments.fixed_planner import FixedPlanner
from planahead.experiments.trajectory import Trajectory
from planahead.tasks import make_task
from tests.experiments.test_command import TRAIN, refused


@pytest.fixture(autouse=True)
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def drawn(page: str) -> list[Any]:
    """The traces of every figure of a page."""
    return [json.loads(found) for found in re.findall(r"Plotly\.newPlot\(\s*\"[^\"]+\",\s*(\[.*?\]),\s*\{", page, re.S)]


def trajectory(task: Any) -> Trajectory:
    return Trajectory.of(run_episodes(task, FixedPlanner(task), jax.random.key(0), 1))


def test_every_plan_lies_under_the_slider():
    task = make_task("mass-spring-damper")
    episode = trajectory(task)
    page = interactive_figures.closed_loop(task, episode).to_dict()
    data, frames = page["data"], page["frames"]
    assert episode.planned_states is not None and len(frames) == episode.steps == 50
    position = frames[7]["data"][0]
    np.testing.assert_allclose(position["y"], episode.planned_states[7, :, 0], rtol=1e-3)
    np.testing.assert_allclose(position["x"], 0.1 * (7 + np.arange(21)), rtol=1e-3)
    np.testing.assert_allclose(data[0]["y"][0], data[3]["y"][0], rtol=1e-3)  # what happened, and what was planned


@pytest.mark.usefixtures("stub_names")
class TestWithTheStub:
    def test_a_page_of_one_run(self, capsys: pytest.CaptureFixture[str]):
        main([*TRAIN, "--run", "run"])
        assert main(["report", "run", "--interactive", "--episodes", "3"]) == 0
        page = pathlib.Path("run/interactive.html").read_text()
        assert "stub on point" in page and not re.search(r"<(script|link)[^>]+(src|href)=.http", page)
        learning, loop = drawn(page)
        assert learning[0]["x"] == [0, 300, 600] and loop[0]["y"][0] == 1.0

    def test_runs_side_by_side(self, capsys: pytest.CaptureFixture[str]):
        main([*TRAIN, "--run", "one"])
        main([*TRAIN, "--run", "two", "--seed", "1"])
        assert main(["report", "one", "two", "--json", "made.json"]) == 0
        page = pathlib.Path("comparison.html").read_text()
        assert "<td>one</td><td>stub</td><td>point</td><td>0</td><td>600</td>" in page
        assert "<td>settings.seed</td><td>0</td><td>1</td>" in page
        (learning,) = drawn(page)
        assert [line["name"] for line in learning] == ["one", "one", "two", "two"]
        assert main(["report", "one", "two"]) == 0 and pathlib.Path("comparison-2.html").exists()
        assert "exists already" in refused(capsys, "report", "one", "two", "--out", "comparison.html")
        assert "a run is named twice" in refused(capsys, "report", "one", "one", "--out", "new.html")
        pathlib.Path("two/evaluation.json").unlink()
        assert "planahead evaluate two" in refused(capsys, "report", "one", "two", "--out", "new.html")


def test_no_run(capsys: pytest.CaptureFixture[str]):
    assert "no run was named" in refused(capsys, "report")


def test_without_plotly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(__import__("sys").modules, "plotly", None)
    pathlib.Path("run").mkdir()
    with pytest.raises(Exception, match=r"install it: pip install 'planahead\[report\]'"):
        interactive_figures.require_plotly()
