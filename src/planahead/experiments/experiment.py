"""What a run is made of, rebuilt from its settings alone: the task, the learner, the first state, and every random key.

    root = key(seed);   stream s, index i  ->  fold_in(fold_in(root, s), i)

Keys are computed from where a run stands and never handed on, so that a resumed run draws the numbers the killed one
would have drawn.
"""

import dataclasses
import enum
import pathlib
import re
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from planahead.experiments.checkpoint import CheckpointInfo, load_checkpoint
from planahead.experiments.errors import UserError, known_names
from planahead.experiments.files import plain
from planahead.experiments.run_directory import RunDirectory
from planahead.experiments.settings import TrainSettings
from planahead.learning import Learner, algorithm_names, make_algorithm
from planahead.learning.presets import PRESETS
from planahead.learning.settings import check_settings
from planahead.policies import Policy
from planahead.tasks import Task, check_task, make_task, task_names
from planahead.tasks.names import SENTENCES
from planahead.words import did_you_mean


class Stream(enum.IntEnum):
    """Sources of randomness that never share a key."""

    NETWORKS = 0
    FIRST_STATE = 1
    CHUNK = 2
    VALIDATION = 3
    EVALUATION = 4


def stream_key(seed: int, stream: Stream, index: int = 0) -> PRNGKeyArray:
    """The random key number `index` of a stream."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), index)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A learner on a task, before its first step."""

    settings: TrainSettings
    task: Task
    policy: Policy
    learner: Learner[Any]
    training_task: Task | None = None
    """What the learner acts in, where that is not the `task` that it is judged on."""

    @classmethod
    def from_settings(cls, settings: TrainSettings) -> "Experiment":
        """Build task, policy and learner by name; names and options that do not exist are errors that list those that
        do.
        """
        task = make_known_task(settings.task, "--task-options", **settings.task_arguments())
        training_task = make_known_task(settings.task, "--training-options", **settings.training_arguments())
        known_algorithm(settings.algorithm)
        key = stream_key(settings.seed, Stream.NETWORKS)
        options: dict[str, Any] = settings.learner_options()
        try:
            check_settings(settings.algorithm, options)
            policy, learner = make_algorithm(settings.algorithm, task, key, **options)
        except ValueError as error:
            asked = f"--options {' '.join(settings.options)}" if options else f"{settings.algorithm} on {settings.task}"
            raise UserError(f"{asked}: {error}.") from error
        return cls(settings, task, policy, learner, training_task if settings.training_options else None)

    @classmethod
    def of_run(cls, run: RunDirectory) -> "Experiment":
        """The experiment of an existing run. Raises `UserError` where its policy would be another one here, or its task
        is not found."""
        settings = run.settings()
        try:
            experiment = cls.from_settings(settings)
        except UserError as error:
            folder = run.made_in()
            if ":" not in settings.task or not folder or pathlib.Path(folder) == pathlib.Path.cwd():
                raise
            raise UserError(f"{error} The run was made in «{folder}»: call it from there.") from error
        require_same(run.path, "settings of the policy", run.config()["policy"], plain(experiment.policy_settings()))
        return experiment

    def first_state(self) -> Any:
        key = stream_key(self.settings.seed, Stream.FIRST_STATE)
        task = self.task if self.training_task is None else self.training_task
        try:
            return self.learner.init(task, self.policy, key)
        except ValueError as error:
            raise UserError(f"{self.settings.algorithm} on {self.settings.task}: {error}") from error

    def chunk_key(self, chunk: int) -> PRNGKeyArray:
        return stream_key(self.settings.seed, Stream.CHUNK, chunk)

    def validation_key(self) -> PRNGKeyArray:
        """The same at every validation: checkpoints are compared from the same starts."""
        return stream_key(self.settings.seed, Stream.VALIDATION)

    def policy_settings(self) -> dict[str, Any]:
        """The policy's settings in full, those of its planner included."""
        return self.policy.settings()

    def learner_settings(self) -> dict[str, Any]:
        """The learner's own settings in full, as a reader of config.json wants to see them."""
        return {
            field.name: value if isinstance(value, bool | int | float | str) or value is None else repr(value)
            for field in dataclasses.fields(self.learner)
            if not callable(value := getattr(self.learner, field.name))
        }

    def info(self, kind: str, step: int = 0, chunk: int = 0, seconds: float = 0.0) -> CheckpointInfo:
        return CheckpointInfo(kind, self.settings.algorithm, self.settings.task, step, chunk, seconds)

    def load_state(self, run: RunDirectory) -> tuple[Any, CheckpointInfo]:
        """The learner's state of the `last` checkpoint."""
        template = eqx.filter_eval_shape(self.first_state)
        return load_checkpoint(run.last_checkpoint, template, self.info("learner"))

    def load_policy(self, run: RunDirectory, which: str) -> tuple[Policy, CheckpointInfo]:
        """The policy of the `last` or the `best` checkpoint."""
        if which == "last":
            state, info = self.load_state(run)
            return self.learner.policy(state), info
        template = eqx.filter_eval_shape(lambda: self.learner.policy(self.first_state()))
        return load_checkpoint(run.best_checkpoint, template, self.info("policy"))


