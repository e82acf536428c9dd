"""Which sliders there are: for the constants of a world, for what a planner wants, and for what it believes.

A scene may say which constants of its world are worth turning and how far (`Span`). Where it does not, every constant
has a slider around its value: a tenth to three times a positive one, zero to twice another, ±1 around zero. In a
planning problem the parameters have the boxes that they were declared with; what shares its name with a constant of the
world, or belongs to a module inside, is what the planner believes of it; the rest is what it wants. A problem that
wraps another one has the sliders of that. Tables have no slider, and neither has a terminal value.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from planahead.policies import Policy
from planahead.problem import PerStage, Problem, TerminalValue
from planahead.problem.fields import WRAPS, ParameterBox, parameter_boxes
from planahead.tasks import Environment
from planahead.viewer.sliders import ENTRIES, Slider, at

FACTOR = (0.1, 10.0)
AXES = "xyz"


class Span(NamedTuple):
    """A constant of a world that is worth turning, from `low` to `high`."""

    path: str
    """`"wind.wind_force"`; where the world has no such constant there is no slider."""
    low: float
    high: float
    decades: bool = False


class Sliders(NamedTuple):
    """All sliders of a session."""

    world: tuple[Slider, ...]
    aims: tuple[Slider, ...]
    """What the planner wants: weights, references, prices."""
    beliefs: tuple[Slider, ...]
    """What it takes the world for."""


def sliders_of(
    world: Environment[Any],
    problem: Problem | None,
    spans: Sequence[Span] | None = None,
    without: Sequence[str] = (),
) -> Sliders:
    """The sliders of a world and a problem, `without` the parameters of those names: what a policy writes itself.

    >>> import planahead as pa
    >>> task = pa.make_task("mass-spring-damper")
    >>> sliders = sliders_of(task.environment, task.problem, [Span("mass", 0.2, 5.0)])
    >>> [slider.label for slider in sliders.world], [slider.label for slider in sliders.beliefs]
    (['mass'], ['mass', 'damping', 'stiffness'])
    """
    if spans is None:
        mine = tuple(slider for path, leaf, positive in _constants(world) for slider in _around(path, leaf, positive))
    else:
        mine = tuple(slider for span in spans for slider in _spanned(world, span))
    if problem is None:
        return Sliders(mine, (), ())
    names, boxes = set(world.constants), parameter_boxes(problem)
    aims, beliefs = [], []
    for name, box in boxes.items():
        if name not in without:
            (beliefs if name in names else aims).extend(_boxed((name,), getattr(problem, name), box))
    for path, leaf, positive in _constants(problem):
        (beliefs if path[-1] in names or len(path) > 1 else aims).extend(_around(path, leaf, positive))
    return Sliders(mine, tuple(aims), tuple(beliefs))


def problem_path(policy: Policy) -> tuple[str, ...] | None:
    """Where the policy's planning problem is: the one nearest to the policy, breadth first; `None` where nothing
    plans."""
    level: list[tuple[tuple[str, ...], Any]] = [((), policy)]
    while level:
        for path, module in level:
            if isinstance(module, Problem):
                return path
        level = [
            ((*path, field.name), getattr(module, field.name))
            for path, module in level
            for field in dataclasses.fields(module)
            if isinstance(getattr(module, field.name), eqx.Module) and field.name != "guard"
        ]
    return None


def written_by(policy: Policy) -> tuple[str, ...]:
    """Parameters that the policy writes itself: a slider of theirs would do nothing."""
    inner = getattr(policy, "inner", policy)
    steering = getattr(inner, "steering", None)
    return () if steering is None else tuple(steering.space.names)


def _constants(module: eqx.Module, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, bool]]:
    """Path, value and sign of what was declared with `constant()`, also in modules inside."""
    for field in dataclasses.fields(module):
        value = getattr(module, field.name)
        if "positive" in field.metadata:
            yield (*path, field.name), value, field.metadata["positive"]
        elif WRAPS in field.metadata:  # whose attributes are the wrapper's too
            yield from _constants(value, path)
        elif isinstance(value, eqx.Module) and not isinstance(value, PerStage | TerminalValue):
            yield from _constants(value, (*path, field.name))


def _label(name: str, entry: int | None = None, size: int = 1) -> str:
    words = name.replace("_", " ")
    return words if entry is None else f"{words} {AXES[entry] if size == 3 else entry + 1}"


def _around(path: tuple[str, ...], leaf: Any, positive: bool) -> Iterator[Slider]:
    """Around the values that a constant has."""
    values = np.asarray(leaf, float)
    if values.ndim > 1 or values.size > ENTRIES:
        return
    for number, value in enumerate(values.ravel().tolist()):
        entry = number if values.ndim else None
        label = _label(path[-1], entry, values.size)
        if positive:
            yield Slider(label, path, value / 10, 3 * value, value, entry)
        else:
            low, high = (-1.0, 1.0) if value == 0 else sorted((0.0, 2 * value))
            yield Slider(label, path, low, high, value, entry)


def _spanned(world: Environment[Any], span: Span) -> Iterator[Slider]:
    path = tuple(span.path.split("."))
    try:
        values = np.asarray(at(world, path), float)
    except AttributeError:
        return
    for number, value in enumerate(values.ravel().tolist()):
        entry = number if values.ndim else None
        low, high = min(span.low, value), max(span.high, value)
        yield Slider(_label(path[-1], entry, values.size), path, low, high, value, entry, span.decades)


def _boxed(path: tuple[str, ...], leaf: Any, box: ParameterBox) -> Iterator[Slider]:
    """Within the box of a parameter; of one per stage, at its first listed stage."""
    values = np.asarray(leaf.listed[0] if isinstance(leaf, PerStage) else leaf, float)
    if values.ndim > 1 or values.size == 0:
        return
    low, high = (np.broadcast_to(end, values.shape).ravel() for end in (box.low, box.high))
    if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        return
    if values.size > ENTRIES:
        if np.any(values != 0):
            label = f"{_label(path[-1])} ×"
            yield Slider(label, path, *FACTOR, 1.0, decades=True, factor=True)
        return
    for number, value in enumerate(values.ravel().tolist()):
        entry = number if values.ndim else None
        ends = float(low[number]), float(high[number])
        yield Slider(_label(path[-1], entry, values.size), path, *ends, value, entry, decades=box.logarithmic)
