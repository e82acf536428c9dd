"""The way of what flies, coloured by its speed, from above and from the side.

A flight is an array [moments, 6], positions [m] and velocities [m/s] in the world, as `Trajectory.flight` has it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from planahead.experiments.style import GREY, STYLE
from planahead.tasks import Environment

View = tuple[int, int]
"""Two coordinates of the world, x, y and z being 0, 1 and 2."""
_NAMES = {(0, 1): "from above", (0, 2): "from the side"}
_COLOURS = "viridis"
_MARGIN = 0.08
"""Around a view, as a share of its longer side."""
_ABREAST = 2


def flight_figure(environment: Environment[Any], flights: Mapping[str, np.ndarray]) -> Figure:
    """Every flight, by its title, in both views, all coloured on one scale."""
    fastest = max(float(speeds(flight).max()) for flight in flights.values())
    columns = min(len(flights), _ABREAST)
    rows = math.ceil(len(flights) / columns)
    spans = {view: _span(environment, list(flights.values()), view) for view in _NAMES}
    heights = [spans[view][1] / spans[view][0] for view in _NAMES]
    with rc_context(STYLE):
        width = 4.9 * columns + 0.9
        figure = Figure(figsize=(width, rows * (4.4 * sum(heights) + 1.4)), layout="constrained")
        grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=heights * rows)
        lines = None
        for place in range(rows * columns):
            row, column = divmod(place, columns)
            for number, (view, name) in enumerate(_NAMES.items()):
                axes = grid[2 * row + number, column]
                if place >= len(flights):
                    axes.set_visible(False)
                    continue
                title, flight = list(flights.items())[place]
                lines = draw_flight(axes, environment, flight, view, fastest)
                axes.set_title(f"{title}, {name}" if number == 0 else name)
        if lines is not None:
            figure.colorbar(lines, ax=grid, label="speed [m/s]", shrink=0.6, aspect=40)
    return figure


def draw_flight(
    axes: Axes, environment: Environment[Any], flight: np.ndarray, view: View, fastest: float | None = None
) -> LineCollection:
    """One flight in one view, from the open circle to the full one, and what is flown through; the colours end at
    `fastest` [m/s]. Without it the flight's own speeds decide, and a colour bar tells them."""
    points, speed = flight[:, list(view)], speeds(flight)
    ends = np.stack([points[:-1], points[1:]], axis=1)
    lines = LineCollection(list(ends), cmap=_COLOURS, linewidths=2.2, zorder=3, capstyle="round")
    lines.set_array(0.5 * (speed[:-1] + speed[1:]))
    lines.set_clim(0.0, float(speed.max()) if fastest is None else fastest)
    environment.draw_course(axes, view)
    axes.add_collection(lines)
    axes.plot(*points[0], marker="o", markersize=6, markerfacecolor="white", markeredgecolor=GREY, zorder=5)
    axes.plot(*points[-1], marker="o", markersize=6, color=GREY, zorder=5)
    axes.autoscale_view()
    low, high = _ends(axes, points)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.set(xlabel=f"{'xyz'[view[0]]} [m]", ylabel=f"{'xyz'[view[1]]} [m]")
    if fastest is None:
        axes.figure.colorbar(lines, ax=axes, label="speed [m/s]", shrink=0.8)
    return lines


def speeds(flight: np.ndarray) -> np.ndarray:
    """m/s, moment by moment."""
    return np.linalg.norm(flight[:, 3:], axis=1)


def widest_view(environment: Environment[Any], flights: Sequence[np.ndarray]) -> View:
    """The view in which more is to be seen."""
    return max(_NAMES, key=lambda view: _span(environment, flights, view)[1])


def _span(environment: Environment[Any], flights: Sequence[np.ndarray], view: View) -> tuple[float, float]:
    """Width and height [m] of a view that holds all flights and the course."""
    axes = Figure().subplots()
    environment.draw_course(axes, view)
    low, high = _ends(axes, np.concatenate([flight[:, list(view)] for flight in flights]))
    return float(high[0] - low[0]), float(high[1] - low[1])


def _ends(axes: Axes, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a view, around the points and what has been drawn."""
    drawn = [line.get_xydata() for line in axes.get_lines()]
    everything = np.concatenate([points, *(np.asarray(data, float) for data in drawn)])
    low, high = everything.min(axis=0), everything.max(axis=0)
    margin = _MARGIN * (high - low).max()
    return low - margin, high + margin
