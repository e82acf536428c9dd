"""Any task: a row for every state of the planner and every action, the past to the left of now, the plan to the right.

x    time from now, one second for every `_SECOND` m
z    the rows, each scaled to what it has ranged over so far
"""

from typing import Any, final

import numpy as np

from planahead.tasks import Environment, Task
from planahead.viewer.scene import BLUE, GREEN, ORANGE, STONE, Camera, Scene
from planahead.viewer.session import PAST, Frame, Poke
from planahead.viewer.shapes import Ball, Line, Shape, Text

_SECOND = 0.75  # m
_ROW, _GAP = 0.5, 0.14  # m
_ROWS = 12
_AHEAD = 2.0  # s, of the panel to the right of now


@final
class GenericScene(Scene[Environment[Any]]):
    """Traces of a task that has no scene of its own; of its first `_ROWS` states and actions."""

    def __init__(self, task: Task):
        actions, states = task.environment.action_names, task.state_names[: _ROWS - len(task.environment.action_names)]
        self.names = (*states, *actions)
        self.states = len(states)
        self.sizes = task.problem.state_size, task.environment.action_size
        self.low, self.high = np.full(len(self.names), np.inf), np.full(len(self.names), -np.inf)
        height = len(self.names) * (_ROW + _GAP)
        middle = 0.5 * _SECOND * (_AHEAD - PAST)
        away = max(1.2 * height, 4.9)
        self.camera = Camera((middle, -away, -0.5 * height), (middle, 0.0, -0.5 * height))
        self.caption = (-PAST * _SECOND, 0.0, 0.35)
        full = (
            tuple(float(v) for v in task.environment.action_high),
            tuple(float(v) for v in task.environment.action_low),
        )
        self.pokes = (Poke("full action", action=full[0]), Poke("opposite", action=full[1]))

    def surroundings(self, world: Environment[Any]) -> tuple[Shape, ...]:
        shapes: list[Shape] = []
        for row, name in enumerate(self.names):
            base = -row * (_ROW + _GAP)
            left, right, low = -PAST * _SECOND, _AHEAD * _SECOND, base - _ROW
            around = [(left, base), (right, base), (right, low), (left, low), (left, base)]
            shapes += [
                Line(f"row/{row}/panel", [(x, 0.02, z) for x, z in around], STONE, 1.5),
                Text(f"row/{row}/name", name, (-PAST * _SECOND, 0.0, base + 0.05)),
            ]
        bottom = -len(self.names) * (_ROW + _GAP)
        return (*shapes, Line("now", [[0.0, 0.0, 0.1], [0.0, 0.0, bottom]], STONE, 2.0))

    def plant(self, world: Environment[Any], frame: Frame) -> tuple[Shape, ...]:
        shapes: list[Shape] = []
        past = np.array([[*m.planner_state, *m.action] for m in (*frame.past, frame)])
        rows = [*range(self.states), *range(len(past[0]) - len(frame.action), len(past[0]))]
        times = np.arange(1 - len(past), 1) * world.time_step * _SECOND
        self.low, self.high = (
            np.fmin(self.low, np.nanmin(past[:, rows], axis=0)),
            np.fmax(self.high, np.nanmax(past[:, rows], axis=0)),
        )
        for row, entry in enumerate(rows):
            heights = self._heights(row, past[:, entry])
            colour = BLUE if row < self.states else GREEN
            line = np.column_stack([times, np.zeros(len(times)), heights])
            shapes += [
                Line(f"row/{row}/past", line[times >= -PAST * _SECOND - 1e-6], colour, 3.0),
                Ball(f"row/{row}/now", 0.03, (0.0, 0.0, float(heights[-1])), colour),
            ]
        return tuple(shapes)

    def ahead(self, world: Environment[Any], frame: Frame, plan: np.ndarray) -> tuple[Shape, ...]:
        later = np.arange(len(plan)) * world.time_step
        seen = later <= _AHEAD
        shapes: list[Shape] = []
        if plan.shape[1] == self.sizes[0]:
            shapes += [self._planned(row, later[seen], plan[seen, row]) for row in range(self.states)]
        controls = frame.plan_controls
        if controls is not None and controls.shape[1] == self.sizes[1]:
            seen = seen[:-1]
            shapes += [
                self._planned(self.states + entry, later[:-1][seen], controls[seen, entry])
                for entry in range(len(self.names) - self.states)
            ]
        return tuple(shapes)

    def _planned(self, row: int, later: np.ndarray, values: np.ndarray) -> Shape:
        line = np.column_stack([later * _SECOND, np.full(len(later), -0.005), self._heights(row, values)])
        return Line(f"row/{row}/plan", line, ORANGE, 3.0)

    def _heights(self, row: int, values: np.ndarray) -> np.ndarray:
        """Where on its panel a row's values lie, m; what is beyond what was seen so far is cut off."""
        middle, half = (self.low[row] + self.high[row]) / 2, (self.high[row] - self.low[row]) / 2
        half = 1.25 * max(half, 0.05 * abs(middle), 1e-3)
        share = np.clip((np.nan_to_num(values) - middle) / half, -1.0, 1.0)
        return -row * (_ROW + _GAP) + 0.5 * _ROW * (0.9 * share - 1.0)
