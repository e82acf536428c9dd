"""The pictures of a run.

Every function returns a `matplotlib.figure.Figure` and touches no global state of matplotlib.
"""

import io
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from matplotlib.transforms import Bbox

from planahead.experiments.errors import UserError
from planahead.experiments.evaluation import GOAL, Evaluation
from planahead.experiments.files import make_folder, write_bytes
from planahead.experiments.flight_figure import draw_flight, widest_view
from planahead.experiments.run_directory import Rows
from planahead.experiments.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, STYLE
from planahead.experiments.trajectory import Trajectory
from planahead.qp import Status
from planahead.tasks import Environment, Task


def learning_curve(validations: Rows, metrics: Rows, best_step: int | None) -> Figure:
    """Success and return over environment steps: validation with its interval, training beside it, the kept checkpoint
    marked.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(9.5, 3.7), layout="constrained")
        success, total = figure.subplots(1, 2)
        steps = _column(validations, "step")
        _training(success, metrics, "success_rate", 100.0)
        success.plot(
            steps,
            100 * _column(validations, "success_rate"),
            "o-",
            color=BLUE,
            markersize=4,
            label="validation",
        )
        success.axhline(100 * GOAL, color=GREY, linewidth=0.9, linestyle="--", zorder=1)
        success.set(title="Success", xlabel="environment steps", ylabel="episodes that succeed [%]", ylim=(-4, 104))
        _training(total, metrics, "return", 1.0)
        low, high = _column(validations, "return_low"), _column(validations, "return_high")
        total.fill_between(steps, low, high, color=BLUE, alpha=0.18, linewidth=0, label="95 % interval of the mean")
        total.plot(
            steps,
            _column(validations, "mean_return"),
            "o-",
            color=BLUE,
            markersize=4,
            label="validation",
        )
        total.set(title="Return", xlabel="environment steps", ylabel="mean return of an episode")
        for axes, name, scale in ((success, "success_rate", 100.0), (total, "mean_return", 1.0)):
            kept = [row for row in validations if row["step"] == best_step]
            if kept:
                axes.plot(
                    best_step, scale * kept[0][name], "*", color=ORANGE, markersize=14, label="best, kept", zorder=5
                )
            axes.xaxis.set_major_formatter(short_count)
            axes.set_xlim(left=0)
        handles = {
            label: handle
            for axes in (success, total)
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    return figure


def closed_loop(task: Task, columns: Mapping[str, Trajectory], horizons: int = 20) -> Figure:
    """What happened, and what the planner saw ahead of it: a column per trajectory, a row per state and action.

    At `horizons` evenly spread steps the plan is drawn, thin and orange, from the state in which it was made.
    """
    names, actions = task.state_names, task.environment.action_names
    rows = len(names) + len(actions)
    with rc_context(STYLE):
        width = 9.5 if len(columns) > 1 else 8.0
        flies = any(trajectory.flight is not None for trajectory in columns.values())
        drawn = flies or has_picture(task.environment)
        ratios = [5.0 if flies else 1.6 if drawn else 0.01] + [1.0] * rows
        figure = Figure(figsize=(width, 1.35 * sum(ratios) + 0.6), layout="constrained")
        grid = figure.subplots(len(ratios), len(columns), squeeze=False, height_ratios=ratios)
        for column, (title, trajectory) in enumerate(columns.items()):
            axes = list(grid[:, column])
            plant = axes.pop(0)
            plant.set_title(title)
            if drawn:
                _plant(task, plant, trajectory)
            else:
                plant.set_axis_off()
            for index in range(len(names)):
                if "[rad]" in names[index]:
                    _ticks_of_half_turns(axes[index])
                _state_panel(axes[index], trajectory, index, "[rad]" in names[index], horizons)
            for index in range(len(actions)):
                _action_panel(task, axes[len(names) + index], trajectory, index, horizons)
            axes[-1].set_xlabel("time [s]")
            for panel in axes:
                panel.set_xlim(0, max(t.times[-1] for t in columns.values()))
                if panel is not axes[-1]:
                    panel.tick_params(labelbottom=False)
        for row, label in enumerate((*names, *actions), start=1):
            grid[row, 0].set_title(label, fontsize=9.5, fontweight="normal", color="#374151")
            low = min(axes.get_ylim()[0] for axes in grid[row])
            high = max(axes.get_ylim()[1] for axes in grid[row])
            for axes in grid[row]:
                axes.set_ylim(low, high)
        handles, labels = grid[1, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
    return figure


def has_picture(world: Environment) -> bool:
    """Whether the world draws itself. Bars of the observation, for one that does not, say nothing of many moments."""
    return type(world).draw is not Environment.draw


def solver_statistics(evaluation: Evaluation, metrics: Rows) -> Figure:
    """How the solver fared: its iterations and verdicts in the evaluation, its failures and slopes while training."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.5, 5.6), layout="constrained")
        (iterations, verdicts), (failures, sensitivity) = figure.subplots(2, 2)
        _iterations(iterations, evaluation)
        _verdicts(verdicts, evaluation)
        shares = {
            "failed_solves": ("failed solves", RED),
            "violations_per_step": ("violations", PURPLE),
            "vanishing_gradients": ("vanishing ∂u₀/∂φ", ORANGE),
        }
        _curves(failures, metrics, shares, 100.0)
        failures.set(title="While training", xlabel="environment steps", ylabel="share [%]")
        _curves(sensitivity, metrics, {"smallest_singular_value": (None, BLUE)}, 1.0)
        sensitivity.set(
            title="Smallest singular value of ∂u₀/∂φ", xlabel="environment steps", ylabel="in units of both boxes"
        )
    return figure


