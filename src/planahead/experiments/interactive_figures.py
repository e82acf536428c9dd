"""Pictures that answer to the mouse: zoom, values under the pointer, lines that go and come, and time under a slider.

Drawn by plotly, whose script a page holds once, so that it needs no network.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from planahead.experiments.errors import UserError
from planahead.experiments.evaluation import GOAL
from planahead.experiments.run_directory import Rows
from planahead.experiments.style import BLACK, BLUE, BROWN, GREEN, GREY, ORANGE, PURPLE, RED, SKY
from planahead.experiments.trajectory import Trajectory
from planahead.tasks import Task

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY, BROWN, BLACK)
MOMENTS = 120  # of a closed loop under the slider, at most: a plan each
DIGITS = 4  # of a number in a page
_FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#374151"}


def require_plotly() -> None:
    """**Raises** `UserError` where it is not installed."""
    try:
        import plotly  # noqa: F401  asked for, not used
    except ModuleNotFoundError as error:
        raise UserError(
            "interactive pages are drawn by plotly, which is not installed; install it: pip install "
            "'planahead[report]' (in a clone: pip install '.[report]')"
        ) from error


def learning(runs: Mapping[str, tuple[Rows, Rows]]) -> "Figure":
    """Success and return of validations, over environment steps or over hours; `runs` have validations and timing by
    name."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=2, subplot_titles=("Success [%]", "Return"), horizontal_spacing=0.09)
    over_steps: list[list[float]] = []
    over_time: list[list[float]] = []
    for number, (name, (validations, timing)) in enumerate(runs.items()):
        steps = _column(validations, "step")
        hours = np.interp(steps, _column(timing, "step"), _column(timing, "seconds") / 3600) if timing else 0 * steps
        colour = COLOURS[number % len(COLOURS)]
        for column, (entry, scale) in enumerate((("success_rate", 100.0), ("mean_return", 1.0)), start=1):
            figure.add_scatter(
                x=_short(steps),
                y=_short(scale * _column(validations, entry)),
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                mode="lines+markers",
                line={"color": colour, "dash": "solid" if number < len(COLOURS) else "dash"},
                row=1,
                col=column,
            )
            over_steps.append(_short(steps))
            over_time.append(_short(hours))
    goal = {"color": GREY, "dash": "dash", "width": 1}
    figure.add_hline(y=100 * GOAL, line=goal, row=1, col=1)  # pyright: ignore[reportArgumentType]  # declared as words
    axes = {"environment steps": over_steps, "hours of training": over_time}
    buttons = [
        {
            "label": label,
            "method": "update",
            "args": [{"x": xs}, {"xaxis.title.text": label, "xaxis2.title.text": label}],
        }
        for label, xs in axes.items()
    ]
    figure.update_layout(
        updatemenus=[
            {"type": "buttons", "direction": "right", "buttons": buttons, "x": 0, "y": 1.22, "xanchor": "left"}
        ]
    )
    figure.update_xaxes(title_text="environment steps", rangemode="tozero")
    _styled(figure, 470)
    below = {"y": 0.0, "yanchor": "bottom"}  # the buttons and plotly's own are above
    return figure.update_layout(legend=below, margin={"b": 110})


def closed_loop(task: Task, trajectory: Trajectory) -> "Figure":
    """States and actions of an episode; a slider moves through time and shows what was planned at that moment."""
    from plotly.subplots import make_subplots

    names = [*task.state_names, *task.environment.action_names]
    figure = make_subplots(rows=len(names), cols=1, shared_xaxes=True, subplot_titles=names, vertical_spacing=0.05)
    happened = [*trajectory.planner_states.T, *trajectory.actions.T]
    for row, values in enumerate(happened, start=1):
        acts = row > len(task.state_names)
        figure.add_scatter(
            x=_short(trajectory.times[: len(values)]),
            y=_short(values),
            name="happened",
            legendgroup="happened",
            showlegend=row == 1,
            mode="lines",
            line={"color": BLUE, "shape": "hv" if acts else "linear"},
            row=row,
            col=1,
        )
    moments = np.unique(np.linspace(0, trajectory.steps - 1, MOMENTS).round().astype(int))
    plans = {int(moment): _planned(task, trajectory, int(moment)) for moment in moments}
    if trajectory.planned_states is not None:
        _with_slider(figure, trajectory, plans, len(task.state_names))
    figure.update_xaxes(title_text="time [s]", row=len(names), col=1)
    return _styled(figure, 130 + 150 * len(names))


