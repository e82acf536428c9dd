"""What a training run is: one frozen, typed dataclass, from which the command line's help and the run's JSON both come.

    TrainSettings  --tyro-->  planahead train --help
    TrainSettings  <--json-->  RUN/config.json

A key that is not a field is an error that lists the fields, so that a typo in a file never turns into a default.
"""

import ast
import dataclasses
import typing
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import tyro

from planahead.experiments.errors import UserError, known_names

Option = bool | int | float | str
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """Everything that decides the numbers of a run."""

    algorithm: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ALGORITHM")]
    """What learns; `planahead list` names the algorithms."""
    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """What is to be controlled; `planahead list` names the tasks."""
    steps: int = 100_000
    """Environment steps, summed over the environments that run side by side; rounded up to whole chunks of the learner.
    """
    seed: int = 0
    """The only source of randomness: networks, starts, exploration, replay, validation."""
    validate_every: int = 4_000
    """Environment steps between validations; at each one the run is saved, and a resumed run goes on from there."""
    validation_episodes: int = 25
    """Deterministic episodes per validation, always from the same starts, so that checkpoints can be compared."""
    start_spread: float | None = None
    """Half width of the uniform perturbation of every state at the start of a validation episode, in the state's unit;
    without it the task's own, and 0.1 where the task always starts from the same state."""
    options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Settings of the learner that differ from its defaults, e.g. `batch_size=256`."""
    task_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Arguments of the task that differ from its defaults, e.g. `interface=stage` or `start_spread=0.2`."""
    training_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Arguments of the task while training alone, e.g. `starts=anywhere` for a maze whose goal exploration would not
    find from its usual start; validation and evaluation are of the task without them."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("validate_every", 1), ("validation_episodes", 1), ("start_spread", 0)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise UserError(f"{name} is {value}; at least {least} was expected.")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}; a whole number from 0 to {2**32 - 1} was expected.")
        self.learner_options()
        self.task_arguments()
        self.training_arguments()

    def learner_options(self) -> dict[str, Option]:
        """`options` by name.

        >>> TrainSettings("sac", "cartpole", options=("batch_size=64", "learning-rate=1e-3")).learner_options()
        {'batch_size': 64, 'learning_rate': 0.001}
        """
        return read_options("--options", self.options)

    def task_arguments(self) -> dict[str, Option]:
        """`task_options` by name.

        >>> TrainSettings("sac", "cartpole", task_options=("interface=stage",)).task_arguments()
        {'interface': 'stage'}
        """
        return read_options("--task-options", self.task_options)

    def training_arguments(self) -> dict[str, Option]:
        """`task_options`, and `training_options` in their place where both name an argument."""
        return self.task_arguments() | read_options("--training-options", self.training_options)


def read_options(flag: str, options: Sequence[str]) -> dict[str, Option]:
    """Options of the form name=value by name; `flag` is what the user typed before them."""
    named: dict[str, Option] = {}
    for option in options:
        name, equals, text = option.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise UserError(f"{flag} got «{option}»; name=value was expected, e.g. {flag} {_EXAMPLES[flag]}.")
        if name in named:
            raise UserError(f"{flag} got «{name}» twice ({named[name]!r} and {text!r}); keep one.")
        named[name] = _read_value(text)
    return named


_EXAMPLES = {
    "--options": "batch_size=256",
    "--task-options": "interface=stage",
    "--training-options": "starts=anywhere",
    "--problem": "horizon=20",
    "--algorithms": "sac-fop+entropy=action",
    "--tasks": "race-split-s+plant=realistic",
}


def _read_value(text: str) -> Option:
    """A number or a truth value where the text is one, and the text itself otherwise."""
    words = {"true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, bool | int | float) else text


def settings_to_json(settings: Any) -> dict[str, Any]:
    """A settings dataclass as JSON's types."""
    return {
        field.name: list(value) if isinstance(value := getattr(settings, field.name), tuple) else value
        for field in dataclasses.fields(settings)
    }


def settings_from_json(kind: type[T], content: dict[str, Any], source: str) -> T:
    """The settings in `content`; `source` says where it came from. Unknown, missing and ill-typed keys are errors."""
    fields = {field.name: field for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    unknown = [name for name in content if name not in fields]
    if unknown:
        raise UserError(
            f"{source} has unknown keys {known_names(unknown)}; the known ones are {known_names(list(fields))}. "
            "Correct the file, or use the version of planahead that wrote it (see versions.json beside it)."
        )
    missing = [name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in content]
    if missing:
        raise UserError(f"{source} lacks {known_names(missing)}; restore the file or start a new run.")
    types = typing.get_type_hints(kind)
    return kind(**{name: _typed(name, value, types[name], source) for name, value in content.items()})


def _typed(name: str, value: Any, expected: Any, source: str) -> Any:
    """`value` as the field's type, where it is of that type."""
    if type(None) in typing.get_args(expected):
        if value is None:
            return None
        (expected,) = (kind for kind in typing.get_args(expected) if kind is not type(None))
    if typing.get_origin(expected) is tuple:
        item = typing.get_args(expected)[0]
        if isinstance(value, list) and all(type(entry) is item for entry in value):
            return tuple(value)
        words = "a list of texts" if item is str else f"a list of {item.__name__}"
    else:
        if type(value) is expected or (expected is float and type(value) is int):
            return expected(value)
        words = _WORDS[expected]
    raise UserError(f"{source}: «{name}» is {value!r}; {words} was expected.")


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
