"""Reports and figures hold what they promise, and need nothing but themselves."""

import base64
import dataclasses
import html.parser
import io
import json
import pathlib
import re
import subprocess

import jax
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.console import Console

from planahead.experiments import doctor, figures
from planahead.experiments.episodes import run_episodes
from planahead.experiments.evaluated_run import EvaluatedRun, evaluate_run
from planahead.experiments.evaluation import Evaluation
from planahead.experiments.progress import TrainingProgress
from planahead.experiments.report import report_html, write_report
from planahead.experiments.run_directory import RunDirectory
from planahead.experiments.training import train
from planahead.experiments.trajectory import Trajectory
from planahead.experiments.versions import commit, versions
from planahead.policies import ActionBox, DirectPolicy
from planahead.tasks import make_task, task_names
from tests.experiments.stubs import stub_experiment


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> EvaluatedRun:
    experiment = stub_experiment()
    path = tmp_path_factory.mktemp("runs") / "run"
    run = RunDirectory.create(path, experiment.settings, {}, experiment.learner_settings(), versions())
    train(experiment, run, Console(file=io.StringIO()))
    return evaluate_run(run, 30, experiment=experiment)


class Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_needs_nothing_but_itself(evaluated: EvaluatedRun):
    write_report(evaluated)
    text = evaluated.run.report_path.read_text()
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert len(page.sources) == 3 and all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert "@import" not in text and "url(" not in text
    for source in page.sources:
        image = base64.b64decode(source.partition(",")[2]).decode()
        assert image.rstrip().endswith("</svg>")
        assert not re.search(r"(href|src)=[\"'](?!#|data:)", image)


def test_the_report_says_what_the_run_was(evaluated: EvaluatedRun):
    text = report_html(evaluated)
    for words in ("stub on point", "Bring a point to rest.", "perturbed ±0.1", "single", "rate", "jax"):
        assert words in text
    for heading in ("Evaluation", "Learning", "Closed loop", "Solver", "Configuration", "Versions"):
        assert f"<h2>{heading}</h2>" in text
    assert text.count("<td>best</td>") == text.count("<td>last</td>") == 2
    assert report_html(evaluated) == text  # the same run gives the same page


def test_names_from_outside_cannot_become_markup(evaluated: EvaluatedRun):
    settings = dataclasses.replace(evaluated.settings, algorithm="<script>alert(1)</script>")
    assert "<script>" not in report_html(dataclasses.replace(evaluated, settings=settings))


def labels(figure: Figure) -> list[str]:
    return [
        text
        for axes in figure.axes
        for text in (axes.get_title(), axes.get_title("left"), axes.get_xlabel(), axes.get_ylabel())
    ]


def test_learning_curve(evaluated: EvaluatedRun):
    run = evaluated.run
    figure = figures.learning_curve(run.read("validations"), run.read("metrics"), evaluated.best_step)
    assert {"environment steps", "episodes that succeed [%]", "mean return of an episode"} <= set(labels(figure))
    curves = {line.get_label(): line for line in figure.axes[0].get_lines()}
    np.testing.assert_array_equal(curves["validation"].get_xdata(), [0, 300, 600, 900, 1200])
    np.testing.assert_array_equal(curves["best, kept"].get_xdata(), evaluated.best_step)


def test_returns_that_are_not_numbers_are_no_reason_to_train_for_longer(evaluated: EvaluatedRun):
    assert dataclasses.replace(evaluated, best_step=8).warning() == ""
    assert dataclasses.replace(evaluated, best_step=0).warning().startswith("The best policy is the untrained one")
    row = evaluated.rows[0]
    returns = np.full_like(row.evaluation.returns, np.nan)
    lost = dataclasses.replace(row, evaluation=dataclasses.replace(row.evaluation, returns=returns))
    warning = dataclasses.replace(evaluated, best_step=0, rows=(lost,)).warning()
    assert "check_task" in warning and "longer" not in warning


@pytest.fixture
def planned() -> Trajectory:
    """An episode with made-up plans: as if the planner thought that nothing would ever change."""
    task = make_task("cartpole")
    network = DirectPolicy(task.environment.observation_scale, ActionBox((-80.0,), (80.0,)), key=jax.random.key(0))
    trajectory = Trajectory.of(run_episodes(task, network, jax.random.key(1), 1, 0.0))
    states = np.repeat(trajectory.planner_states[:-1, None], 6, axis=1)
    return dataclasses.replace(trajectory, planned_states=states, planned_actions=np.zeros((trajectory.steps, 5, 1)))


