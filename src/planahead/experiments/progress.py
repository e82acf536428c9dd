"""What a training run shows while it runs: a bar and a line of numbers on a terminal, plain lines elsewhere (a log,
`make`).
"""

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

SECONDS_BETWEEN_LINES = 10.0  # off a terminal


class TrainingProgress:
    """A context manager; between `with` and its end it owns the bottom lines of the terminal."""

    def __init__(self, console: Console, title: str, step: int, steps: int) -> None:
        self.console = console
        self.steps = steps
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            console=console,
            expand=True,
        )
        self._task = self._bar.add_task(title, total=steps, completed=step)
        self._title = title
        self._line = Text("")
        self._live = Live(self._group(), console=console, refresh_per_second=4) if console.is_terminal else None
        self._last_line = 0.0

    def __enter__(self) -> "TrainingProgress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, sentence: str) -> None:
        """A line that stays."""
        self.console.print(Text(sentence), highlight=False, soft_wrap=True)

    def doing(self, what: str) -> None:
        """What takes its time just now."""
        if self._live is None:
            self.say(f"{self._title}: {what}")
        else:
            self._show(Text(what, style="dim"))

    def advanced(self, step: int, numbers: Mapping[str, float], steps_per_second: float | None) -> None:
        """Show where the run stands; without a rate nothing is said about the time left."""
        words = [
            f"{step:,} of {self.steps:,} steps",
            *(f"{name} {_number(name, value)}" for name, value in numbers.items()),
        ]
        if steps_per_second:
            words += [f"{steps_per_second:,.0f} steps/s", f"{clock((self.steps - step) / steps_per_second)} left"]
        line = " · ".join(words)
        self._bar.update(self._task, completed=min(step, self.steps))
        if self._live is not None:
            self._show(Text(line))
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES or step >= self.steps:
            self._last_line = time.monotonic()
            self.say(line)

    def _show(self, line: Text) -> None:
        assert self._live is not None
        self._line = line
        self._live.update(self._group(), refresh=True)

    def _group(self) -> Group:
        return Group(self._bar, self._line)


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any.

    >>> clock(75.0), clock(3700.0)
    ('1:15', '1:01:40')
    """
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def percent(share: float) -> str:
    """A share as a reader likes it: whole percent, and more digits only where they are needed.

    >>> percent(1.0), percent(0.045), percent(0.0004), percent(0.0)
    ('100 %', '4.5 %', '0.04 %', '0 %')
    """
    if share != share:
        return "–"
    value = 100 * share
    return f"{f'{value:.1f}'.removesuffix('.0')} %" if abs(value) >= 0.1 or value == 0 else f"{value:.1g} %"


SHARES = ("success", "failed solves", "violations")


def _number(name: str, value: float) -> str:
    if value != value:
        return "–"
    return percent(value) if name in SHARES else f"{value:.2f}"
