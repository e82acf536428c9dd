"""The one loop with side effects: it advances a learner chunk by chunk, and shows, writes, validates, saves and stops
in between.

    for chunk c:   state, metrics = advance(state, key(seed, c))
                   metrics -> metrics.csv
                   every `validate_every` steps:  episodes -> validations.csv, checkpoints/best, checkpoints/last

It knows no algorithm. A killed run goes on from its last checkpoint to the same numbers, because what a chunk does
depends on the state and on the chunk's index alone; the tables are cut back to the checkpoint first. `best` is written
before `last`: a run killed between the two comes back to the same validation and finds it already the best.
"""

import contextlib
import dataclasses
import math
import pathlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from rich.console import Console

from planahead.experiments.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from planahead.experiments.errors import UserError
from planahead.experiments.evaluation import Evaluation, evaluate
from planahead.experiments.experiment import Experiment, require_same
from planahead.experiments.files import plain
from planahead.experiments.progress import TrainingProgress, percent
from planahead.experiments.run_directory import RunDirectory
from planahead.experiments.settings import TrainSettings, settings_to_json
from planahead.experiments.versions import versions
from planahead.learning import Learner, Metrics
from planahead.policies import Policy


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """How a sitting ended."""

    finished: bool
    """Whether all steps were taken; otherwise the user interrupted."""
    step: int
    seconds: float
    """Wall time of training over all sittings, compilation and validation included, s."""
    best: CheckpointInfo | None
    """The checkpoint that validated best."""


def train(experiment: Experiment, run: RunDirectory, console: Console) -> TrainingResult:
    """Train until `settings.steps`, from the run's last checkpoint where there is one.

    **Raises:** `UserError` where another process trains the same run, a checkpoint or table is damaged, or the policy
    is no longer made of numbers.
    """
    with run.locked():
        return _train(experiment, run, console)


