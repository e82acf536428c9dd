"""Several cells at once: a process per cell, each on cores of its own, and a line per process on the terminal.

    cores 0 … c-1,  jobs N:   process of slot i runs on the cores i, i + N, i + 2N, …

JAX keeps its threads and its memory in the process, so a cell's process ends with the cell. What it prints goes to
OUT/runs/CELL.log; where it stands is read from its run's tables.
"""

import contextlib
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from planahead.experiments.bench.definition import Cell
from planahead.experiments.bench.running import Outcome, finished_result, run_cell, run_path
from planahead.experiments.errors import UserError
from planahead.experiments.files import make_folder
from planahead.experiments.lock import InUse
from planahead.experiments.progress import clock
from planahead.experiments.run_directory import RunDirectory

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_LINES = 60.0  # off a terminal
TAKEN, FAILED, STOPPED = 3, 4, 5  # exit codes of a cell's process


def log_path(out: pathlib.Path, cell: Cell) -> pathlib.Path:
    return out / "runs" / f"{cell.name}.log"


def run_cells_at_once(cells: Sequence[Cell], out: pathlib.Path, jobs: int, console: Console) -> Outcome:
    """As `run_cells`, `jobs` at a time.

    **Raises:** `KeyboardInterrupt` where the user stopped it, after every process has saved its run.
    """
    make_folder(out / "runs")
    finished = [cell.name for cell in cells if finished_result(out, cell) is not None]
    waiting = [cell for cell in cells if cell.name not in finished]
    taken: list[str] = []
    failed: dict[str, str] = {}
    slots: list[_Job | None] = [None] * jobs
    shown = _Shown(console, len(cells))
    with _stop_on_signal() as stop, shown:
        try:
            while (waiting and not stop.is_set()) or any(slots):
                for slot, job in enumerate(slots):
                    if job is not None and not job.process.is_alive():
                        job.process.join()
                        slots[slot] = None
                        said = f"{job.cell.name}: {_ending(job)} after {clock(time.monotonic() - job.start)}"
                        if job.process.exitcode == 0:
                            finished.append(job.cell.name)
                        elif job.process.exitcode == TAKEN:
                            taken.append(job.cell.name)
                        elif not stop.is_set():
                            failed[job.cell.name] = f"see «{log_path(out, job.cell)}»"
                        shown.say(said)
                    if slots[slot] is None and waiting and not stop.is_set():
                        slots[slot] = _Job(waiting.pop(0), out, slot, jobs)
                if stop.is_set():
                    for job in slots:
                        if job is not None:
                            job.stop()
                shown.update([job for job in slots if job is not None], len(finished))
                time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            for job in slots:
                if job is not None:
                    job.stop()
                    job.process.join()
    if stop.is_set():
        console.print("stopped; the same command goes on with what is not finished, trainings where they were saved")
        raise KeyboardInterrupt
    return Outcome(tuple(finished), tuple(taken), failed)


class _Job:
    """A cell's process."""

    def __init__(self, cell: Cell, out: pathlib.Path, slot: int, jobs: int) -> None:
        self.cell = cell
        self.out = out
        self.start = time.monotonic()
        self._stopped = False
        # A fresh interpreter: a forked JAX has locks that nobody will release.
        self.process: BaseProcess = multiprocessing.get_context("spawn").Process(
            target=_work, args=(cell, out, slot, jobs), name=cell.name
        )
        self.process.start()

    def stop(self) -> None:
        """Ask it, once, to end its chunk, save and end."""
        if not self._stopped:
            self._stopped = True
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()

    def line(self) -> str:
        """Where it stands."""
        if self.cell.entry.tuned:
            log = log_path(self.out, self.cell)
            said = log.read_text().splitlines() if log.exists() else []
            return f"{self.cell.name}: {said[-1] if said else 'starting'}"
        run = RunDirectory(run_path(self.out, self.cell))
        try:
            timing, validations = run.read("timing"), run.read("validations")
        except UserError:  # cut back just now
            timing, validations = [], []
        step = int(timing[-1]["step"]) if timing else 0
        words = [f"{step:,} of {self.cell.conditions.steps:,} steps"] if self.cell.entry.trained else []
        if len(timing) > 2 and timing[-1]["seconds"] > timing[0]["seconds"]:
            rate = (timing[-1]["step"] - timing[0]["step"]) / (timing[-1]["seconds"] - timing[0]["seconds"])
            words += [f"{rate:,.0f} steps/s", f"{clock((self.cell.conditions.steps - step) / rate)} left"]
        if validations:
            words.append(f"success {100 * validations[-1]['success_rate']:.0f} %")
        return f"{self.cell.name}: {' · '.join(words) or 'at work'}"


def _ending(job: _Job) -> str:
    words = {0: "finished", TAKEN: "another process is at work at it", FAILED: "failed", STOPPED: "stopped"}
    return words.get(job.process.exitcode or 0, f"ended with exit code {job.process.exitcode}")


def _work(cell: Cell, out: pathlib.Path, slot: int, jobs: int) -> None:
    """The cell, in a process of its own. It has its own group, so that Ctrl-C reaches it once, through its parent."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) >= jobs:
            os.sched_setaffinity(0, cores[slot::jobs])
    signal.signal(signal.SIGTERM, _interrupt)  # training loops save first; everything else can begin anew
    with open(log_path(out, cell), "a") as file:
        console = Console(file=file, width=120)
        try:
            run_cell(cell, out, console)
        except InUse:
            sys.exit(TAKEN)
        except KeyboardInterrupt:
            sys.exit(STOPPED)
        except UserError as error:
            console.print(f"failed: {error}", markup=False, highlight=False, soft_wrap=True)
            sys.exit(FAILED)
        except BaseException:
            console.print_exception()
            sys.exit(FAILED)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """An event that Ctrl-C or a termination signal sets."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {s: signal.signal(s, lambda number, frame: event.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Shown:
    """A line per process on a terminal, and lines now and then elsewhere."""

    def __init__(self, console: Console, cells: int) -> None:
        self.console = console
        self.cells = cells
        self._live = Live(console=console, refresh_per_second=2) if console.is_terminal else None
        self._last = time.monotonic()

    def __enter__(self) -> None:
        if self._live is not None:
            self._live.start()

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, sentence: str) -> None:
        """A line that stays."""
        self.console.print(Text(sentence), highlight=False, soft_wrap=True)

    def update(self, jobs: Sequence[_Job], finished: int) -> None:
        head = f"{finished} of {self.cells} cells finished"
        if self._live is not None:
            self._live.update(Group(Text(head, style="bold"), *(Text(job.line()) for job in jobs)))
        elif time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self.say(" | ".join([head, *(job.line() for job in jobs)]))
