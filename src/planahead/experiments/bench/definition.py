"""What a benchmark of learners consists of: its tasks with what training on them is like, and its cells.

Everything that may differ between tasks is said here, and nowhere else.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from planahead.experiments import experiment
from planahead.experiments.errors import UserError, known_names
from planahead.experiments.settings import TrainSettings, read_options
from planahead.policies import Awareness
from planahead.tasks import task_names
from planahead.tasks.registry import default_interface
from planahead.tasks.task import Interface

PLANNER = "planner"
"""The entry of the planner as it comes, which is evaluated and not trained."""
TUNED = "planner-tuned"
"""The entry of the planner with constant parameters that evolution finds, see `tuned_planner.py`."""
BASELINES = {
    PLANNER: "The planner as it comes; nothing is trained.",
    TUNED: "The planner with constant parameters, which evolution finds in as many steps as an algorithm has.",
}


@dataclasses.dataclass(frozen=True, order=True)
class Entry:
    """An algorithm, and the settings in which it differs from its preset."""

    algorithm: str
    options: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Entry":
        """The entry that a user wrote. Two spellings of the same settings are the same entry.

        >>> print(Entry.parse("sac-fop+prior-weight=0.10+entropy=action"))
        sac-fop+entropy=action+prior_weight=0.1
        """
        algorithm, *parts = text.split("+")
        options = read_options("--algorithms", parts)
        if algorithm in (PLANNER, TUNED):
            if options:
                raise UserError(f"--algorithms got «{text}»; {algorithm} has no settings.")
            return cls(algorithm)
        experiment.known_algorithm(algorithm, PLANNER, TUNED)
        try:
            experiment.check_settings(algorithm, options)
        except ValueError as error:
            raise UserError(f"--algorithms {text}: {error}.") from error
        return cls(algorithm, _spelled(options))

    @property
    def trained(self) -> bool:
        return self.algorithm != PLANNER

    @property
    def tuned(self) -> bool:
        """Whether what is trained is no policy but constants of the planner."""
        return self.algorithm == TUNED

    def __str__(self) -> str:
        return "+".join((self.algorithm, *self.options))


@dataclasses.dataclass(frozen=True, order=True)
class World:
    """A task, and the options in which it differs from its own."""

    task: str
    options: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "World":
        """The task that a user wrote. Two spellings of the same options are the same task.

        >>> print(World.parse("race-split-s+plant=realistic"))
        race-split-s+plant=realistic
        """
        task, *parts = text.split("+")
        if task not in task_names():
            raise UserError(f"--tasks got «{text}»; the known ones are {known_names(task_names())}.")
        options = read_options("--tasks", parts)
        if "interface" in options:
            raise UserError(f"--tasks got «{text}»; what a policy writes is chosen by --interfaces.")
        if options:
            experiment.make_known_task(task, "--tasks", **options)
        return cls(task, _spelled(options))

    @property
    def arguments(self) -> dict[str, Any]:
        """`options` by name."""
        return read_options("--tasks", self.options)

    def __str__(self) -> str:
        return "+".join((self.task, *self.options))


def _spelled(options: Mapping[str, Any]) -> tuple[str, ...]:
    """One spelling of the same options, sorted."""
    words = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in options.items()}
    return tuple(f"{name}={words[name]}" for name in sorted(words))


@dataclasses.dataclass(frozen=True)
class Conditions:
    """How every algorithm is trained and judged on a task."""

    steps: int = 100_000
    """Environment steps per run."""
    validate_every: int = 4_000
    validation_episodes: int = 25
    start_spread: float | None = None
    """As in `TrainSettings`: of a validation's starts."""
    episodes: int = 100
    """Deterministic episodes per evaluation at the end."""
    options: tuple[str, ...] = ()
    """Settings of every learner on this task, before those of its entry; `{steps}` stands for `steps`."""
    training_options: tuple[str, ...] = ()
    """As in `TrainSettings`: arguments of the task that only training sees."""

    def learner_options(self) -> tuple[str, ...]:
        """`options` with the steps filled in: a run whose options depend on its length cannot be lengthened."""
        return tuple(option.format(steps=self.steps) for option in self.options)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training, one tuning of the planner's constants, or one evaluation of the planner as it comes."""

    task: str
    """As a `World` is written."""
    entry: Entry
    interface: str
    seed: int
    conditions: Conditions = dataclasses.field(default_factory=Conditions, compare=False)

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What tells cells apart, in the order of the table."""
        return self.task, str(self.entry), self.interface, self.seed

    @property
    def name(self) -> str:
        """
        >>> Cell("cartpole", Entry("sac-zop"), "global", 3).name
        'cartpole-sac-zop-global-3'
        """
        return "-".join(map(str, self.key))

    @property
    def settings(self) -> TrainSettings:
        """Of the cell's run; an entry's own settings win over those of the task."""
        c = self.conditions
        options: dict[str, Any] = {
            **read_options("--options", c.learner_options()),
            **read_options("--options", self.entry.options),
        }
        world = World.parse(self.task)
        interface = () if self.interface == default_interface(world.task) else (f"interface={self.interface}",)
        return TrainSettings(
            self.entry.algorithm,
            world.task,
            steps=c.steps,
            seed=self.seed,
            validate_every=c.validate_every,
            validation_episodes=c.validation_episodes,
            start_spread=c.start_spread,
            options=tuple(f"{name}={value}" for name, value in options.items()),
            task_options=(*world.options, *interface),
            training_options=c.training_options,
        )


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What is compared unless told."""

    summary: str
    tasks: Mapping[str, Conditions]
    algorithms: tuple[str, ...]
    seeds: tuple[int, ...]
    interfaces: tuple[str, ...] = ("global",)

    def conditions(self, task: str) -> Conditions:
        """Those of a task with options are its own, else those of the task without them, else the default ones."""
        return self.tasks.get(task, self.tasks.get(World.parse(task).task, Conditions()))