def html_of(figure: "Figure", *, script: bool) -> str:
    """A part of a page; with `script` the whole of plotly comes before it, once in a page."""
    config = {"displaylogo": False, "responsive": True}
    return figure.to_html(full_html=False, include_plotlyjs=script, auto_play=False, config=config)


def _with_slider(
    figure: "Figure", trajectory: Trajectory, plans: Mapping[int, Sequence[dict[str, Any]]], states: int
) -> None:
    """One trace a panel for the plan, behind those of what happened; a frame moves them all."""
    from plotly.graph_objects import Frame, Scatter

    start = next(iter(plans.values()))
    for row, line in enumerate(start, start=1):
        figure.add_scatter(
            **line,
            name="planned",
            legendgroup="planned",
            showlegend=row == 1,
            mode="lines+markers",
            marker={"size": 4},
            line={"color": ORANGE, "shape": "linear" if row <= states else "hv"},
            row=row,
            col=1,
        )
    moved = list(range(len(start), 2 * len(start)))
    figure.frames = [
        Frame(data=[Scatter(**line) for line in lines], traces=moved, name=str(moment))
        for moment, lines in plans.items()
    ]
    now = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}}
    steps = [
        {"method": "animate", "args": [[str(moment)], now], "label": f"{moment * trajectory.time_step:.2f} s"}
        for moment in plans
    ]
    pace = {"fromcurrent": True, "frame": {"duration": 60, "redraw": False}, "transition": {"duration": 0}}
    play = [
        {"label": "play", "method": "animate", "args": [None, pace]},
        {"label": "pause", "method": "animate", "args": [[None], now]},
    ]
    figure.update_layout(
        sliders=[{"steps": steps, "currentvalue": {"prefix": "planned at "}, "pad": {"t": 45}, "x": 0.14, "len": 0.86}],
        updatemenus=[{"type": "buttons", "buttons": play, "direction": "right", "x": 0, "y": 0, "pad": {"t": 62}}],
    )


def _planned(task: Task, trajectory: Trajectory, moment: int) -> list[dict[str, Any]]:
    """What was planned at a step, a line for each state and action."""
    if trajectory.planned_states is None:
        return []
    states = trajectory.planned_states[moment]
    times = trajectory.time_step * (moment + np.arange(len(states)))
    lines = [{"x": _short(times), "y": _short(values)} for values in states.T]
    actions = trajectory.planned_actions
    for index in range(len(task.environment.action_names)):
        known = actions is not None and actions.shape[2] == len(task.environment.action_names)
        values = actions[moment, :, index] if actions is not None and known else np.zeros(0)
        lines.append({"x": _short(times[: len(values)]), "y": _short(values)})
    return lines


def _styled(figure: "Figure", height: int) -> "Figure":
    figure.update_layout(
        template="plotly_white",
        height=height,
        font=_FONT,
        margin={"l": 60, "r": 20, "t": 70, "b": 60},
        legend={"orientation": "h", "y": 1.0, "yref": "container", "yanchor": "top", "x": 0.5, "xanchor": "center"},
        hovermode="closest",
    )
    return figure


def _column(rows: Rows, name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], float)


def _short(values: np.ndarray) -> list[float]:
    """Numbers with as many digits as a picture shows; what is none leaves a gap.

    >>> _short(np.array([0.123456, 12345.6, np.nan, np.inf]))
    [0.1235, 12346.0, nan, inf]
    """
    values = np.asarray(values, float)
    return [float(f"{value:.{DIGITS}g}") if abs(value) < 1e4 else float(np.round(value)) for value in values]
