"""Pages to explore: one run with its plans under a slider, or many runs beside each other. One HTML file each, which
holds all it shows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from planahead.experiments import interactive_figures
from planahead.experiments.errors import UserError
from planahead.experiments.evaluated_run import HEADINGS, EvaluatedRun
from planahead.experiments.files import read_json
from planahead.experiments.html_page import page, paragraph, table
from planahead.experiments.progress import clock, percent
from planahead.experiments.run_directory import RunDirectory

COLUMNS = (
    "run",
    "algorithm",
    "task",
    "seed",
    "steps",
    "episodes",
    "success",
    "return",
    "violations",
    "failed solves",
    "training",
)


def run_page(evaluated: EvaluatedRun) -> str:
    """One run: its learning curve, and a closed loop in which every plan can be looked at."""
    interactive_figures.require_plotly()
    run, settings = evaluated.run, evaluated.settings
    title = f"{settings.algorithm} on {settings.task}"
    curves = interactive_figures.learning({title: (run.read("validations"), run.read("timing"))})
    loop = interactive_figures.closed_loop(evaluated.task, evaluated.trajectory)
    planned = evaluated.trajectory.planned_states is not None
    return page(
        title,
        [
            table(HEADINGS, [row.cells() for row in evaluated.rows]),
            "<h2>Learning</h2>",
            interactive_figures.html_of(curves, script=True),
            "<h2>Closed loop</h2>",
            paragraph(
                f"An episode of the {evaluated.trajectory_policy} policy from the task's own start. "
                + ("Move the slider: what the planner saw ahead of it." if planned else "There is no planner.")
            ),
            interactive_figures.html_of(loop, script=False),
        ],
    )


def comparison_page(runs: Sequence[RunDirectory]) -> str:
    """Many runs: a table that sorts, their learning curves over steps or hours, and in what their settings differ.

    Evaluations are those that lie in the runs.

    **Raises:** `UserError` for a run that has not been evaluated or validated.
    """
    interactive_figures.require_plotly()
    names = _names(runs)
    curves = {name: (run.read("validations"), run.read("timing")) for name, run in names.items()}
    for name, (validations, _) in curves.items():
        if not validations:
            raise UserError(f"«{names[name].path}» has no validation yet; train it first.")
    return page(
        f"{len(runs)} runs",
        [
            paragraph("Evaluations of the policy that validated best. A click on a heading sorts."),
            table(COLUMNS, [_row(name, run) for name, run in names.items()], sortable=True),
            "<h2>Learning</h2>",
            paragraph("A click on a name takes its line away, a double click all others."),
            interactive_figures.html_of(interactive_figures.learning(curves), script=True),
            "<h2>In what they differ</h2>",
            _differences(names),
        ],
    )


def _names(runs: Sequence[RunDirectory]) -> dict[str, RunDirectory]:
    """By the shortest ends of their paths that tell them apart."""
    paths = [run.path.resolve() for run in runs]
    if len(set(paths)) < len(paths):
        raise UserError("a run is named twice; name every run once.")
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        ends = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(ends)) == len(ends):
            return dict(zip(ends, runs, strict=True))
    raise AssertionError("different paths have different ends")


def _row(name: str, run: RunDirectory) -> list[str]:
    settings = run.settings()
    if not run.evaluation_path.exists():
        raise UserError(f"«{run.path}» has not been evaluated. Do so first: planahead evaluate {run.path}")
    found = read_json(run.evaluation_path, "the evaluation")
    timing = run.read("timing")
    return [
        name,
        " ".join((settings.algorithm, *settings.options)),
        " ".join((settings.task, *settings.task_options)),
        str(settings.seed),
        f"{found['steps']['last'] or found['steps']['best'] or 0:,}",
        str(found["episodes"]),
        percent(found["success_rate"]),
        "–" if found["mean_return"] is None else f"{found['mean_return']:.2f}",  # JSON has no NaN
        percent(found["violations_per_episode"]),
        percent(found["failed_solves"]),
        clock(timing[-1]["seconds"] if timing else 0.0),
    ]


def _differences(names: Mapping[str, RunDirectory]) -> str:
    """Everything in their configurations that is not the same in all."""
    configurations = {name: _flat(run.config()) for name, run in names.items()}
    keys = dict.fromkeys(key for configuration in configurations.values() for key in configuration)
    different = [key for key in keys if len({c.get(key) for c in configurations.values()}) > 1]
    if not different:
        return paragraph("In nothing.")
    rows = [[key, *(c.get(key, "–") for c in configurations.values())] for key in different]
    return table(("setting", *configurations), rows)


def _flat(content: Mapping[str, Any]) -> dict[str, str]:
    return {f"{part}.{name}": _words(value) for part, inside in content.items() for name, value in inside.items()}


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