_FLIGHT = Conditions(
    steps=20_000_000,
    validate_every=1_000_000,
    options=("anneal_steps={steps}", "entropy_weight=0"),
    training_options=("starts=anywhere",),
)
"""Of racing, whose steps are simulated by the hundred side by side."""

BENCHMARKS: dict[str, Benchmark] = {
    "swing-up": Benchmark(
        summary="the cart-pole with a horizon of 0.25 s",
        tasks={"cartpole": Conditions()},
        algorithms=("sac-zop", "sac-fop", "sac-foa", "sac"),
        seeds=(0, 1, 2),
    ),
    "mpc-prior": Benchmark(
        summary="is a planner worth having for a learner? Cart-pole, hard wind maze and chain",
        tasks={
            "cartpole": Conditions(),  # which always starts hanging, and is judged from perturbed starts
            # From the usual start no exploration meets the goal, and even from the whole course, as published, only
            # from beyond the second zone: of 20,000 uniformly random episodes 8 % do, and none passes either gap.
            "windmaze-hard": Conditions(training_options=("starts=anywhere",)),
            "chain": Conditions(),
        },
        algorithms=("sac", "sac-zop", "sac-fop", "sac-foa", "td3", TUNED, PLANNER),
        seeds=(0, 1, 2, 3, 4),
    ),
    "filter-awareness": Benchmark(
        summary="a safety filter behind a learning policy, and what it helps that learning knows of it",
        tasks={"obstacles": Conditions(steps=20_000, options=("batch_size=64", "hidden_units=64"))},
        algorithms=("sac", *(f"sac+filter={awareness}" for awareness in get_args(Awareness))),
        seeds=(0, 1, 2),
    ),
    "racing": Benchmark(
        summary="a quadrotor through the gates of Split-S, with a planner in its policy and without",
        tasks={"race-split-s": _FLIGHT, "race-split-s+plant=realistic": _FLIGHT},
        algorithms=("ac-mlp", "ac-mpc"),
        seeds=(0, 1, 2),
        interfaces=("stage",),
    ),
}


def known_benchmark(name: str, others: Sequence[str] = ()) -> Benchmark:
    """The benchmark called `name`; `others` are benchmarks that train nothing."""
    if name not in BENCHMARKS:
        raise UserError(f"there is no benchmark «{name}»; the known ones are {known_names((*BENCHMARKS, *others))}.")
    return BENCHMARKS[name]


def cells(
    benchmark: Benchmark,
    tasks: Sequence[str] = (),
    algorithms: Sequence[str] = (),
    interfaces: Sequence[str] = (),
    seeds: Sequence[int] = (),
    steps: int | None = None,
    episodes: int | None = None,
) -> list[Cell]:
    """The cells of a benchmark, those of the first seed first, so that comparisons are complete early. What is empty or
    `None` is as the benchmark has it; tasks that it does not have are trained under the default `Conditions`.

    The planner as it comes has one cell per task: it knows of no seed, and its interface does not matter.
    """
    worlds = [str(World.parse(task)) for task in tasks or benchmark.tasks]
    for interface in interfaces:
        if interface not in get_args(Interface):
            raise UserError(f"--interfaces got «{interface}»; the known ones are {known_names(get_args(Interface))}.")
    changes = {name: value for name, value in (("steps", steps), ("episodes", episodes)) if value is not None}
    entries = [Entry.parse(text) for text in algorithms or benchmark.algorithms]
    found: dict[tuple[str, str, str, int], Cell] = {}
    for seed in seeds or benchmark.seeds:
        for task in worlds:
            conditions = dataclasses.replace(benchmark.conditions(task), **changes)
            for interface in interfaces or benchmark.interfaces:
                for entry in entries:
                    where = (interface, seed) if entry.trained else ("global", 0)
                    cell = Cell(task, entry, *where, conditions)
                    found.setdefault(cell.key, cell)
    return list(found.values())
