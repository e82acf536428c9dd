"""Learning curves of a task or an ablation: interquartile mean over seeds, and its interval as a band."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from planahead.experiments.bench.definition import BASELINES, Entry
from planahead.experiments.evaluation import GOAL
from planahead.experiments.figures import short_count
from planahead.experiments.run_directory import Rows
from planahead.experiments.statistics import interquartile_estimate
from planahead.experiments.style import BLACK, BLUE, BROWN, GREEN, GREY, ORANGE, PURPLE, RED, SKY, STYLE

COLOURS = {
    "sac": BLUE,
    "sac-zop": ORANGE,
    "sac-fop": GREEN,
    "sac-foa": RED,
    "sac-blended": ORANGE,
    "sac-mpq": GREEN,
    "sac-skip": ORANGE,
    "td3": PURPLE,
    "td3-zop": SKY,
    "td3-fop": BROWN,
    "ac-mlp": BLUE,
    "ac-mpc": ORANGE,
    "ppo-zop": GREEN,
    "dagger": BLUE,
    "bc": ORANGE,
    "bc-sobolev": RED,
    "q-loss": BROWN,
    "q-loss-gn": GREEN,
    "trajectory-loss": SKY,
    "gps": PURPLE,
    "cacto": ORANGE,
    "mpc-q": BLUE,
    "mpc-dpg": ORANGE,
    "mpc-model": GREEN,
    "mpc-model-value": PURPLE,
    "planner": GREY,
    "expert": GREY,
    "planner-tuned": BLACK,
}
"""An algorithm looks the same on every task; its variants are told apart by their lines, and those of one algorithm
alone by their colours. Algorithms that no benchmark compares may share a colour."""
VARIANTS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY, BROWN, BLACK)
STROKES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
PANELS = (
    ("success_rate", 100.0, "Success", "validation episodes that succeed [%]"),
    ("mean_return", 1.0, "Return", "mean return of a validation episode"),
    ("train_violations_per_step", 100.0, "Violations while training, per step", "steps that violate [%]"),
    ("train_violations_per_episode", 100.0, "Violations while training, per episode", "episodes that violate [%]"),
)
LEGEND_CHARACTERS, HANDLE_CHARACTERS = 130, 8  # in a line over the whole figure, and of them a stroke beside its name
LONG, AROUND = 100, 9  # validations: more than a panel has room for, and those that are then a point
RESAMPLES = 2_000  # of a point of a band: an end is known to 2 % of its width

Curves = Mapping[tuple[str, str], Sequence[Rows]]
"""The curves of all seeds by algorithm and interface."""
Settings = tuple[str, ...]
"""As an entry spells them: `("batch_size=64", "entropy=action")`."""


class Line(NamedTuple):
    """The curves of all seeds of one thing, and how it looks."""

    label: str
    seeds: Sequence[Rows]
    colour: str
    stroke: object = "-"


def benchmark_figure(task: str, curves: Curves) -> Figure:
    """The algorithms on a task; settings that several of them share are a sheet of their own."""
    return learning_figure(
        {", ".join((task, *settings)): list(_lines(sheet)) for settings, sheet in _sheets(curves).items()}
    )


def _sheets(curves: Curves) -> Mapping[Settings, Curves]:
    """Curves by the settings that several algorithms share, left out of the names; planners without a learner are on
    each."""
    planners = {(name, i): seeds for (name, i), seeds in curves.items() if name in BASELINES}
    sheets: dict[Settings, dict[tuple[str, str], Sequence[Rows]]] = {(): dict(planners)}
    shared = _shared_settings(curves)
    for (algorithm, interface), seeds in curves.items():
        if (algorithm, interface) not in planners:
            base, *settings = algorithm.split("+")
            sheet = max((some for some in shared if set(some) <= set(settings)), key=len, default=())
            name = "+".join((base, *(setting for setting in settings if setting not in sheet)))
            sheets.setdefault(sheet, dict(planners))[name, interface] = seeds
    return sheets


def _lines(curves: Curves) -> Iterator[Line]:
    """A sheet's lines."""
    for ((algorithm, interface), seeds), (colour, stroke) in zip(curves.items(), _looks(curves), strict=True):
        where = "" if interface == "global" else f", {interface}"
        number = f" ({len(seeds)})" if Entry(algorithm).trained else ""
        yield Line(f"{algorithm}{where}{number}", seeds, colour, stroke)


def ablation_figure(name: str, variants: Mapping[str, Sequence[Rows]]) -> Figure:
    """The variants of an ablation; what is only there to compare with, and is not trained, in grey."""
    colours, strokes = itertools.cycle(VARIANTS), itertools.cycle(STROKES[1:])
    lines = [
        Line(f"{label} ({len(seeds)})", seeds, next(colours))
        if _moves(seeds)
        else Line(label, seeds, GREY, next(strokes))
        for label, seeds in variants.items()
    ]
    return learning_figure({name: lines})


