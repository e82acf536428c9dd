"""A run is a folder. This is the only place that knows what lies where in it.

    RUN/config.json              all settings: `TrainSettings`, the policy's with its planner's, the learner's
    RUN/versions.json            python, packages, machine, command
    RUN/metrics.csv              a row per chunk; the same bytes, whether or not the run was interrupted
    RUN/validations.csv          a row per validation; the same
    RUN/timing.csv               a row per chunk: wall time, kept apart because no two runs share it
    RUN/evaluation.json          what `planahead evaluate` found
    RUN/checkpoints/last, best   see `checkpoint`
    RUN/lock                     while a process trains it, see `lock`
    RUN/report.html

An existing run is never overwritten. Tables grow by whole rows; on resuming they are cut back to the checkpoint's step.
"""

import contextlib
import csv
import io
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from planahead.experiments.errors import UserError, known_names
from planahead.experiments.files import make_folder, read_json, write_json, write_text
from planahead.experiments.lock import locked
from planahead.experiments.settings import TrainSettings, settings_from_json, settings_to_json
from planahead.tasks import task_names

Rows = Sequence[Mapping[str, float]]
TABLES = ("metrics", "validations", "timing")
_PARTS = ("settings", "policy", "learner")  # of config.json


class RunDirectory:
    """The folder of one run."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.config_path = path / "config.json"
        self.evaluation_path = path / "evaluation.json"
        self.report_path = path / "report.html"
        self.last_checkpoint = path / "checkpoints" / "last"
        self.best_checkpoint = path / "checkpoints" / "best"

    @classmethod
    def create(
        cls,
        path: pathlib.Path,
        settings: TrainSettings,
        policy: Mapping[str, Any],
        learner: Mapping[str, Any],
        versions: Mapping[str, Any],
    ) -> "RunDirectory":
        """A new run at `path`, which must be empty or not exist."""
        run = cls(path)
        if run.config_path.exists():
            raise UserError(
                f"«{path}» already holds a run, and a run is never overwritten. Go on with it with --resume, or "
                "choose another folder with --run."
            )
        if path.is_dir() and any(path.iterdir()):
            raise UserError(f"«{path}» is a folder with other files in it. Choose an empty or new folder with --run.")
        make_folder(path / "checkpoints")
        write_json(path / "versions.json", versions)
        run.write_config(settings, policy, learner)
        return run

    @classmethod
    def open(cls, path: pathlib.Path) -> "RunDirectory":
        """The run at `path`."""
        run = cls(path)
        if not run.config_path.is_file():
            if not path.is_dir() and (":" in path.name or str(path) in task_names()):
                raise UserError(
                    f"«{path}» is a task, and the folder of a run was expected (planahead train … --run FOLDER). The "
                    f"planner as it comes is evaluated by: planahead plan {path}"
                )
            what = "holds no run (it has no config.json)" if path.is_dir() else "is not a folder"
            raise UserError(f"«{path}» {what}. Make a run there with: planahead train ALGORITHM TASK --run {path}")
        return run

    def config(self) -> dict[str, Any]:
        """`{"settings": ..., "policy": ..., "learner": ...}` as written."""
        content = read_json(self.config_path, "the configuration")
        if set(content) != set(_PARTS) or not all(isinstance(part, dict) for part in content.values()):
            raise UserError(
                f"the configuration «{self.config_path}» has the keys {known_names(list(content))}; "
                f"the objects {known_names(_PARTS)} were expected. Restore the file, use the version of planahead "
                "that wrote it (see versions.json beside it), or start a new run."
            )
        return content

    def write_config(self, settings: TrainSettings, policy: Mapping[str, Any], learner: Mapping[str, Any]) -> None:
        parts = settings_to_json(settings), policy, learner
        write_json(self.config_path, dict(zip(_PARTS, parts, strict=True)))

    def settings(self) -> TrainSettings:
        return settings_from_json(TrainSettings, self.config()["settings"], f"the configuration «{self.config_path}»")

    def versions(self) -> dict[str, Any]:
        return read_json(self.path / "versions.json", "the versions")

    def made_in(self) -> str:
        """The folder in which training was called; nothing where the file that knows it is gone."""
        try:
            return str(self.versions().get("folder", ""))
        except UserError:
            return ""

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else trains this run meanwhile. Raises `UserError` where somebody does."""
        return locked(self.path / "lock", f"the run «{self.path}»")

    def table_path(self, table: str) -> pathlib.Path:
        return self.path / f"{table}.csv"

    def append(self, table: str, row: Mapping[str, Any]) -> None:
        """Add a row, whose first column is `step`, to one of `TABLES`."""
        path = self.table_path(table)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not path.exists():
            writer.writerow(row)
        writer.writerow(row.values())
        try:
            with open(path, "a", newline="") as file:
                file.write(text.getvalue())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"cannot write «{path}»: {error.strerror or error}. The last checkpoint is kept."
            ) from error

    def read(self, table: str) -> list[dict[str, float]]:
        """The whole rows of a table, every cell a number; none where the table has not begun."""
        path = self.table_path(table)
        if not path.exists():
            return []
        rows = list(csv.DictReader(io.StringIO(_whole_lines(path))))
        try:
            return [{name: float(cell) for name, cell in row.items()} for row in rows]
        except (TypeError, ValueError) as error:
            raise UserError(f"«{path}» is damaged: {error}. Restore the file from a copy.") from error

    def cut(self, step: int) -> None:
        """Keep the rows up to and including `step` in every table."""
        for table in TABLES:
            path = self.table_path(table)
            if not path.exists():
                continue
            header, *rows = _whole_lines(path).splitlines(keepends=True) or [""]
            try:
                kept = [row for row in rows if int(row.partition(",")[0]) <= step]
            except ValueError as error:
                raise UserError(
                    f"«{path}» is damaged: {error}; a step was expected at the start of every row. "
                    "Restore the file from a copy, or start a new run."
                ) from error
            write_text(path, header + "".join(kept))


def _whole_lines(path: pathlib.Path) -> str:
    """The text up to its last line break: a killed run may leave half a row."""
    text = path.read_text()
    return text[: text.rfind("\n") + 1]