def _train(experiment: Experiment, run: RunDirectory, console: Console) -> TrainingResult:
    settings, learner = experiment.settings, experiment.learner
    state, info, best = _start(experiment, run)
    step, chunk = info.step, info.chunk
    sitting = _Clock(info.seconds)
    title = f"{settings.algorithm} on {settings.task}"

    goal = -(-settings.steps // learner.steps_per_chunk) * learner.steps_per_chunk
    with TrainingProgress(console, title, step, goal) as progress, _interruptions(progress) as interrupted:
        if step >= settings.steps:
            progress.say(f"all {step:,} steps are done")
        elif step > 0:
            progress.say(f"going on at step {step:,} of {goal:,}")
        if best is None:
            if step > 0:
                progress.say(f"checkpoints/best is missing; the policy at {step:,} steps takes its place")
            progress.doing("compiling the validation, and validating the policy …")
            best = _validate(experiment, run, state, info, None, progress)
        if step < settings.steps:
            progress.doing("compiling the learner …")
        while step < settings.steps and not interrupted.is_set():
            state, metrics = _advance((learner, experiment.chunk_key(chunk)), state)
            metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
            before, step, chunk = step, step + learner.steps_per_chunk, chunk + 1
            _require_numbers(learner.policy(state), before, step, run)
            rate = sitting.lap(step - before)
            run.append("metrics", {"step": step, **dict(sorted(metrics.items()))})
            run.append("timing", {"step": step, "seconds": round(sitting.seconds, 3)})
            progress.advanced(step, shown(metrics), rate)
            due = step // settings.validate_every > before // settings.validate_every or step >= settings.steps
            info = experiment.info("learner", step, chunk, sitting.seconds)
            if due:
                best = _validate(experiment, run, state, info, best, progress)
            if due or interrupted.is_set():
                save_checkpoint(run.last_checkpoint, state, info)
    return TrainingResult(step >= settings.steps, step, sitting.seconds, best)


def prepare(settings: TrainSettings, path: pathlib.Path, resume: bool = False) -> tuple[Experiment, RunDirectory]:
    """The experiment and its folder: a new one, or the one at `path` that is to go on."""
    if not resume:
        experiment = Experiment.from_settings(settings)
        run = RunDirectory.create(
            path, settings, experiment.policy_settings(), experiment.learner_settings(), versions()
        )
        return experiment, run
    run = RunDirectory.open(path)
    with run.locked():
        require_same(run.path, "settings", settings_to_json(run.settings()), settings_to_json(settings), but="steps")
        experiment = Experiment.from_settings(settings)
        require_same(run.path, "settings of the policy", run.config()["policy"], plain(experiment.policy_settings()))
        require_same(run.path, "settings of the learner", run.config()["learner"], plain(experiment.learner_settings()))
        run.write_config(settings, experiment.policy_settings(), experiment.learner_settings())
    return experiment, run


def shown(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics worth a place beside the progress bar, under their short names."""
    names = {"return": "return", "success_rate": "success", "failed_solves": "failed solves"}
    return {short: metrics[name] for name, short in names.items() if name in metrics}


@eqx.filter_jit(donate="all-except-first")
def _advance(learner_and_key: tuple[Learner[Any], Any], state: Any) -> tuple[Any, Metrics]:
    learner, key = learner_and_key
    return learner.advance(state, key)


def _require_numbers(policy: Policy, before: int, step: int, run: RunDirectory) -> None:
    """Nothing is learned, validated or kept from a policy with a NaN in it, which never leaves it again."""
    if bool(_has_nan(eqx.filter(policy, eqx.is_inexact_array))):
        raise UserError(
            f"the policy has become NaN between {before:,} and {step:,} steps. Either the world gave a reward or an "
            "observation that is no finite number (planahead.check_task(task) looks at an episode of random actions), "
            f"or learning diverged: try a smaller learning_rate. What «{run.path}» holds is from before."
        )


@jax.jit
def _has_nan(arrays: Any) -> jax.Array:
    return jnp.any(jnp.stack([jnp.any(jnp.isnan(array)) for array in (jnp.zeros(()), *jax.tree.leaves(arrays))]))


def _start(experiment: Experiment, run: RunDirectory) -> tuple[Any, CheckpointInfo, CheckpointInfo | None]:
    """The state to go on from, and what validated best; whatever the tables say beyond the state is cut off.

    Nothing is cut before both checkpoints are known to be whole.
    """
    state, info, best = experiment.first_state(), experiment.info("learner"), None
    has_last, has_best = run.last_checkpoint.exists(), run.best_checkpoint.exists()
    if has_last:
        state, info = load_checkpoint(run.last_checkpoint, state, info)
    if has_best:
        _, best = experiment.load_policy(run, "best")
    run.cut(info.step if has_last or has_best else -1)  # neither: killed within its first validation
    # `_advance` takes over its argument's memory, which leaves may share at first (a target network is its network).
    return jax.tree.map(lambda leaf: jnp.copy(leaf) if eqx.is_array(leaf) else leaf, state), info, best


def _validate(
    experiment: Experiment,
    run: RunDirectory,
    state: Any,
    info: CheckpointInfo,
    best: CheckpointInfo | None,
    progress: TrainingProgress,
) -> CheckpointInfo:
    """Evaluate the policy, keep it where it is the best so far, and say so."""
    settings, policy = experiment.settings, experiment.learner.policy(state)
    result = evaluate(
        experiment.task, policy, experiment.validation_key(), settings.validation_episodes, settings.start_spread
    )
    if best is not None or info.step == 0:  # where `best` went missing, the table has what it is to have
        run.append("validations", _row(info.step, result))
    found = dataclasses.replace(info, kind="policy", success_rate=result.success_rate, mean_return=result.mean_return)
    better = best is None or score(found.success_rate, found.mean_return) > score(best.success_rate, best.mean_return)
    if better:
        save_checkpoint(run.best_checkpoint, policy, found)
    progress.say(
        f"validation at {info.step:,} steps: success {percent(result.success_rate)}, return {result.mean_return:.2f}, "
        f"failed solves {percent(result.failed_solves)}{' · best so far, kept' if better and best is not None else ''}"
    )
    return found if better or best is None else best


def _row(step: int, result: Evaluation) -> dict[str, Any]:
    return {
        "step": step,
        "success_rate": result.success_rate,
        "mean_return": result.mean_return,
        "return_low": result.return_interval.low,
        "return_high": result.return_interval.high,
        "violations_per_step": result.violations_per_step,
        "violations_per_episode": result.violations_per_episode,
        "failed_solves": result.failed_solves,
    }


def score(success_rate: float | None, mean_return: float | None) -> tuple[float, float]:
    """What orders policies: success first, then return. A number that is not finite is the worst, and so is the `None`
    that a file makes of it.
    """

    def finite(value: float | None) -> float:
        return -math.inf if value is None or not math.isfinite(value) else value

    return finite(success_rate), finite(mean_return)


class _Clock:
    """Wall time over all sittings, and the rate of this one without its first chunk, which compiles."""

    def __init__(self, seconds_before: float) -> None:
        self._before = seconds_before
        self._start = time.perf_counter()
        self._compiled: float | None = None
        self._steps = 0

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._start

    def lap(self, steps: int) -> float | None:
        """Steps per second; `None` after the first chunk."""
        now = time.perf_counter()
        if self._compiled is None:
            self._compiled = now
            return None
        self._steps += steps
        return self._steps / (now - self._compiled)


@contextlib.contextmanager
def _interruptions(progress: TrainingProgress) -> Iterator[threading.Event]:
    """An event that Ctrl-C or a termination signal sets, so that the chunk in progress ends and is saved; the second
    Ctrl-C stops at once.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def ask(number: int, frame: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        progress.say("stopping after this chunk, then saving; Ctrl-C again stops at once and keeps the last checkpoint")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