def require_same(
    path: pathlib.Path, what: str, there: dict[str, Any], here: dict[str, Any], but: str | None = None
) -> None:
    """A run goes on, and is evaluated, with the settings it was made with, `but` one."""
    names = [name for name in {**there, **here} if name != but and there.get(name) != here.get(name)]
    if names:
        told = "; ".join(f"{name} is {there.get(name)!r} there, {here.get(name)!r} came" for name in names)
        raise UserError(
            f"«{path}» was made with other {what}: {told}. Only --steps may change when a run goes on; leave "
            "the others out, use the version of planahead that made it (versions.json), or start a new run."
        )


def make_known_task(name: str, flag: str = "--task-options", **options: Any) -> Task:
    """The task called `name`; an unknown name is an error that lists the known ones. `flag` is what the user typed
    before the options.
    """
    if name not in task_names() and ":" not in name:
        if name in algorithm_names():
            raise UserError(f"«{name}» is an algorithm, and a task was expected here: planahead train ALGORITHM TASK")
        meant = did_you_mean(name, task_names()) or _task_of_own(name)
        raise UserError(
            f"there is no task «{name}»{meant}; the known ones are "
            f"{known_names(task_names())}. See: planahead list; one of your own is module:Kind, see: planahead new"
        )
    own = name not in task_names()
    try:
        task = make_task(name, **options)
    except (TypeError, ValueError) as error:
        if not options and own:
            raise UserError(str(error)) from error
        if not options:
            raise
        told = " ".join(f"{option}={value}" for option, value in options.items())
        raise UserError(f"{flag} {told}: {error}") from error
    if own:  # ours are looked at by their tests
        try:
            check_task(task)
        except ValueError as error:
            raise UserError(f"task «{name}»: {error}") from error
    return task


def _task_of_own(name: str) -> str:
    """The task in a file of this folder, to stand behind its name in a message; nothing where none is."""
    module = name.removesuffix(".py")
    path = pathlib.Path(f"{module}.py")
    if not (module.isidentifier() and path.is_file()):
        return ""
    kinds = re.findall(r"^class (\w+)\(.*\bTask\b", path.read_text("utf-8", "replace"), re.MULTILINE)
    return f" (did you mean {module}:{kinds[0]}?)" if kinds else ""


def known_algorithm(name: str, *others: str) -> str:
    """`name`, if there is an algorithm of that name; `others` are told with the known ones."""
    if name not in algorithm_names():
        if name in task_names():
            raise UserError(f"«{name}» is a task, and an algorithm was expected here: planahead train ALGORITHM TASK")
        known = (*algorithm_names(), *others)
        raise UserError(
            f"there is no algorithm «{name}»{did_you_mean(name, known)}; the known ones are {known_names(known)}. See: "
            "planahead list"
        )
    return name


def task_sentences() -> dict[str, str]:
    """What every task is, in a sentence or two."""
    first = {name: first_sentence(make_task(name)) for name in task_names()}
    return {name: f"{sentence} {SENTENCES.get(name, '')}".rstrip() for name, sentence in first.items()}


def algorithm_sentences() -> dict[str, str]:
    """What every algorithm is, in a sentence."""
    return {name: f"{PRESETS[name].summary[0].upper()}{PRESETS[name].summary[1:]}." for name in algorithm_names()}


def first_sentence(task: Task) -> str:
    """The first paragraph of its docstring, on one line."""
    return " ".join((type(task).__doc__ or "").split("\n\n")[0].split())
