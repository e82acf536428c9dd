"""`planahead plan`."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command

if TYPE_CHECKING:
    from rich.console import Console

    from planahead.experiments.trajectory import Trajectory
    from planahead.tasks import Task


@dataclasses.dataclass(frozen=True)
class Plan(Command):
    """Close the loop with a task's planning problem as it comes, nothing learned: a table and a picture of what the
    planner does.
    """

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """`planahead list` names the tasks."""
    problem: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Fields of the planning problem that differ from its defaults, e.g. `horizon=20`."""
    task_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Arguments of the task and constants of its world that differ from their defaults, e.g. `gust=0.5`."""
    episodes: int = 100
    """Episodes per row of the table."""
    seed: int = 0
    """Of the perturbed starts."""
    picture: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to put the picture (.png, .svg or .pdf); plan-TASK.png unless given, or plan-TASK-2.png where that is."""

    name: ClassVar[str] = "plan"
    examples: ClassVar[tuple[str, ...]] = (
        "cartpole",
        "cartpole --problem horizon=30 angle_weight=100 --picture far-sighted.png",
        "mass-spring-damper --json plan.json",
    )

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments import figures
        from planahead.experiments.errors import UserError, at_least
        from planahead.experiments.evaluated_run import evaluate_policy
        from planahead.experiments.experiment import Stream, make_known_task, stream_key
        from planahead.experiments.files import file_name, require_writable, unused
        from planahead.experiments.fixed_planner import FixedPlanner
        from planahead.experiments.settings import read_options
        from planahead.experiments.tables import evaluation_table

        at_least("--episodes", self.episodes, 1)
        picture = self.picture or unused(pathlib.Path(f"plan-{file_name(self.task)}.png"))
        figures.picture_format(picture)  # before the work, not after it
        require_writable(picture, "--picture")
        options: dict[str, Any] = read_options("--task-options", self.task_options)
        task = self.with_problem(make_known_task(self.task, **options))
        policy, key = FixedPlanner(task), stream_key(self.seed, Stream.EVALUATION)
        console.print(f"planning {self.task} in closed loop …", style="dim")
        try:
            rows, trajectory = evaluate_policy(task, policy, "untrained planner", key, self.episodes)
        except ValueError as error:
            if not self.problem:
                raise
            raise UserError(f"--problem {' '.join(self.problem)}: {error}") from error
        console.print(evaluation_table(rows, first="policy"))
        if any(row.evaluation.failed_solves for row in rows):
            for line in _why_it_failed(task, trajectory):
                console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)
        figures.save(figures.closed_loop(task, {f"{self.task}, the planner as it comes": trajectory}), picture)
        console.print(f"picture: {picture}", highlight=False, soft_wrap=True)
        return {
            "task": self.task,
            "task_options": self.task_options,
            "problem": self.problem,
            "picture": picture,
            "rows": [row.summary() for row in rows],
        }

    def with_problem(self, task: "Task") -> "Task":
        """The task with `problem`'s fields put into its planning problem."""
        import equinox as eqx

        from planahead.experiments.errors import UserError, known_names
        from planahead.experiments.settings import read_options
        from planahead.words import did_you_mean

        named = read_options("--problem", self.problem)
        fields = [field.name for field in dataclasses.fields(task.problem)]
        for name in named:
            if name not in fields:
                raise UserError(
                    f"the problem of «{task.name}» has no field «{name}»{did_you_mean(name, fields)}; the known ones "
                    f"are {known_names(fields)}."
                )
        if not named:
            return task
        for name, value in named.items():
            _require_like(name, value, getattr(task.problem, name))
        try:
            problem = dataclasses.replace(task.problem, **named)
        except ValueError as error:
            raise UserError(f"--problem {' '.join(self.problem)}: {error}") from error
        return eqx.tree_at(lambda task: task.problem, task, problem)


def _why_it_failed(task: "Task", trajectory: "Trajectory") -> Iterator[str]:
    """How the first solve of the episode that failed ends from a cold start, and what `planahead.check_problem` finds
    there; at its start where none failed.
    """
    import jax.numpy as jnp

    from planahead.planning import check_problem, solve
    from planahead.qp import Status

    step, failed = int(trajectory.failed.argmax()), bool(trajectory.failed.any())
    state = jnp.asarray(trajectory.planner_states[step])
    plan = solve(task.problem, state)
    ended = Status(int(plan.status))
    found = check_problem(task.problem, state, plan if ended == Status.INFEASIBLE else None).findings
    if failed:
        yield f"the first solve of the episode that failed is that of step {step}; from a cold start it is {ended.name}"
    else:
        at_its_start = "; at its start:" if found else ", and nothing is found at its start."
        yield f"a solve of another episode failed, none of that in the picture{at_its_start}"
    for finding in found or ((plan.explain(),) if failed else ()):
        yield f"- {finding}"


def _require_like(name: str, value: Any, default: Any) -> None:
    """Refuse a value that cannot take the place of `default` in a problem."""
    import numpy as np

    from planahead.experiments.errors import UserError

    flag = f"--problem {name}={value}"
    if name in ("state_size", "control_size"):
        raise UserError(f"{flag}: the equations of the problem fix it at {default}; leave it out.")
    if np.ndim(default) > 0:
        raise UserError(
            f"{flag}: it has the shape {np.shape(default)}, and a single number came; set it in Python instead."
        )
    kind = bool if isinstance(default, bool) else int if isinstance(default, int) else float
    accepted = {bool: (bool,), int: (int,), float: (int, float)}[kind]
    if type(value) not in accepted or not np.isfinite(value):
        words = {bool: "true or false", int: "a whole number", float: "a finite number"}[kind]
        raise UserError(f"{flag}: {words} was expected, e.g. {name}={default}.")
    if name == "horizon" and value < 1:
        raise UserError(f"{flag}: at least 1 was expected, e.g. {name}={default}.")
    if name == "time_step" and value <= 0:
        raise UserError(f"{flag}: a number above 0 was expected, e.g. {name}={default}.")
