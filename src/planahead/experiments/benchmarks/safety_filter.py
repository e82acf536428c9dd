"""Is a safety filter ever violated, how often does it act, and what does a step of it take?

    world         the cart-pole on its track; the obstacles without gusts, where the model is exact; and with gusts of
                  full strength in random directions, the bound that the filter is told
    proposals     uniform in the action box; or draws of a policy that has learned to move, and not yet to keep away:
                  SAC after `HALF_TRAINED` steps without a filter
    protection    none; the filter; with gusts also a filter that is not told of them, to see that the tube matters

`LANES` worlds run side by side, and start anew where an episode ends; a violation ends one.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from planahead.experiments.experiment import Stream, stream_key
from planahead.learning import make_algorithm
from planahead.learning.rollout import Lanes, Tally, start_lanes, step_lanes
from planahead.policies import ActionBox, Decision, FilteredPolicy, Guard, Policy, SafetyFilter, Setting
from planahead.problem import SafetyProblem
from planahead.tasks import Task, make_task

GUST = 0.5  # m/s², an eighth of the largest acceleration
LANES = 100
HALF_TRAINED = 6_000
"""Environment steps. After 4,000 nearly all episodes end by a violation, after 10,000 nearly none; after 6,000 (seed 0)
75 % of those with the obstacles do, and 30 % on the cart-pole."""
STEPS_PER_CALL = 10  # of every world


@final
class Proposals(Policy):
    """Draws of a learned policy, or uniform ones."""

    learned: Policy
    box: ActionBox
    uniform: Bool[Array, ""]

    def initial_memory(self) -> Any:
        return self.learned.initial_memory()

    def settings(self) -> dict[str, Setting]:
        return {}

    def decide(
        self, observation: Float[Array, " observation"], memory: Any = None, key: PRNGKeyArray | None = None
    ) -> Decision:
        assert key is not None
        decision = self.learned.decide(observation, memory, key)
        drawn = self.box.from_unit(jax.random.uniform(key, (self.box.size,), minval=-1.0, maxval=1.0))
        return dataclasses.replace(decision, action=jnp.where(self.uniform, drawn, decision.action))


@dataclasses.dataclass(frozen=True)
class FilterRow:
    """What a hundred worlds went through."""

    world: str
    proposals: str
    protection: str
    steps: int
    violations: int
    """Steps."""
    episodes: int
    """That ended."""
    violated_episodes: int
    corrected: float | None
    """Share of the steps in which another action than the proposed one acted."""
    fallback: float | None
    """Share of the steps in which neither the proposal nor this step's plan was confirmed."""
    uncertified: int | None
    """Steps in which no certificate covered the action."""
    milliseconds: float
    """Wall time per step of one world, `LANES` side by side: proposing, filtering and simulating."""


@dataclasses.dataclass(frozen=True)
class _World:
    name: str
    task: Task
    filters: dict[str, SafetyProblem]


def _worlds() -> Iterator[_World]:
    for name, title in (("cartpole", "cart-pole"), ("obstacles", "obstacles")):
        task = make_task(name)
        yield _World(title, task, {"filter": _safety(task)})
    gusty = make_task("obstacles", gust=GUST)
    yield _World(
        "obstacles, gusts",
        gusty,
        {"filter": _safety(gusty), "no bound told": _safety(make_task("obstacles"))},
    )


def _safety(task: Task) -> SafetyProblem:
    problem = task.safety_problem()
    assert problem is not None
    return problem


