"""`planahead bench table1`, `nmpc`, `scaling`, `latency`, `inference` and `torch`."""

import abc
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from planahead.experiments.commands.command import Command

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from planahead.experiments.benchmarks.timing import Row


@dataclasses.dataclass(frozen=True)
class BenchSolver(Command):
    """Time the solvers on published problems, in one run beside the peers that are installed (`pip install
    'planahead[bench]'`): medians, failures and wrong answers, into one CSV.
    """

    repeats: int = 20
    """Timed calls per row, after a warm-up."""
    threads: int | None = None
    """Processors that the process may use; one unless given, or all where the system cannot restrict a process."""
    peers: Annotated[bool, tyro.conf.FlagConversionOff] = True
    """Whether to time peers too."""
    out: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The CSV; bench-NAME.csv unless given, or bench-NAME-2.csv where that is."""

    name: ClassVar[str] = ""
    precision: ClassVar[str] = "float64"
    examples: ClassVar[tuple[str, ...]] = ("", "--threads 2 --peers False --json result.json")

    @abc.abstractmethod
    def rows(self) -> "list[Row]":
        """Run the benchmark."""

    def picture(self, rows: "list[Row]") -> "Figure | None":
        """What is drawn beside the CSV."""
        return None

    def run(self, console: "Console") -> Mapping[str, Any]:
        from planahead.experiments.benchmarks.timing import restrict_threads
        from planahead.experiments.errors import at_least
        from planahead.experiments.files import require_writable, unused

        at_least("--repeats", self.repeats, 1)
        if self.threads is not None:
            at_least("--threads", self.threads, 1)
        benchmark = self.name.removeprefix("bench ")
        out = self.out or unused(pathlib.Path(f"bench-{benchmark}.csv"))
        require_writable(out, "--out")
        threads = restrict_threads(self.threads)
        console.print(f"{benchmark}: compiling and timing …", style="dim")
        rows = self.rows()

        from planahead.experiments.benchmarks.results import absent, summaries, table, write_csv
        from planahead.experiments.figures import save
        from planahead.experiments.versions import versions

        title = f"{benchmark}: medians, {threads} thread{'s' * (threads > 1)}, {self.precision}"
        console.print(table(rows, title))
        for line in absent(rows):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        write_csv(out, rows)
        written = [out]
        if (figure := self.picture(rows)) is not None:
            written.append(out.with_suffix(".png"))
            save(figure, written[-1])
        console.print(", ".join(map(str, written)), highlight=False, soft_wrap=True)
        return {
            "benchmark": benchmark,
            "threads": threads,
            "repeats": self.repeats,
            "rows": summaries(rows),
            "versions": versions(),
        }


@dataclasses.dataclass(frozen=True)
class BenchTable1(BenchSolver):
    """Time 2 x 128 box-constrained linear-quadratic problems (Frey et al. 2025, Table 1), solved and differentiated,
    beside installed peers (the extra `bench`): medians, failures and wrong answers, into one CSV.
    """

    name: ClassVar[str] = "bench table1"

    def rows(self) -> "list[Row]":
        from planahead.experiments.benchmarks import table1

        return table1.run(self.repeats, self.peers)


@dataclasses.dataclass(frozen=True)
class BenchNmpc(BenchSolver):
    """Time two nonlinear problems, a pendulum and a quadrotor, single and in batches of 128: real-time iterations, full
    solves and adjoints; and 128 cold starts of a cart-pole.
    """

    name: ClassVar[str] = "bench nmpc"

    def rows(self) -> "list[Row]":
        from planahead.experiments.benchmarks import nmpc

        return nmpc.run(self.repeats)


@dataclasses.dataclass(frozen=True)
class BenchScaling(BenchSolver):
    """Time random problems over batch (1 to 8192), horizon (5 to 160) and states (2 to 48), along the states beside a
    solver that takes one problem at a time.
    """

    name: ClassVar[str] = "bench scaling"

    def rows(self) -> "list[Row]":
        from planahead.experiments.benchmarks import scaling

        return scaling.run(self.repeats, self.peers)

    def picture(self, rows: "list[Row]") -> "Figure | None":
        from planahead.experiments.benchmarks.scaling_figure import scaling_figure

        return scaling_figure(rows)


@dataclasses.dataclass(frozen=True)
class BenchLatency(BenchSolver):
    """Time one problem from a Python call to its control: median and p99 over many calls."""

    name: ClassVar[str] = "bench latency"

    def rows(self) -> "list[Row]":
        from planahead.experiments.benchmarks import latency

        return latency.run(self.repeats, self.peers)


@dataclasses.dataclass(frozen=True)
class BenchInference(BenchSolver):
    """Time a racing policy from a Python call to its action, with a planner that looks 2 to 50 steps ahead in it and
    without: median and p99 over many calls. It has no peers.
    """

    name: ClassVar[str] = "bench inference"
    precision: ClassVar[str] = "float32 unless JAX_ENABLE_X64"

    def rows(self) -> "list[Row]":
        from planahead.experiments.benchmarks import inference

        return inference.run(self.repeats)


@dataclasses.dataclass(frozen=True)
class BenchTorch(BenchSolver):
    """Time a batch of 128 plans and its gradient through PyTorch's layer beside the same in JAX (the extra `torch`):
    what the way there and back costs. It has no peers.
    """

    name: ClassVar[str] = "bench torch"

    def rows(self) -> "list[Row]":
        from planahead.experiments.benchmarks import torch_layer

        return torch_layer.run(self.repeats)


SOLVER_BENCHMARKS: tuple[type[BenchSolver], ...] = (
    BenchTable1,
    BenchNmpc,
    BenchScaling,
    BenchLatency,
    BenchInference,
    BenchTorch,
)