def test_closed_loop_shows_plans_where_they_were_made(planned: Trajectory):
    task = make_task("cartpole")
    figure = figures.closed_loop(task, {"one": planned, "two": planned}, horizons=7)
    assert len(figure.axes) == 2 * (1 + 4 + 1)
    assert {"cart position [m]", "pole angle [rad]", "force [N]", "time [s]", "one", "two"} <= set(labels(figure))
    panel = next(axes for axes in figure.axes if axes.get_title("left") == "pole angle [rad]")
    plans = [line for line in panel.get_lines() if len(np.asarray(line.get_xdata())) == 6]
    assert len(plans) == 7
    for line in plans:
        times = np.asarray(line.get_xdata())
        step = round(times[0] / 0.05)
        np.testing.assert_allclose(times, 0.05 * (step + np.arange(6)))
        np.testing.assert_allclose(np.asarray(line.get_ydata()), planned.planner_states[step, 1])


def test_an_angle_that_drops_a_turn_is_not_drawn_across():
    values = np.array([6.0, 6.2, 0.1, 0.3])
    drawn = figures._without_turns(values)
    assert np.isnan(drawn[2]) and np.isfinite(drawn[[0, 1, 3]]).all()


def bars_of(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def test_solver_statistics_count_every_solve():
    evaluation = Evaluation(
        start_spread=0.1,
        returns=np.ones(1), lengths=np.array([4]), success=np.array([True]), terminated=np.array([False]),
        violations=np.array([0]), failed=np.array([1]),
        status=np.array([0, 0, 0, 1]), iterations=np.array([2, 2, 3, 9]),
    )  # fmt: skip
    metrics = [{"step": 1.0, "failed_solves": 0.25, "vanishing_gradients": 0.5, "smallest_singular_value": 0.1}]
    figure = figures.solver_statistics(evaluation, metrics)
    bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in bars_of(figure.axes[0])}
    assert bars == {2: 50.0, 3: 25.0, 9: 25.0}
    assert [bar.get_width() for bar in bars_of(figure.axes[1])] == [75.0, 25.0, 0.0, 0.0, 0.0]
    assert "solves [%]" in labels(figure)


def test_a_terminal_shows_a_bar_and_a_line():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100)
    with TrainingProgress(console, "stub on point", 0, 1000) as progress:
        progress.doing("compiling …")
        progress.advanced(500, {"return": 1.234, "success": 0.5}, 250.0)
        progress.say("validation at 500 steps")
    text = stream.getvalue()
    assert "compiling …" in text and "validation at 500 steps" in text
    assert "500 of 1,000 steps · return 1.23 · success 50 % · 250 steps/s · 0:02 left" in text


def test_doctor_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "COLD_START", "raise RuntimeError('no such planner')")
    found = doctor.examine()
    assert found["cold_start"] is None
    assert "could not be planned in a fresh process: RuntimeError: no such planner" in found["problems"][0]
    assert len(found["problems"]) == 1
    assert len(found["gymnasium"]) == len(task_names())
    json.dumps(found)


def test_doctor_says_what_an_extra_lacks(monkeypatch: pytest.MonkeyPatch):
    versions = {"planahead": "1", "torch": "2.9.0+cpu", "gymnasium": "1.2", "plotly": "5.24"}
    wants = {
        "planahead": [
            "jax>=0.10",
            "torch>=2.8; extra == 'torch'",
            "plotly>=6; extra == 'view'",
            "stable-baselines3; extra == 'sb3'",
            "planahead[torch]; extra == 'sb3'",
            "gymnasium[mujoco]; extra == 'mujoco'",
        ],
        "gymnasium": ["numpy", "mujoco>=2; extra == 'mujoco'"],
    }

    def version(name: str) -> str:
        if name not in versions:
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor.importlib.metadata, "requires", wants.get)
    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    found = [doctor.missing(extra) for extra in ("torch", "view", "sb3", "mujoco")]
    assert found == [[], ["plotly>=6"], ["stable-baselines3"], ["mujoco"]]


def test_doctor_names_the_solvers():
    found = doctor.qp_backends()
    assert found["portable"] == "pure JAX, everywhere" and "\n" not in found["native"]


def test_cold_start_is_measured_in_a_fresh_process():
    times, error = doctor.cold_start()
    assert error is None and times is not None
    assert times["status"] == 0
    assert times["total"] == pytest.approx(times["import"] + times["first_plan"])
    assert 0 < times["second_plan"] < times["first_plan"]


def test_versions_name_the_packages_and_the_command():
    found = versions()
    assert {"planahead", "jax", "equinox"} <= set(found["packages"])
    assert found["command"] and found["machine"]["devices"]
    assert found["machine"]["qp_kernel"] == doctor.qp_backends()["native"]


def test_the_commit_is_that_of_the_source(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # wherever the program is called from
    folder = pathlib.Path(figures.__file__).parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        assert commit() is None
    else:
        found = commit()
        assert found is not None and len(found.removesuffix("+")) == 10
        assert done.stdout.startswith(found.removesuffix("+"))
