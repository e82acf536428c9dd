"""What a benchmark of learners consists of: its tasks with what training on them is like, and its cells."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from planahead.experiments import experiment
from planahead.experiments.errors import UserError, known_names
from planahead.experiments.files import file_name
from planahead.experiments.settings import TrainSettings, read_options
from planahead.tasks import task_names
from planahead.tasks.registry import default_interface
from planahead.tasks.task import Interface

PLANNER = "planner"
"""The entry of the planner as it comes, which is evaluated and not trained."""
EXPERT = "expert"
"""The entry of the planner that is imitated, which is evaluated and not trained."""
TUNED = "planner-tuned"
"""The entry of the planner with constant parameters that evolution finds, see `tuned_planner.py`."""
BASELINES = {
    PLANNER: "The planner as it comes; nothing is trained.",
    EXPERT: "The planner that is imitated: it may look further ahead, or know the way; nothing is trained.",
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
        if algorithm in BASELINES:
            if options:
                raise UserError(f"--algorithms got «{text}»; {algorithm} has no settings.")
            return cls(algorithm)
        experiment.known_algorithm(algorithm, *BASELINES)
        try:
            experiment.check_settings(algorithm, options)
        except ValueError as error:
            raise UserError(f"--algorithms {text}: {error}.") from error
        return cls(algorithm, _spelled(options))

    @property
    def trained(self) -> bool:
        return self.algorithm not in (PLANNER, EXPERT)

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
        own = ":" in task and task not in task_names()
        if not own and task not in task_names():
            raise UserError(
                f"--tasks got «{text}»; the known ones are {known_names(task_names())}; one of your own is module:Kind."
            )
        options = read_options("--tasks", parts)
        if "interface" in options:
            raise UserError(f"--tasks got «{text}»; what a policy writes is chosen by --interfaces.")
        if options or own:
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
class Ablation:
    """What one choice is worth: variants that differ in nothing else."""

    name: str
    variants: Mapping[str, tuple[str, str]]
    """Task and algorithm of each, as a `World` and an `Entry` are written, by what a table calls it."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training, one tuning of the planner's constants, or one evaluation of the planner as it comes."""

    task: str
    """As a `World` is written."""
    entry: Entry
    interface: str
    seed: int
    conditions: Conditions = dataclasses.field(default_factory=Conditions, compare=False)
    ablations: tuple[Ablation, ...] = dataclasses.field(default=(), compare=False)
    """Those of its benchmark, which the report is to show."""

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
        return name_of(self.key)

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


def name_of(key: tuple[str, str, str, int]) -> str:
    """Of a cell and its files.

    >>> name_of(("tank_level:TankLevelTask", "sac", "global", 0))
    'tank_level-TankLevelTask-sac-global-0'
    """
    return file_name("-".join(map(str, key)))


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What is compared unless told."""

    summary: str
    tasks: Mapping[str, Conditions]
    algorithms: tuple[str, ...] | Mapping[str, tuple[str, ...]]
    """As an `Entry` is written; the same on every task, or those of each."""
    seeds: tuple[int, ...]
    interfaces: tuple[str, ...] = ("global",)
    ablations: tuple[Ablation, ...] = ()
    """Where there are some, their variants are compared, and no other combination of tasks and algorithms."""

    def entries(self, tasks: Sequence[str], algorithms: Sequence[str]) -> dict[str, list[Entry]]:
        """What is trained on each task: every one of the `algorithms` on every one of the `tasks`, the benchmark's own
        where these are empty. Of ablations they choose variants."""
        worlds = [str(World.parse(task)) for task in tasks or self.tasks]
        chosen = [Entry.parse(text) for text in algorithms]
        if not self.ablations:
            return {world: chosen or [Entry.parse(text) for text in self.algorithms_of(world)] for world in worlds}
        known: dict[str, list[Entry]] = {}
        for task, algorithm in dict.fromkeys(pair for a in self.ablations for pair in a.variants.values()):
            entry = Entry.parse(algorithm)
            if (not tasks or task in worlds) and (not chosen or entry in chosen):
                known.setdefault(task, []).append(entry)
        if not known:
            pairs = {f"{algorithm} on {task}" for a in self.ablations for task, algorithm in a.variants.values()}
            raise UserError(
                f"no variant fits --tasks and --algorithms; the known ones are {known_names(sorted(pairs))}."
            )
        return known

    def algorithms_of(self, task: str) -> tuple[str, ...]:
        """Those of a task with options are its own, else those of the task without them."""
        if isinstance(self.algorithms, tuple):
            return self.algorithms
        known = self.algorithms.get(task, self.algorithms.get(World.parse(task).task))
        if known is None:
            raise UserError(
                f"--tasks got «{task}», for which this benchmark has no algorithms; it has some for "
                f"{known_names(tuple(self.algorithms))}. Name yours by --algorithms."
            )
        return known

    def conditions(self, task: str) -> Conditions:
        """Those of a task with options are its own, else those of the task without them, else the default ones."""
        return self.tasks.get(task, self.tasks.get(World.parse(task).task, Conditions()))


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
    for interface in interfaces:
        if interface not in get_args(Interface):
            raise UserError(f"--interfaces got «{interface}»; the known ones are {known_names(get_args(Interface))}.")
    changes = {name: value for name, value in (("steps", steps), ("episodes", episodes)) if value is not None}
    chosen = benchmark.entries(tasks, algorithms)
    found: dict[tuple[str, str, str, int], Cell] = {}
    for seed in seeds or benchmark.seeds:
        for task, entries in chosen.items():
            conditions = dataclasses.replace(benchmark.conditions(task), **changes)
            for interface in interfaces or benchmark.interfaces:
                for entry in entries:
                    where = (interface, seed) if entry.trained else ("global", 0)
                    cell = Cell(task, entry, *where, conditions, benchmark.ablations)
                    found.setdefault(cell.key, cell)
    return list(found.values())