def learning_figure(sheets: Mapping[str, Sequence[Line]]) -> Figure:
    """By title, one below the other."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.5, 7.2 * len(sheets)), layout="constrained")
        parts = figure.subfigures(len(sheets), 1, squeeze=False).ravel()
        for part, (title, lines) in zip(parts, sheets.items(), strict=True):
            _sheet(part, title, lines)
    return figure


def _sheet(figure: SubFigure, title: str, lines: Sequence[Line]) -> None:
    """Success and return in validation above, violations while training below."""
    panels = figure.subplots(2, 2).ravel()
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    curves = [rows for line in lines for rows in line.seeds]
    longest = max(rows[-1]["step"] for rows in curves)
    for axes, (name, scale, heading, label) in zip(panels, PANELS, strict=True):
        for line in lines:
            draw_line(axes, line, name, scale)
        axes.set(title=heading, ylabel=label, xlabel="environment steps", xlim=(0, longest or None))
        axes.xaxis.set_major_formatter(short_count)
        if name == "success_rate":
            axes.set_ylim(-4, 104)
        elif name == "mean_return":
            axes.set_ylim(_settled_limits(curves, name))
        else:
            axes.set_ylim(bottom=-0.03 * max(axes.get_ylim()[1], 1e-3))  # a line at zero is seen whole
            if not any(row[name] > 0 for rows in curves for row in rows):
                axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", va="center", color=GREY)
    panels[0].axhline(100 * GOAL, color=GREY, linewidth=0.9, linestyle=":", zorder=1)
    for line in lines:
        panels[0].plot([], [], color=line.colour, linestyle=line.stroke, label=line.label)
    legend_below(
        figure,
        panels[0],
        "interquartile mean over (seeds) and its 95 % bootstrap interval; grey: nothing trained\n"
        "returns: the best 98 % of those after each curve's first tenth"
        + (f"; means over {AROUND} validations" if max(map(len, curves)) > LONG else ""),
    )


def _settled_limits(curves: Sequence[Rows], name: str) -> tuple[float, float] | None:
    """An axis's limits that hold the best 98 % of what is known of column `name` after the first tenth of each curve: a
    policy that has learned nothing yet, or lost it for once, may be ten times as far off as all that is worth telling
    apart."""
    settled = [row[name] for rows in curves for row in rows[min(math.ceil(0.1 * len(rows)), len(rows) - 1) :]]
    known = [value for value in settled if math.isfinite(value)]
    if not known or min(known) == max(known):
        return None
    low, high = float(np.quantile(known, 0.02, method="lower")), max(known)
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def legend_below(figure: Figure | SubFigure, axes: Axes, title: str | None = None) -> None:
    """What is drawn in `axes`, below all panels, in as many columns as the width has room for."""
    handles, labels = axes.get_legend_handles_labels()
    fitting = max(1, LEGEND_CHARACTERS // (max(map(len, labels)) + HANDLE_CHARACTERS))
    columns = min(len(labels), 5, fitting)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, title=title)


def _shared_settings(curves: Curves) -> set[Settings]:
    """Settings that two algorithms or more are trained with, beside others that are not."""
    bases: dict[Settings, set[str]] = {}
    for algorithm, _ in curves:
        base, *settings = algorithm.split("+")
        if base not in BASELINES:
            bases.setdefault(tuple(settings), set()).add(base)
    return {settings for settings, names in bases.items() if settings and len(names) > 1 and () in bases}


def draw_line(axes: Axes, line: Line, name: str, scale: float) -> None:
    """Interquartile mean of column `name` and its band, at the steps that all seeds have and know; what has a single
    row was not trained, and is a level. Of a long curve means over neighbouring steps, `AROUND` of them."""
    columns = [{row["step"]: row[name] for row in rows} for rows in line.seeds]
    steps = np.array(sorted(set.intersection(*(set(column) for column in columns))))
    values = scale * np.array([[column[step] for step in steps] for column in columns])
    known = np.isfinite(values).all(axis=0)
    if not known.any():
        return
    if not _moves(line.seeds):
        axes.axhline(float(np.mean(values)), color=line.colour, linestyle=line.stroke, linewidth=1.4)
        return
    steps, values = steps[known], values[:, known]
    if len(steps) > LONG:
        window = np.ones(AROUND) / AROUND
        steps = steps[AROUND // 2 : -(AROUND // 2)]
        values = np.array([np.convolve(column, window, "valid") for column in values])
    found = [interquartile_estimate(column, RESAMPLES) for column in values.T]
    look: dict[str, Any] = {"color": line.colour, "linestyle": line.stroke}
    axes.plot(steps, [estimate.value for estimate in found], linewidth=1.9, **look)
    if not math.isnan(found[0].low):
        low, high = [estimate.low for estimate in found], [estimate.high for estimate in found]
        axes.fill_between(steps, low, high, color=line.colour, alpha=0.15, linewidth=0)


def _moves(seeds: Sequence[Rows]) -> bool:
    """Whether there is a curve to draw, and not one row of what was not trained."""
    return min(len(rows) for rows in seeds) > 1


def _looks(curves: Curves) -> Iterator[tuple[str, object]]:
    """Colour and stroke of every line."""
    bases = [algorithm.partition("+")[0] for algorithm, _ in curves]
    trained = [base for base in bases if Entry(base).trained]
    colours = itertools.cycle(VARIANTS)
    seen: dict[str, int] = {}
    for base in bases:
        if not Entry(base).trained:
            yield COLOURS.get(base, GREY), "--"
        elif len(set(trained)) == 1 < len(trained):
            yield next(colours), "-"
        else:
            yield COLOURS.get(base, BLACK), STROKES[seen.get(base, 0) % len(STROKES)]
        seen[base] = seen.get(base, 0) + 1
