"""`planahead diagnose`."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class Diagnose(Command):
    """Show what a planner's parameters can reach from the states that a policy visits, and where the gradient through
    the plan is blind; warn of spurious stationary points.
    """

    subject: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN|TASK")]
    """The folder of a run, whose last policy and critic are diagnosed, or a task, where it is the untrained policy that
    writes the problem's own parameters (those at an edge of their box half a percent inside of it)."""
    task_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Arguments of a task that differ from its defaults, e.g. `interface=stage`; a run has its own."""
    states: int = 200
    """Visited states, drawn from 25 episodes."""
    samples: int = 64
    """Draws from the parameter box at every state."""
    seed: int = 0
    """Of starts, states and draws."""
    out: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where diagnosis.csv and diagnosis.png go; the run's folder, or diagnosis-TASK, unless given."""

    name: ClassVar[str] = "diagnose"
    examples: ClassVar[tuple[str, ...]] = (
        "cartpole",
        "runs/fop --states 400",
        "windmaze-hard --task-options interface=stage --json diagnosis.json",
    )

    def run(self, console: "Console") -> Mapping[str, Any]:
        import csv
        import io

        import jax
        from rich import box
        from rich.table import Table

        from planahead.experiments import figures
        from planahead.experiments.diagnosis import diagnose
        from planahead.experiments.diagnosis_figure import diagnosis_figure
        from planahead.experiments.errors import UserError, at_least
        from planahead.experiments.experiment import Experiment, Stream, make_known_task, stream_key
        from planahead.experiments.files import file_name, make_folder, write_text
        from planahead.experiments.progress import percent
        from planahead.experiments.run_directory import RunDirectory
        from planahead.experiments.settings import read_options
        from planahead.learning import make_algorithm
        from planahead.policies import StochasticPolicy

        at_least("--states", self.states, 1)
        at_least("--samples", self.samples, 1)
        run = RunDirectory(pathlib.Path(self.subject))
        critic = None
        if run.path.is_dir():
            if self.task_options:
                raise UserError(
                    f"--task-options are of a task, and «{self.subject}» is a run, which has its own; leave them out."
                )
            experiment = Experiment.of_run(RunDirectory.open(run.path))
            state, info = experiment.load_state(run)
            task, policy = experiment.task, experiment.learner.policy(state)
            if getattr(experiment.learner, "critic", None) == "action":
                critic = state.critic
            title, whose = f"{info.algorithm} on {info.task} after {info.step:,} steps", "the policy's"
            out = self.out or run.path
        else:
            task = make_known_task(self.subject, "--task-options", **read_options("--task-options", self.task_options))
            policy, _ = make_algorithm("sac-fop", task, jax.random.key(self.seed), residual=True)
            named = "+".join((self.subject, *self.task_options))
            title, whose = f"{named}, the planner as it comes", "the planner's own"
            out = self.out or pathlib.Path(f"diagnosis-{file_name(named)}")
        console.print(f"planning from {self.states} visited states …", style="dim")
        if not isinstance(policy, StochasticPolicy):
            raise UserError(
                f"«{self.subject}» has a {type(policy).__name__}, whose plans diagnose does not know; give a task, or "
                "a run of an algorithm that plans (sac-zop, sac-fop, sac-foa, td3-zop, td3-fop)."
            )
        found = diagnose(task, policy, stream_key(self.seed, Stream.EVALUATION), self.states, self.samples, critic)

        environment, summary = task.environment, found.summary()
        make_folder(out)
        rows = found.rows(environment.observation_names, environment.action_names)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(out / "diagnosis.csv", text.getvalue())
        figures.save(diagnosis_figure(found, title, environment.action_names, whose), out / "diagnosis.png")

        table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
        for heading in ("", f"at {whose} parameters", "over the parameter box"):
            table.add_column(heading, justify="right" if heading else "left")
        s = summary
        table.add_row(
            "median of σ_min",
            f"{s['smallest_singular_value_median']:.3g}",
            f"{s['smallest_singular_value_median_over_box']:.3g}",
        )
        table.add_row("blind", percent(s["blind"]), percent(s["blind_over_box"]))
        table.add_row("spurious stationary points", percent(s["spurious"]), "")
        table.add_row("action box in reach, median", "", percent(s["reach_median"]))
        table.add_row("failed solves", percent(s["failed_solves"]), percent(s["failed_solves_over_box"]))
        console.print(table)
        warnings = found.warnings()
        for warning in warnings:
            console.print(f"warning: {warning}", style="yellow", highlight=False, soft_wrap=True)
        console.print(f"{out / 'diagnosis.csv'}, {out / 'diagnosis.png'}", highlight=False, soft_wrap=True)
        return {"subject": self.subject, **summary, "warnings": warnings}
