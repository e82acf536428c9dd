"""The picture of `bench stable-baselines`: learning curves of two implementations of one idea."""

from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from planahead.experiments.bench.figures import Line, draw_line
from planahead.experiments.benchmarks.stable_baselines import OURS, PLANNER, THEIRS, Row
from planahead.experiments.figures import short_count
from planahead.experiments.style import BLUE, GREY, ORANGE, STYLE

COLOURS = {OURS: ORANGE, THEIRS: BLUE, PLANNER: GREY}
PANELS = (("success", 100.0, "episodes that succeed [%]"), ("mean_return", 1.0, "mean return of an episode"))


def learning_figure(rows: Sequence[Row]) -> Figure:
    """A row of panels per task and length of training: interquartile means over seeds, with their intervals."""
    trained = [row for row in rows if row.learner != PLANNER]
    sheets = list(dict.fromkeys((row.task, row.training_steps, row.episodes) for row in trained))
    with rc_context(STYLE):
        figure = Figure(figsize=(9.5, 3.3 * len(sheets) + 0.4), layout="constrained")
        for line, sheet in zip(figure.subplots(len(sheets), 2, squeeze=False), sheets, strict=True):
            _draw(list(line), rows, *sheet)
        handles = [
            figure.axes[0].plot([], [], "--" if name == PLANNER else "-", color=colour)[0]
            for name, colour in COLOURS.items()
        ]
        told = "interquartile mean over seeds and its 95 % bootstrap interval"
        figure.legend(handles, list(COLOURS), loc="outside lower center", ncols=len(handles), title=told)
    return figure


def _draw(panels: Sequence[Axes], rows: Sequence[Row], task: str, steps: int, episodes: int) -> None:
    here = [row for row in rows if row.task == task and row.episodes == episodes]
    here = [row for row in here if row.learner == PLANNER or row.training_steps == steps]
    for axes, (name, scale, label) in zip(panels, PANELS, strict=True):
        for learner, colour in COLOURS.items():
            trainings = dict.fromkeys(row.training for row in here if row.learner == learner)
            curves = [
                [{"step": float(row.steps), name: getattr(row, name)} for row in here if row.training == training]
                for training in trainings
            ]
            if curves:
                draw_line(axes, Line(learner, curves, colour, "--" if learner == PLANNER else "-"), name, scale)
        axes.set(xlabel="environment steps", ylabel=label, xlim=(0, steps), title=task)
        axes.xaxis.set_major_formatter(short_count)
    panels[0].set_ylim(-4, 104)