def half_trained(task: Task, seed: int, steps: int = HALF_TRAINED) -> Policy:
    """What SAC has learned after `steps` environment steps, rounded up to its chunks."""
    policy, learner = make_algorithm("sac", task, stream_key(seed, Stream.NETWORKS))
    state = learner.init(task, policy, stream_key(seed, Stream.FIRST_STATE))
    for chunk in range(-(-steps // learner.steps_per_chunk)):
        state, _ = learner.advance(state, stream_key(seed, Stream.CHUNK, chunk))
    return learner.policy(state)


def run(steps: int, seed: int, report: Callable[[FilterRow], None] = lambda _: None) -> list[FilterRow]:
    """A row for every world, kind of proposals and protection; `report` is called with each as soon as it is there."""
    rows: list[FilterRow] = []
    learned: dict[str, Policy] = {}
    for world in _worlds():
        box = world.task.action_box
        if world.task.name not in learned:  # proposals are those of the calm world
            learned[world.task.name] = half_trained(world.task, seed)
        for uniform in (True, False):
            proposals = Proposals(learned[world.task.name], box, jnp.array(uniform))
            policies: dict[str, Policy] = {"none": proposals}
            for name, problem in world.filters.items():
                policies[name] = FilteredPolicy(proposals, Guard(SafetyFilter(problem), world.task.planner_state, box))
            for protection, policy in policies.items():
                found = simulate(world.task, policy, stream_key(seed, Stream.EVALUATION), steps)
                rows.append(row(world.name, "uniform" if uniform else "half-trained", protection, *found))
                report(rows[-1])
    return rows


def simulate(task: Task, policy: Policy, key: PRNGKeyArray, steps: int) -> tuple[Tally, float]:
    """At least `steps` steps over `LANES` worlds, and their wall time in s, compiling left out."""
    calls = -(-steps // (LANES * STEPS_PER_CALL))
    start, key = jax.random.split(key)
    lanes = start_lanes(task.environment, LANES, policy.initial_memory(), start)
    jax.block_until_ready(_advance(task, policy, lanes, key))
    begun, found = time.perf_counter(), []
    for call in range(calls):
        lanes, tally = _advance(task, policy, lanes, jax.random.fold_in(key, call))
        found.append(jax.block_until_ready(tally))
    seconds = time.perf_counter() - begun
    return jax.tree.map(lambda *counts: sum(counts), *found), seconds


@eqx.filter_jit
def _advance(task: Task, policy: Policy, lanes: Lanes, key: PRNGKeyArray) -> tuple[Lanes, Tally]:
    """`STEPS_PER_CALL` steps."""
    environment, initial = task.environment, policy.initial_memory()

    def step(lanes: Lanes, key: PRNGKeyArray) -> tuple[Lanes, Tally]:
        draw, world = jax.random.split(key)
        decision = jax.vmap(policy.decide)(lanes.observation, lanes.memory, jax.random.split(draw, LANES))
        failed = jnp.broadcast_to(decision.failed, (LANES,))
        after, _, tally = step_lanes(
            environment, lanes, decision.action, failed, decision.memory, initial, world, decision.filtered
        )
        return after, tally

    lanes, tallies = jax.lax.scan(step, lanes, jax.random.split(key, STEPS_PER_CALL))
    return lanes, jax.tree.map(jnp.sum, tallies)


def row(world: str, proposals: str, protection: str, tally: Tally, seconds: float) -> FilterRow:
    """What `simulate` found, as a row."""
    steps, found = int(tally.steps), tally.filter
    return FilterRow(
        world=world,
        proposals=proposals,
        protection=protection,
        steps=steps,
        violations=int(tally.violated_steps),
        episodes=int(tally.episodes),
        violated_episodes=int(tally.violated_episodes),
        corrected=None if found is None else float(found.corrected) / steps,
        fallback=None if found is None else float(found.fallback) / steps,
        uncertified=None if found is None else int(found.uncertified),
        milliseconds=1e3 * seconds / steps,
    )


HEADINGS = ("world", "proposals", "protection", "violations", "episodes", "corrected", "fallback", "uncertified", "ms")


def cells_of(row: FilterRow) -> tuple[str, ...]:
    """A line of the table, under `HEADINGS`: violations among the steps, and among the episodes that ended."""
    shares = ["–" if share is None else f"{100 * share:.2f} %" for share in (row.corrected, row.fallback)]
    return (
        row.world,
        row.proposals,
        row.protection,
        f"{row.violations} of {row.steps}",
        f"{row.violated_episodes} of {row.episodes}",
        *shares,
        "–" if row.uncertified is None else str(row.uncertified),
        f"{row.milliseconds:.3f}",
    )
