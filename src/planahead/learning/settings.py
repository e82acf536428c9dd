"""What can be set of an algorithm, read from the fields of its learner and of `PolicySettings`, and what fits.

Settings come from a command line or from a run's `config.json`, so each is checked for its name and its type before
anything is made of it.
"""

import dataclasses
import functools
import math
import typing
from collections.abc import Mapping
from typing import Any

from planahead.learning.policy_settings import PolicySettings
from planahead.learning.presets import PLANNING, PRESETS
from planahead.words import did_you_mean

_OF_PLANS = ("prior_weight", "value_expansion")
"""Of learners whose other settings need no planner."""


@dataclasses.dataclass(frozen=True)
class Allowed:
    """What a setting may be."""

    kind: type
    default: Any
    optional: bool = False
    least: float = -math.inf
    positive: bool = False
    planner: bool = False
    """Whether it means nothing without a planner."""
    network: bool = False
    """Whether it means nothing without a network."""
    filter: bool = False
    """Whether it is about a safety filter that acts while the algorithm learns."""
    words_known: tuple[str, ...] = ()

    @classmethod
    def of(cls, field: "dataclasses.Field[Any]", hint: Any, **about: Any) -> "Allowed":
        """From a field and its type; `about` is what the type does not say."""
        literal = typing.get_origin(hint) is typing.Literal
        kinds = [kind for kind in (*typing.get_args(hint), hint) if isinstance(kind, type)]
        return cls(
            kind=str if literal else kinds[0],
            default=field.default,
            optional=type(None) in kinds,
            words_known=typing.get_args(hint) if literal else (),
            **about,
        )

    def accepts(self, value: Any) -> bool:
        if value is None:
            return self.optional
        if self.words_known:
            return value in self.words_known
        if type(value) is not self.kind and not (self.kind is float and type(value) is int):
            return False
        return self.kind in (bool, str) or (
            math.isfinite(value) and value >= self.least and (value > 0 or not self.positive)
        )

    def words(self) -> str:
        if self.words_known:
            return " or ".join(f"'{word}'" for word in self.words_known)
        words = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a word"}[self.kind]
        if self.positive:
            words += " above 0"
        return words if self.least == -math.inf else f"{words}, at least {self.least:g}"


@functools.cache
def _all_settings(learner: type) -> Mapping[str, Allowed]:
    """Those of the learner and of every policy."""
    hints = typing.get_type_hints(learner)
    found = {
        field.name: Allowed.of(field, hints[field.name], planner=field.name in _OF_PLANS)
        for field in dataclasses.fields(learner)
        if field.name != "critic" and field.init
    }
    hints = typing.get_type_hints(PolicySettings)
    return found | {
        field.name: Allowed.of(field, hints[field.name], **field.metadata)
        for field in dataclasses.fields(PolicySettings)
    }


def settings_of(name: str) -> dict[str, Allowed]:
    """The settings that an algorithm knows, with its own defaults.

    >>> settings_of("sac-zop")["planner_tau"].words(), "planner_tau" in settings_of("sac")
    ('a finite number above 0', False)
    >>> settings_of("q-loss")["loss"].default, settings_of("ac-mpc")["planner_iterations"].default
    ('q', 1)
    """
    preset = PRESETS[name]
    own = {"planner_iterations": preset.planner_iterations, **preset.switches}
    return {
        setting: dataclasses.replace(about, default=own.get(setting, about.default))
        for setting, about in _all_settings(preset.learner).items()
        if (preset.plans or not about.planner)
        and (preset.networks or not about.network)
        and (preset.guarded or not about.filter)
    }


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Whether `make_algorithm(name, ..., **settings)` knows the settings, and each is of its type.

    **Raises:** `ValueError` that says what came, what was expected and what to do.

    >>> check_settings("sac-zop", {"warm_start": "no"})
    Traceback (most recent call last):
    ValueError: warm_start='no': true or false was expected, e.g. warm_start=False
    """
    preset, known = PRESETS[name], settings_of(name)
    every = _all_settings(preset.learner)
    for setting, value in settings.items():
        about = every.get(setting)
        if about is None:
            raise ValueError(
                f"algorithm '{name}' has no setting '{setting}'{did_you_mean(setting, known)}; the known ones are: "
                f"{', '.join(sorted(known))}"
            )
        if about.filter and not preset.guarded:
            raise ValueError(
                f"algorithm '{name}' acts without a safety filter while it learns, so it has no setting '{setting}'; "
                "leave it out, and put a FilteredPolicy around what it has learned"
            )
        if about.network and not preset.networks:
            raise ValueError(f"algorithm '{name}' has no network, so no setting '{setting}'; leave it out")
        if about.planner and not preset.plans:
            instead = f", or use {PLANNING[name]}" if name in PLANNING else ""
            raise ValueError(
                f"algorithm '{name}' has no planner in its policy, so no setting '{setting}'; leave it out{instead}"
            )
        if not about.accepts(value):
            example = {int: 1, float: 1e-3}[about.kind] if about.default is None else about.default
            raise ValueError(f"{setting}={value!r}: {about.words()} was expected, e.g. {setting}={example}")