def save(figure: Figure, path: pathlib.Path) -> None:
    """Write a figure; the file's ending says in which format."""
    make_folder(path.parent)
    write_bytes(path, rendered(figure, picture_format(path)))


def picture_format(path: pathlib.Path) -> str:
    """The format that the ending of `path` names."""
    ending = path.suffix.lstrip(".").lower()
    if ending not in Figure().canvas.get_supported_filetypes():
        raise UserError(f"cannot draw «{path}»: its ending names no known format; use .png, .svg or .pdf.")
    return ending


def rendered(figure: Figure, file_format: str) -> bytes:
    """The figure as a file of some format; the same figure gives the same bytes as SVG."""
    stream = io.BytesIO()
    with rc_context(STYLE):
        _settle(figure)
        figure.savefig(stream, format=file_format, dpi=160, metadata={"Date": None} if file_format == "svg" else None)
    return stream.getvalue()


def _settle(figure: Figure) -> None:
    """Lay the axes out once, to a millionth of the figure, so that the last digits of the layout's solver name nothing
    in the picture: two renderings of one figure have differed there."""
    if figure.get_layout_engine() is None:
        return
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position(Bbox(axes.get_position(original=True).get_points().round(6)), which="original")


def _training(axes: Axes, metrics: Rows, name: str, scale: float) -> None:
    if metrics and name in metrics[0]:
        values = scale * _column(metrics, name)
        axes.plot(
            _column(metrics, "step"),
            values,
            "." if len(values) < 3 else "-",
            color=GREY,
            linewidth=1.1,
            alpha=0.8,
            label="training, with exploration",
        )


def _curves(axes: Axes, metrics: Rows, names: Mapping[str, tuple[str | None, str]], scale: float) -> None:
    present = {name: look for name, look in names.items() if metrics and name in metrics[0]}
    for name, (label, colour) in present.items():
        axes.plot(_column(metrics, "step"), scale * _column(metrics, name), color=colour, label=label)
    if present:
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="best")
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(short_count)
    else:
        _nothing(axes, "not measured by this algorithm")


def _iterations(axes: Axes, evaluation: Evaluation) -> None:
    axes.set(title="Iterations per solve", xlabel="iterations", ylabel="solves [%]")
    if evaluation.iterations is None:
        _nothing(axes, "no planner in this policy")
        return
    counts = evaluation.iterations
    values, number = np.unique(counts, return_counts=True)
    axes.bar(values, 100 * number / number.sum(), color=BLUE, width=0.8)
    axes.axvline(counts.mean(), color=ORANGE, linewidth=1.5, label=f"mean {counts.mean():.1f}")
    axes.set_xlim(0, np.quantile(counts, 0.995) + 2)  # solves at the iteration limit would stretch the axis
    axes.grid(visible=False, axis="x")
    axes.legend()


def _verdicts(axes: Axes, evaluation: Evaluation) -> None:
    axes.set(title="How solves ended", xlabel="solves [%]")
    if evaluation.status is None:
        _nothing(axes, "no planner in this policy")
        return
    status = evaluation.status
    names = [member.name.lower().replace("_", " ") for member in Status]
    shares = [100 * float((status == int(member)).mean()) for member in Status]
    # A planner of few iterations is used where it stops; whether that failed is in `failed_solves`.
    fine = {Status.SOLVED: GREEN} | ({Status.ITERATION_LIMIT: SKY} if _limit_is_fine(evaluation) else {})
    colours = [fine.get(member, RED) for member in Status]
    axes.barh(names, shares, color=colours, height=0.6)
    for row, share in enumerate(shares):
        text = "none" if share == 0 else f"{share:.2f} %" if share < 99.995 or share == 100 else "> 99.99 %"
        axes.text(min(share, 78) + 1.5, row, text, va="center", color="white" if share > 78 else "#374151")
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.grid(visible=False, axis="y")


