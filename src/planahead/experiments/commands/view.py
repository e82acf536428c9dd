"""`planahead view`. The command line opens every room: this one reaches for a later one, `planahead.viewer`, when it
runs."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from planahead.experiments.commands.command import Command

if TYPE_CHECKING:
    from rich.console import Console

    from planahead.policies import Policy
    from planahead.tasks import Task


@dataclasses.dataclass(frozen=True)
class View(Command):
    """Watch a task or a run in a browser: the plant in real time with its plan ahead, sliders, pokes, solve times; or
    record a page that plays by itself.
    """

    what: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK|RUN")]
    """A task (`planahead list` names them, one of your own is module:Kind), planned by who knows the way; or the folder
    of a run, whose policy acts."""
    checkpoint: Literal["best", "last"] = "best"
    """Which policy of a run."""
    planner: Literal["expert", "own"] = "expert"
    """Of a task: `own` plans with its problem as it comes, as `planahead plan` does."""
    task_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Arguments of a task that differ from its defaults, e.g. `gust=0.5`; a run has its own."""
    record: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE.html")] = None
    """Write a page that plays without a server, and open none."""
    seconds: float | None = None
    """Close the page after this long; of a recording its length, 10 unless given."""
    host: str = "127.0.0.1"
    """Who may see the page: 0.0.0.0 is everybody who reaches this machine."""
    port: int = 8080
    """0 takes any that is free."""
    seed: int = 0
    """Of starts and of the world's chance."""

    name: ClassVar[str] = "view"
    examples: ClassVar[tuple[str, ...]] = (
        "cartpole",
        "obstacles --task-options gust=0.5 --port 8081",
        "runs/fop --record fop.html --seconds 8",
    )

    def run(self, console: "Console") -> Mapping[str, Any]:
        import logging

        from planahead.experiments.errors import UserError
        from planahead.viewer import record_page, view

        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)  # browsers open sockets that they never use

        if self.seconds is not None and not self.seconds > 0:
            raise UserError(f"--seconds is {self.seconds:g}; a number above 0 was expected.")
        if self.record is not None and self.record.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"--record {self.record}: a page is written, so the name should end in .html.")
        task, policy = self._cast()
        if self.record is not None:
            seconds = 10.0 if self.seconds is None else self.seconds
            console.print(f"recording {seconds:g} s of {task.name} …", style="dim", highlight=False)
            pictures = record_page(task, self.record, policy, seed=self.seed, seconds=seconds)
            size = self.record.stat().st_size
            console.print(f"page: {self.record} ({pictures} pictures, {size / 1e6:.1f} MB)", highlight=False)
            return {"task": task.name, "page": self.record, "pictures": pictures, "bytes": size}
        console.print(f"compiling {task.name} …", style="dim", highlight=False)
        summary = view(
            task,
            policy,
            seed=self.seed,
            host=self.host,
            port=self.port,
            seconds=self.seconds,
            opened=lambda address: console.print(f"{address}   (Ctrl+C closes it)", highlight=False),
        )
        console.print(summary.sentence(), highlight=False)
        return {"task": task.name, **dataclasses.asdict(summary), "pictures_per_second": summary.rate}

    def _cast(self) -> "tuple[Task, Policy | None]":
        """What is watched, and who acts in it; `None` for the viewer's own choice."""
        from planahead.experiments.errors import UserError, known_names
        from planahead.experiments.experiment import Experiment, make_known_task
        from planahead.experiments.run_directory import RunDirectory
        from planahead.experiments.settings import read_options
        from planahead.tasks import task_names
        from planahead.viewer.pilot import pilot_of

        folder = pathlib.Path(self.what)
        if self.what in task_names() or (":" in self.what and not folder.is_dir()):
            options: dict[str, Any] = read_options("--task-options", self.task_options)
            task = make_known_task(self.what, **options)
            return task, pilot_of(task, own_problem=self.planner == "own")
        if not folder.is_dir():
            raise UserError(
                f"«{self.what}» is neither a task nor the folder of a run; the tasks are {known_names(task_names())}, "
                "and one of your own is module:Kind."
            )
        if self.task_options:
            raise UserError("--task-options is for a task; a run has those it was trained with.")
        run = RunDirectory.open(folder)
        experiment = Experiment.of_run(run)
        policy, _ = experiment.load_policy(run, self.checkpoint)
        return experiment.task, policy
