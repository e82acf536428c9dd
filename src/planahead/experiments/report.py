"""The report of a run: one HTML file that holds everything it shows, so that it can be mailed, archived and opened
anywhere.
"""

import base64
import html
import importlib.resources
import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from planahead.experiments import figures
from planahead.experiments.evaluated_run import EvaluatedRun, Row
from planahead.experiments.files import write_text
from planahead.experiments.progress import clock, percent

STYLE = importlib.resources.files("planahead.experiments").joinpath("report.css").read_text()
HEADINGS = (
    "policy", "starts", "episodes", "success", "95 % interval", "mean return", "95 % interval",
    "violations / step", "violations / episode", "failed solves",
)  # fmt: skip


def write_report(evaluated: EvaluatedRun) -> None:
    """Write `report.html` into the run's folder."""
    write_text(evaluated.run.report_path, report_html(evaluated))


def report_html(evaluated: EvaluatedRun) -> str:
    run, settings, task = evaluated.run, evaluated.settings, evaluated.task
    validations, metrics, timing = (run.read(table) for table in ("validations", "metrics", "timing"))
    versions, config = run.versions(), run.config()
    headline = evaluated.headline()
    seconds = timing[-1]["seconds"] if timing else 0.0
    reached = first_step_at(validations, 0.95)
    planned = (
        "with what the planner saw ahead" if evaluated.trajectory.planned_states is not None else "without a planner"
    )
    parts = [
        f"<h1>{_text(settings.algorithm)} on {_text(settings.task)}</h1>",
        f"<p class=soft>{_text(_first_sentence(task))} Seed {settings.seed}, {evaluated.last_step:,} environment steps.</p>",
        _cards(
            {
                f"episodes that succeed ({headline.policy} checkpoint, {headline.starts} starts)": _coloured(headline),
                "mean return": f"{headline.evaluation.mean_return:.2f}",
                "environment steps to 95 % validated success": f"{reached:,}" if reached is not None else "not reached",
                "wall time of training": clock(seconds),
                "solves that failed": percent(headline.evaluation.failed_solves),
            }
        ),
        "<h2>Evaluation</h2>",
        f"<p>Deterministic episodes, none of which was seen in training or validation. The policy of the last step, and the one that "
        f"validated best (at {evaluated.best_step:,} steps). Rewards are maximised.</p>",
        _evaluation_table(evaluated.rows),
        "<h2>Learning</h2>",
        _image(
            figures.learning_curve(validations, metrics, evaluated.best_step),
            "Validation: deterministic episodes from perturbed starts, the same at every checkpoint. Dashed: 95 %.",
            "Success rate and mean return over environment steps",
        ),
        "<h2>Closed loop</h2>",
        _image(
            figures.closed_loop(task, {f"{evaluated.trajectory_policy} policy": evaluated.trajectory}),
            f"One episode from the task's own start, {planned} at some of the steps.",
            "States and actions of one episode over time",
        ),
        "<h2>Solver</h2>",
        _image(
            figures.solver_statistics(headline.evaluation, metrics),
            f"Above: all solves of the evaluation ({headline.policy} checkpoint, {headline.starts} starts). Below: averages over chunks of training.",
            "Iterations and status of the solver, failures and sensitivities during training",
        ),
        "<h2>Configuration</h2>",
        "<div class=columns>",
        f"<div><p class=soft>Run</p>{_words(config['settings'])}</div>",
        f"<div><p class=soft>Learner</p>{_words(config['learner'])}</div>",
        "</div>",
        "<h2>Versions</h2>",
        f"<p>Made with <code>{_text(versions['command'])}</code></p>",
        "<div class=columns>",
        _words({"python": versions["python"], **versions["packages"]}),
        _words(versions["machine"]),
        "</div>",
    ]
    return (
        f"<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{_text(settings.algorithm)} on {_text(settings.task)} · planahead</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def first_step_at(validations: Sequence[Mapping[str, float]], success_rate: float) -> int | None:
    """Environment steps at the first validation that reached `success_rate`; `None` where none did."""
    return next((int(row["step"]) for row in validations if row["success_rate"] >= success_rate), None)


def _evaluation_table(rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{_text(heading)}</th>" for heading in HEADINGS)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row.cells())}</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cards(cards: Mapping[str, str]) -> str:
    return (
        "<div class=cards>"
        + "".join(f"<div class=card><b>{value}</b><span>{_text(name)}</span></div>" for name, value in cards.items())
        + "</div>"
    )


def _coloured(row: Row) -> str:
    rate = row.evaluation.success_rate
    return f"<span class={'good' if rate >= 0.95 else 'bad'} style='font-size:inherit;color:var(--{'good' if rate >= 0.95 else 'bad'})'>{percent(rate)}</span>"


def _words(content: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><td>{_text(name)}</td><td>{_text(_value(value))}</td></tr>" for name, value in content.items())
    return f"<table class=words><tbody>{rows}</tbody></table>"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(entry) for entry in value) or "–"
    return "–" if value is None else str(value)


def _image(figure: Figure, caption: str, alternative: str) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    content = base64.b64encode(stream.getvalue()).decode()
    return (
        f"<figure><img alt='{_text(alternative)}' src='data:image/svg+xml;base64,{content}'>"
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _first_sentence(task: Any) -> str:
    return (type(task).__doc__ or "").strip().splitlines()[0]


def _text(content: object) -> str:
    return html.escape(str(content))