def _limit_is_fine(evaluation: Evaluation) -> bool:
    """Whether plans at the iteration limit were used rather than failed."""
    limited = float(np.mean(evaluation.status == int(Status.ITERATION_LIMIT)))
    return evaluation.failed_solves < 0.5 * limited


def _plant(task: Task, axes: Axes, trajectory: Trajectory) -> None:
    """The way of what flies, and any other plant at some moments, from faint at the start to full at the end."""
    if trajectory.flight is not None:
        draw_flight(axes, task.environment, trajectory.flight, widest_view(task.environment, [trajectory.flight]))
        return
    moments = np.unique(np.linspace(0, trajectory.steps, 12).round().astype(int))
    for order, step in enumerate(moments):
        task.environment.draw(axes, trajectory.state(int(step)), alpha=0.08 + 0.92 * (order / (len(moments) - 1)) ** 2)
    axes.grid(visible=False)


def _state_panel(axes: Axes, trajectory: Trajectory, index: int, angle: bool, horizons: int) -> None:
    if trajectory.planned_states is not None:
        for number, step in enumerate(_spread(trajectory.steps, horizons)):
            plan = trajectory.planned_states[step, :, index]
            times = trajectory.time_step * (step + np.arange(len(plan)))
            axes.plot(times, plan, color=ORANGE, linewidth=1.3, zorder=3, label="planned" if number == 0 else None)
            axes.plot(times[0], plan[0], "o", color=ORANGE, markersize=3, zorder=4)
    values = trajectory.planner_states[:, index]
    values = _without_turns(values) if angle else values
    axes.plot(trajectory.times, values, color=BLUE, linewidth=2.2, zorder=2, label="happened")
    if trajectory.terminated:
        axes.plot(trajectory.times[-1], values[-1], "X", color=RED, markersize=8, zorder=5, label="terminated")


def _action_panel(task: Task, axes: Axes, trajectory: Trajectory, index: int, horizons: int) -> None:
    actions = len(task.environment.action_names)
    if trajectory.planned_actions is not None and trajectory.planned_actions.shape[2] == actions:
        for step in _spread(trajectory.steps, horizons):
            plan = trajectory.planned_actions[step, :, index]
            times = trajectory.time_step * (step + np.arange(len(plan) + 1))
            axes.step(times, np.append(plan, plan[-1]), where="post", color=ORANGE, linewidth=1.1, zorder=3)
    actions = trajectory.actions[:, index]
    axes.step(trajectory.times, np.append(actions, actions[-1]), where="post", color=BLUE, linewidth=1.0, zorder=2)
    failed = np.flatnonzero(trajectory.failed)
    if failed.size:
        axes.plot(
            trajectory.times[failed], actions[failed], "x", color=RED, markersize=6, zorder=5, label="solve failed"
        )


def _ticks_of_half_turns(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MultipleLocator(np.pi))
    axes.yaxis.set_major_formatter(lambda value, _: {-1: "−π", 0: "0", 1: "π"}.get(n := round(value / np.pi), f"{n}π"))


def _spread(steps: int, count: int) -> np.ndarray:
    return np.unique(np.linspace(0, steps - 1, min(count, steps)).round().astype(int))


def _without_turns(values: np.ndarray) -> np.ndarray:
    """The same with a gap where an angle drops a whole turn, so that no line is drawn across."""
    values = np.array(values, dtype=float)
    jumps = np.flatnonzero(np.abs(np.diff(values)) > 0.9 * 2 * np.pi) + 1
    values[jumps] = np.nan
    return values


def _column(rows: Rows, name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], dtype=float)


def _nothing(axes: Axes, why: str) -> None:
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set(xticks=[], yticks=[], xlabel="", ylabel="")


def short_count(value: float, position: Any) -> str:
    """As an axis says it: 500k, 2.5M.

    >>> short_count(0.0, 0), short_count(2500.0, 0), short_count(2.5e6, 0)
    ('0', '2.5k', '2.5M')
    """
    del position
    return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1000:g}k" if value else "0"
