"""A run is decided by its settings: interrupted, killed or left alone, it gives the same bytes."""

import dataclasses
import io
import os
import pathlib
import signal
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from planahead.experiments import training
from planahead.experiments.checkpoint import read_checkpoint_info
from planahead.experiments.errors import UserError
from planahead.experiments.experiment import Experiment
from planahead.experiments.run_directory import RunDirectory
from planahead.experiments.settings import TrainSettings
from planahead.experiments.training import train
from planahead.tasks import Task
from tests.experiments.stubs import Proportional, Raising, stub_experiment

TABLES = ("metrics", "validations")


def start(path: pathlib.Path, **settings: int) -> tuple:
    experiment = stub_experiment(**settings)
    return experiment, RunDirectory.create(path, experiment.settings, {}, {}, {})


def silent() -> Console:
    return Console(file=io.StringIO(), width=120)


def contents(run: RunDirectory) -> dict[str, bytes]:
    return {table: run.table_path(table).read_bytes() for table in TABLES}


@pytest.fixture
def whole(tmp_path: pathlib.Path) -> RunDirectory:
    experiment, run = start(tmp_path / "whole")
    assert train(experiment, run, silent()).finished
    return run


def test_tables_of_a_whole_run(whole: RunDirectory):
    assert [row["step"] for row in whole.read("metrics")] == list(range(100, 1300, 100))
    assert [row["step"] for row in whole.read("validations")] == [0, 300, 600, 900, 1200]
    assert list(whole.read("metrics")[0]) == ["step", "failed_solves", "return"]
    seconds = [row["seconds"] for row in whole.read("timing")]
    assert seconds == sorted(seconds) and len(seconds) == 12


def test_the_checkpoint_that_validated_best_is_kept(whole: RunDirectory):
    validations = whole.read("validations")
    best = max(validations, key=lambda row: (row["success_rate"], row["mean_return"]))
    info = read_checkpoint_info(whole.best_checkpoint)
    assert info.step == best["step"]
    assert (info.success_rate, info.mean_return) == (best["success_rate"], best["mean_return"])
    assert read_checkpoint_info(whole.last_checkpoint).step == 1200
    policy, _ = stub_experiment().load_policy(whole, "last")
    assert isinstance(policy, Proportional)
    np.testing.assert_allclose(policy.gain, 1.2, atol=0.4)  # twelve chunks of 0.1 each, with noise


class Killed(BaseException):
    """What cannot be caught, in a test."""


@pytest.mark.parametrize("chunk", [0, 1, 2, 3, 7, 11])
def test_a_killed_run_goes_on_to_the_same_numbers(
    tmp_path: pathlib.Path, whole: RunDirectory, monkeypatch: pytest.MonkeyPatch, chunk: int
):
    experiment, run = start(tmp_path / "killed")
    advance = training._advance
    calls = iter(range(100))

    def dying(*arguments: Any) -> Any:
        if next(calls) == chunk:
            raise Killed
        return advance(*arguments)

    monkeypatch.setattr(training, "_advance", dying)
    with pytest.raises(Killed):
        train(experiment, run, silent())
    monkeypatch.setattr(training, "_advance", advance)
    assert train(experiment, run, silent()).finished
    assert contents(run) == contents(whole)
    for checkpoint in ("last", "best"):
        bodies = [(r.path / "checkpoints" / checkpoint).read_bytes().partition(b"\n")[2] for r in (run, whole)]
        assert bodies[0] == bodies[1]


@pytest.mark.parametrize("kind", ["learner", "policy"])
def test_a_run_killed_while_it_saves_goes_on_to_the_same_numbers(
    tmp_path: pathlib.Path, whole: RunDirectory, monkeypatch: pytest.MonkeyPatch, kind: str
):
    experiment, run = start(tmp_path / "killed")
    save = training.save_checkpoint

    def dying(path: pathlib.Path, tree: Any, info: training.CheckpointInfo) -> None:
        if info.kind == kind and info.step in (0, 600):
            raise Killed
        save(path, tree, info)

    monkeypatch.setattr(training, "save_checkpoint", dying)
    with pytest.raises(Killed):
        train(experiment, run, silent())
    monkeypatch.setattr(training, "save_checkpoint", save)
    assert train(experiment, run, silent()).finished
    assert contents(run) == contents(whole)


