"""What an algorithm's settings and a task's options mean, in the words of the docstrings that stand beside them.

A setting of a learner and a constant of a world are fields, explained by the comment behind them and the string below;
a task's arguments are explained in bullets under `**Arguments:**`. All are read from the source, so that a sentence
stands once.
"""

import ast
import dataclasses
import inspect
import re
import textwrap
from typing import Any

import equinox as eqx
import numpy as np

from planahead.experiments.errors import UserError, known_names
from planahead.experiments.experiment import algorithm_sentences, first_sentence, make_known_task, task_sentences
from planahead.learning.policy_settings import PolicySettings
from planahead.learning.presets import PRESETS
from planahead.learning.settings import settings_of
from planahead.tasks.environment import constants_of
from planahead.tasks.names import VARIANTS
from planahead.words import did_you_mean


@dataclasses.dataclass(frozen=True)
class Option:
    """One setting, argument or constant."""

    name: str
    default: str
    meaning: str
    """A sentence or more, or nothing."""


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What can be said of a task or an algorithm."""

    text: str
    flag: str
    """What a user types before the options."""
    options: tuple[Option, ...]


def explain(name: str) -> Explanation:
    """What the task or the algorithm called `name` is. `UserError` for another name."""
    tasks, algorithms = task_sentences(), algorithm_sentences()
    if name in algorithms:
        return Explanation(algorithms[name], "--options", tuple(_settings(name)))
    if name in tasks:
        return _task(name, tasks[name])
    if ":" in name:
        return _task(name, first_sentence(make_known_task(name)))
    known = (*tasks, *algorithms)
    raise UserError(f"there is no «{name}»{did_you_mean(name, known)}; the known names are {known_names(known)}.")


def field_meanings(kind: type) -> dict[str, str]:
    """The comments behind the fields of a class and the docstrings below them, those of its bases included.

    >>> from planahead.learning import PPO
    >>> field_meanings(PPO)["epochs"]
    'Passes over a rollout.'
    """
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not base.__module__.startswith("planahead"):
            continue
        source = textwrap.dedent(inspect.getsource(base))
        body = ast.parse(source).body[0]
        assert isinstance(body, ast.ClassDef)
        lines = source.splitlines()
        for field, below in zip(body.body, [*body.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                _, _, comment = lines[(field.end_lineno or field.lineno) - 1].partition("  # ")
                text = ""
                match below:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        pass
                meaning = _one_line(f"{comment}. {text}" if comment and text else comment or text)
                if meaning:  # a field that is declared again may leave the words to its base
                    found[field.target.id] = meaning
    return found


def argument_meanings(documented: Any) -> dict[str, str]:
    """The bullets under `**Arguments:**` of a docstring; a bullet may name several.

    >>> from planahead.tasks import RaceTask
    >>> argument_meanings(RaceTask)["horizon"]
    'of the planner, steps of 20 ms.'
    """
    text = inspect.getdoc(documented) or ""
    _, _, after = text.partition("**Arguments:**")
    bullets = re.split(r"\n- ", after.split("\n\n**")[0].split("\n>>>")[0])[1:]
    found: dict[str, str] = {}
    for bullet in bullets:
        names, _, meaning = bullet.partition(": ")
        found |= dict.fromkeys(re.findall(r"`(\w+)`", names), _one_line(meaning))
    return found


def _settings(name: str) -> list[Option]:
    meanings = field_meanings(PolicySettings) | field_meanings(PRESETS[name].learner)
    return [
        Option(setting, _value(about.default), meanings.get(setting, ""))
        for setting, about in sorted(settings_of(name).items())
    ]


def _task(name: str, sentence: str) -> Explanation:
    task = make_known_task(name)
    world = task.environment
    schema = (inspect.getdoc(type(world)) or "").split("\n>>>")[0].strip()
    meanings = argument_meanings(type(task))
    given = {"name", "environment", "problem", *VARIANTS.get(name, {})}
    arguments = [
        Option(option, _value(parameter.default), meanings.get(option, ""))
        for option, parameter in inspect.signature(type(task)).parameters.items()
        if option not in given and parameter.default is not inspect.Parameter.empty
    ]
    constants = [_constant(world, option) for option in world.constants]
    return Explanation(f"{sentence}\n\n{schema}", "--task-options", (*arguments, *constants))


def _constant(module: Any, name: str) -> Option:
    """A constant of an environment or of a module inside of it."""
    parts = {field.name: getattr(module, field.name) for field in dataclasses.fields(module)}
    if name in parts:
        return Option(name, _value(parts[name]), field_meanings(type(module)).get(name, ""))
    inside = next(part for part in parts.values() if isinstance(part, eqx.Module) and name in constants_of(part))
    return _constant(inside, name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or isinstance(value, str | int | float):
        return "–" if value is None else str(value)
    array = np.asarray(value)
    if array.size > 6:
        return f"{' x '.join(map(str, array.shape))} numbers"
    return ", ".join(f"{entry:.6g}" for entry in array.ravel())


def _one_line(text: str) -> str:
    return " ".join(text.split())
