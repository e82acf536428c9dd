"""The report of a run: one HTML file that holds all it shows, so that it can be mailed, kept and opened anywhere."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from planahead.experiments import figures
from planahead.experiments.evaluated_run import HEADINGS, EvaluatedRun, Row, outcome_cells
from planahead.experiments.evaluation import GOAL
from planahead.experiments.files import write_text
from planahead.experiments.flight_figure import flight_figure
from planahead.experiments.html_page import page, paragraph, soft, table, text
from planahead.experiments.progress import clock, percent
from planahead.experiments.run_directory import Rows


def write_report(evaluated: EvaluatedRun) -> None:
    """Write `report.html` into the run's folder."""
    write_text(evaluated.run.report_path, report_html(evaluated))


def report_html(evaluated: EvaluatedRun) -> str:
    """The whole page."""
    run, settings = evaluated.run, evaluated.settings
    validations, metrics, timing = (run.read(table) for table in ("validations", "metrics", "timing"))
    title = f"{settings.algorithm} on {settings.task}"
    body = [
        soft(f"{_summary(evaluated.task)} Seed {settings.seed}, {_steps(evaluated):,} environment steps."),
        *(f"<p><b>Left out:</b> {text(reason)}</p>" for reason in evaluated.unreadable),
        _headline(evaluated, validations, timing),
        "<h2>Evaluation</h2>",
        paragraph(
            "Deterministic episodes from starts that were used neither in training nor in validation. "
            f"best: the policy that validated best{_at(evaluated.best_step)}; last: that of the last step. "
            "Rewards are maximised."
        ),
        _evaluations(evaluated.rows),
        *_outcomes(evaluated.rows),
        "<h2>Learning</h2>",
        _image(
            figures.learning_curve(validations, metrics, evaluated.best_step),
            f"Validation: deterministic episodes from {evaluated.headline().starts} starts, the same at every "
            f"checkpoint. Dashed: {percent(GOAL)}. {evaluated.warning()}".rstrip(),
        ),
        "<h2>Closed loop</h2>",
        *_flight(evaluated),
        _closed_loop(evaluated),
        "<h2>Solver</h2>",
        _solver(evaluated, metrics),
        "<h2>Configuration</h2>",
        _side_by_side({part.capitalize(): content for part, content in run.config().items()}),
        "<h2>Versions</h2>",
        _versions(run.versions()),
    ]
    return page(title, body)


def _steps(evaluated: EvaluatedRun) -> int:
    """Environment steps behind the newest checkpoint that can be read."""
    return max(step for step in (evaluated.last_step, evaluated.best_step) if step is not None)


def _at(step: int | None) -> str:
    return "" if step is None else f", at {step:,} steps"


def first_step_at(validations: Rows, success_rate: float) -> int | None:
    """Environment steps at the first validation that reached `success_rate`; `None` where none did."""
    return next((int(row["step"]) for row in validations if row["success_rate"] >= success_rate), None)


def _headline(evaluated: EvaluatedRun, validations: Rows, timing: Rows) -> str:
    row = evaluated.headline()
    reached, rate = first_step_at(validations, GOAL), row.evaluation.success_rate
    cards = {
        f"episodes that succeed ({row.policy} policy, {row.starts} starts)": percent(rate),
        "mean return": f"{row.evaluation.mean_return:.2f}",
        f"environment steps to {percent(GOAL)} success in validation": "–" if reached is None else f"{reached:,}",
        "wall time of training": clock(timing[-1]["seconds"] if timing else 0.0),
        "solves that failed": percent(row.evaluation.failed_solves),
    }
    kinds = ["good" if rate >= GOAL else "bad"] + [""] * (len(cards) - 1)
    inside = "".join(
        f"<div class=card><b class='{kind}'>{text(value)}</b><span>{text(name)}</span></div>"
        for kind, (name, value) in zip(kinds, cards.items(), strict=True)
    )
    return f"<div class=cards>{inside}</div>"


def _flight(evaluated: EvaluatedRun) -> list[str]:
    """Where the episode of the closed loop went; nothing of a plant that does not fly."""
    flight = evaluated.trajectory.flight
    if flight is None:
        return []
    figure = flight_figure(evaluated.task.environment, {f"{evaluated.trajectory_policy} policy": flight})
    return [_image(figure, "One episode from the task's own start, until it first counts as solved.")]


def _closed_loop(evaluated: EvaluatedRun) -> str:
    trajectory = evaluated.trajectory
    figure = figures.closed_loop(evaluated.task, {f"{evaluated.trajectory_policy} policy": trajectory})
    planned = (
        "there is no planner" if trajectory.planned_states is None else "thin: what was planned at some of the steps"
    )
    above = ""
    if trajectory.flight is not None:
        above = " Above, its way until the task first counts as solved."
    elif figures.has_picture(evaluated.task.environment):
        above = " Above, the plant at some moments."
    return _image(figure, f"One episode from the task's own start; {planned}.{above}")


def _solver(evaluated: EvaluatedRun, metrics: Rows) -> str:
    row = evaluated.headline()
    caption = (
        f"Above: all solves of the evaluation ({row.policy} policy, {row.starts} starts); a plan at the iteration "
        "limit is used all the same, and failed only where its residual is above what its planner allows. Below: "
        "averages over chunks of training."
    )
    return _image(figures.solver_statistics(row.evaluation, metrics), caption)


def _versions(versions: Mapping[str, Any]) -> str:
    made = f"<p>Made with <code>{text(versions['command'])}</code></p>"
    packages = {"python": versions["python"], **versions["packages"]}
    return made + _side_by_side({"Software": packages, "Machine": versions["machine"]})


def _evaluations(rows: Sequence[Row]) -> str:
    return table(HEADINGS, [row.cells() for row in rows])


def _outcomes(rows: Sequence[Row]) -> list[str]:
    """What the successful episodes came to beside their return; nothing for a task that says nothing."""
    names = list(rows[0].evaluation.outcomes)
    if not names:
        return []
    cells = [[row.policy, row.starts, *outcome_cells(row).values()] for row in rows]
    return [
        paragraph("Episodes that succeeded, mean ± standard deviation:"),
        table(["policy", "starts", *names], cells),
    ]


def _side_by_side(tables: Mapping[str, Mapping[str, Any]]) -> str:
    columns = (f"<div>{soft(title)}{_names_and_values(content)}</div>" for title, content in tables.items())
    return f"<div class=columns>{''.join(columns)}</div>"


def _names_and_values(content: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><td>{text(name)}</td><td>{text(_value(v))}</td></tr>" for name, v in content.items())
    return f"<table class=words><tbody>{rows}</tbody></table>"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(entry) for entry in value) or "–"
    return "–" if value is None else str(value)


def _image(figure: Figure, caption: str) -> str:
    content = base64.b64encode(figures.rendered(figure, "svg")).decode()
    return (
        f"<figure><img alt='{text(caption)}' "
        f"src='data:image/svg+xml;base64,{content}'><figcaption>{text(caption)}</figcaption></figure>"
    )


def _summary(task: object) -> str:
    return (type(task).__doc__ or "").strip().splitlines()[0]