def test_an_interrupted_run_saves_and_goes_on_to_the_same_numbers(
    tmp_path: pathlib.Path, whole: RunDirectory, monkeypatch: pytest.MonkeyPatch
):
    experiment, run = start(tmp_path / "interrupted")
    advance = training._advance
    calls = iter(range(100))

    def interrupting(*arguments: Any) -> Any:
        if next(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(*arguments)

    monkeypatch.setattr(training, "_advance", interrupting)
    before = signal.getsignal(signal.SIGINT)
    result = train(experiment, run, silent())
    assert (result.finished, result.step) == (False, 500)
    assert signal.getsignal(signal.SIGINT) is before
    assert read_checkpoint_info(run.last_checkpoint).step == 500
    monkeypatch.setattr(training, "_advance", advance)
    assert train(experiment, run, silent()).finished
    assert contents(run) == contents(whole)


def test_steps_may_be_raised_later(tmp_path: pathlib.Path, whole: RunDirectory):
    experiment, run = start(tmp_path / "short", steps=600)
    train(experiment, run, silent())
    train(stub_experiment(), run, silent())
    assert contents(run) == contents(whole)
    before = contents(run)
    assert train(stub_experiment(), run, silent()).finished  # nothing is left to do
    assert contents(run) == before


def test_without_its_best_checkpoint_a_run_keeps_its_tables(tmp_path: pathlib.Path, whole: RunDirectory):
    experiment, run = start(tmp_path / "short", steps=600)
    train(experiment, run, silent())
    run.best_checkpoint.unlink()
    log = io.StringIO()
    assert train(stub_experiment(), run, Console(file=log, width=120)).finished
    assert "checkpoints/best is missing; the policy at 600 steps takes its place" in log.getvalue()
    assert contents(run) == contents(whole)


def test_without_its_last_checkpoint_a_run_starts_anew_to_the_same_numbers(tmp_path: pathlib.Path, whole: RunDirectory):
    experiment, run = start(tmp_path / "short", steps=600)
    train(experiment, run, silent())
    run.last_checkpoint.unlink()
    train(stub_experiment(), run, silent())
    assert contents(run) == contents(whole)


@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_nothing_is_cut_where_a_checkpoint_is_damaged(tmp_path: pathlib.Path, checkpoint: str):
    experiment, run = start(tmp_path / "run", steps=600)
    train(experiment, run, silent())
    path = run.path / "checkpoints" / checkpoint
    path.write_bytes(path.read_bytes()[:-3])
    run.append("metrics", {"step": 700, "failed_solves": 0.0, "return": 0.0})
    before = contents(run)
    with pytest.raises(UserError, match=f"checkpoints/{checkpoint}» is damaged"):
        train(stub_experiment(), run, silent())
    assert contents(run) == before


@pytest.mark.parametrize("worst", [float("nan"), float("inf"), -float("inf"), None])
def test_a_return_that_is_no_number_is_the_worst_before_and_after_a_resume(worst: float | None):
    assert training.score(0.0, worst) < training.score(0.0, -1e30)
    assert training.score(0.0, worst) == training.score(0.0, None)  # as a file brings it back


def test_two_processes_never_train_the_same_run(tmp_path: pathlib.Path):
    experiment, run = start(tmp_path / "run", steps=300)
    with run.locked(), pytest.raises(UserError, match=r"the run «.*» is in use: its lock «.*lock» is held by process"):
        train(experiment, run, silent())
    assert train(experiment, run, silent()).finished
    assert not (run.path / "lock").exists()


def test_training_ends_where_the_policy_is_no_number(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    advance = Raising.advance

    def diverging(self: Raising, state: Any, key: Any) -> Any:
        state, metrics = advance(self, state, key)
        gain = jnp.where(state.policy.gain > 0.6, jnp.nan, state.policy.gain)
        return eqx.tree_at(lambda state: state.policy.gain, state, gain), metrics

    monkeypatch.setattr(Raising, "advance", diverging)
    experiment, run = start(tmp_path / "run")
    experiment = dataclasses.replace(experiment, learner=Raising(rate=0.11))  # of which nothing is compiled yet
    with pytest.raises(UserError, match=r"the policy has become NaN between [3-8]00 and [4-9]00 steps.*learning_rate"):
        train(experiment, run, silent())
    assert np.isfinite([row["return"] for row in run.read("metrics")]).all()
    policy, _ = experiment.load_policy(run, "last")
    assert np.isfinite(policy.gain)


def test_another_seed_gives_other_numbers(tmp_path: pathlib.Path, whole: RunDirectory):
    experiment, run = start(tmp_path / "other", seed=2)
    train(experiment, run, silent())
    assert contents(run) != contents(whole)


def test_resuming_from_another_runs_checkpoint_is_refused(tmp_path: pathlib.Path, whole: RunDirectory):
    experiment, run = start(tmp_path / "other")
    header, _, numbers = whole.last_checkpoint.read_bytes().partition(b"\n")
    run.last_checkpoint.write_bytes(header.replace(b'"stub"', b'"sac"') + b"\n" + numbers)
    with pytest.raises(UserError, match="is of another run: its algorithm is «sac», «stub» was expected"):
        train(experiment, run, silent())


def test_what_a_log_shows(tmp_path: pathlib.Path):
    experiment, run = start(tmp_path / "run")
    log = io.StringIO()
    train(experiment, run, Console(file=log, width=120))
    text = log.getvalue()
    assert "stub on point: compiling" in text
    assert "1,200 of 1,200 steps · return" in text
    assert "validation at 300 steps: success 0 %, return" in text


def test_streams_never_share_a_key():
    from planahead.experiments.experiment import Stream, stream_key

    keys = [
        jax.random.key_data(stream_key(seed, stream, i)).tolist()
        for seed in (0, 1)
        for stream in Stream
        for i in (0, 1)
    ]
    assert len({tuple(key) for key in keys}) == len(keys)


@pytest.mark.long
def test_a_task_that_a_learner_cannot_train_on_is_refused_in_words():
    experiment = Experiment.from_settings(TrainSettings("cacto", "race-circle"))
    with pytest.raises(UserError, match=r"cacto on race-circle: .*observed"):
        experiment.first_state()


def test_a_run_whose_task_is_not_found_says_where_it_was_made(tmp_path: pathlib.Path):
    settings = TrainSettings("sac", "no_such_module:Task")
    run = RunDirectory.create(tmp_path / "run", settings, {}, {}, {"folder": "/home/ada/tanks"})
    with pytest.raises(
        UserError, match=r"no module 'no_such_module' .* was made in «/home/ada/tanks»: call it from there"
    ):
        Experiment.of_run(run)
    (run.path / "versions.json").unlink()
    with pytest.raises(UserError, match=r"no module 'no_such_module' (?!.*was made in)"):
        Experiment.of_run(run)


@pytest.mark.usefixtures("stub_names")
def test_training_may_see_another_task_than_validation(monkeypatch: pytest.MonkeyPatch):
    seen: list[Task] = []
    init = Raising.init

    def watched(self: Raising, task: Task, policy: Any, key: Any) -> Any:
        seen.append(task)
        return init(self, task, policy, key)

    monkeypatch.setattr(Raising, "init", watched)
    options: dict[str, Any] = {"task_options": ("start_spread=0.2",), "training_options": ("drift=0.5",)}
    experiment = Experiment.from_settings(TrainSettings("stub", "point", **options))
    experiment.first_state()
    (trained,) = seen
    worlds = [task.environment for task in (experiment.task, trained)]
    assert [float(world.start_spread) for world in worlds] == pytest.approx([0.2, 0.2])
    assert [float(world.drift) for world in worlds] == [0.0, 0.5]
    with pytest.raises(UserError, match=r"drfit=0\.5: task 'point' has no option 'drfit' \(did you mean drift\?\)"):
        Experiment.from_settings(TrainSettings("stub", "point", training_options=("drfit=0.5",)))
