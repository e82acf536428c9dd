"""Deterministic episodes of a policy, side by side in one compiled program, with everything that happened in them.

    s_0 ~ start,    d_t = decide(observe(s_t), m_t),    s_{t+1} = step(s_t, d_t.action),    m_{t+1} = d_t.memory

Any number of episodes is run in batches of `LANES`, so that a policy is compiled once for validation, evaluation and
pictures. A batch ends with its last episode; a lane that has ended stays where it is and counts no more.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PRNGKeyArray

from planahead.policies import Decision, Policy
from planahead.tasks import Environment, Task, Transition

LANES = 25  # one size serves all: compiling takes longer than running some lanes that are not needed
PERTURBATION = 0.1  # in every state's unit: wide enough that no two episodes are alike, no harder than the start itself


class Step(eqx.Module):
    """One step of one lane; what belongs to the planner is `None` where there is none."""

    alive: Array
    """Whether the episode was still going on, so that the step counts."""
    state: Any
    """The environment's, after the step."""
    action: Array
    reward: Array
    terminated: Array
    success: Array
    violation: Array
    failed: Array
    """Whether the solve behind the action failed."""
    parameters: Array | None
    status: Array | None
    iterations: Array | None
    planned_states: Array | None
    planned_controls: Array | None


@dataclasses.dataclass(frozen=True)
class Episodes:
    """What happened (numpy): `steps` with leading axes [T, episodes], `start` with [episodes]."""

    task: Task
    start_spread: float
    start: Any
    """The environment's states before the first step."""
    steps: Step


RunBatch = Callable[[Task, Policy, Key[Array, " lanes"]], tuple[Any, Step]]
"""The states at the start [lanes], and every step [T, lanes]: `run_batch`, or something else that flies."""


def run_episodes(
    task: Task,
    policy: Policy,
    key: PRNGKeyArray,
    number: int = 100,
    spread: float | None = None,
    run: RunBatch | None = None,
) -> Episodes:
    """Run `number` deterministic episodes of `policy` on `task` from starts perturbed by ±`spread` in every state.

    Without a `spread` it is the task's own, and 0.1 where the task always starts from the same state. Batches are run
    by `run`, `run_batch` unless given.
    """
    spread = evaluation_spread(task) if spread is None else spread
    if number < 1 or not spread >= 0:
        raise ValueError(f"{number} episodes with a spread of {spread}; expected at least one, and at least 0")
    task = with_spread(task, spread)
    keys = jax.random.split(key, number)
    batches = []
    for first in range(0, number, LANES):
        lanes = jnp.minimum(first + jnp.arange(LANES), number - 1)  # the last episode fills up the last batch
        batches.append(jax.tree.map(np.asarray, (run or run_batch)(task, policy, keys[lanes])))
    starts, steps = zip(*batches, strict=True)
    start = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:number], *starts)
    steps = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1)[:, :number], *steps)
    return Episodes(task, float(spread), start, steps)


def with_spread(task: Task, spread: float) -> Task:
    """The task with starts within ±`spread` of the environment's own, in every state."""
    return eqx.tree_at(
        lambda task: task.environment.start_spread, task, replace_fn=lambda leaf: jnp.full_like(leaf, spread)
    )


def evaluation_spread(task: Task) -> float:
    """The spread that evaluations use unless told: the task's own, and 0.1 where its own start is always the same."""
    return float(task.environment.start_spread) or PERTURBATION


def has_single_start(task: Task) -> bool:
    """Whether the task by itself always starts from the same state."""
    return float(task.environment.start_spread) == 0.0


@eqx.filter_jit
def run_batch(task: Task, policy: Policy, keys: Key[Array, " lanes"]) -> tuple[Any, Step]:
    """The states at the start [lanes], and every step [T, lanes]."""
    environment = task.environment

    def step(state: Any, memory: Any, alive: Array, key: PRNGKeyArray) -> tuple[Any, Any, Array, Step]:
        decision = policy.decide(environment.observe(state), memory)
        moved = environment.step(state, decision.action, key)
        # A lane that has ended stays where it was, so that it cannot run away into overflow.
        state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), moved.state, state)
        seen = seen_step(alive, state, decision, moved)
        return state, decision.memory, alive & ~(moved.terminated | moved.truncated), seen

    def advance(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        t, state, memory, alive, steps = carry
        state, memory, alive, seen = jax.vmap(step)(
            state, memory, alive, jax.vmap(jax.random.fold_in, (0, None))(keys, t)
        )
        steps = jax.tree.map(lambda rows, row: rows.at[t].set(row), steps, seen)
        return t + 1, state, memory, alive, steps

    def going_on(carry: tuple[Any, ...]) -> Array:
        t, _, _, alive, _ = carry
        return (t < environment.episode_steps) & jnp.any(alive)

    lanes = keys.shape[0]
    start, memory = first_states(environment, keys), first_memories(policy, lanes)
    alive = jnp.ones(lanes, bool)
    shapes = eqx.filter_eval_shape(jax.vmap(step), start, memory, alive, keys)[3]
    steps = jax.tree.map(lambda row: jnp.zeros((environment.episode_steps, *row.shape), row.dtype), shapes)
    *_, steps = jax.lax.while_loop(going_on, advance, (jnp.array(0), start, memory, alive, steps))
    return start, steps


def first_states(environment: Environment, keys: Key[Array, " lanes"]) -> Any:
    """The states in which the episodes of `keys` begin."""
    fold_in = jax.vmap(jax.random.fold_in, (0, None))
    return jax.vmap(environment.reset)(fold_in(keys, environment.episode_steps))


def first_memories(policy: Policy, lanes: int) -> Any:
    """What the policy remembers before its first decisions."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (lanes, *jnp.shape(leaf))), policy.initial_memory())


def seen_step(alive: Array, state: Any, decision: Decision, moved: Transition) -> Step:
    """A step of one lane that leads to `state`."""
    plan = decision.plan
    return Step(
        alive=alive,
        state=state,
        action=decision.action,
        reward=moved.reward,
        terminated=moved.terminated,
        success=moved.info.success,
        violation=moved.info.violation,
        failed=jnp.asarray(decision.failed),
        parameters=decision.parameters,
        status=None if plan is None else plan.status,
        iterations=None if plan is None else plan.iterations,
        planned_states=None if plan is None else plan.states,
        planned_controls=None if plan is None else plan.controls,
    )
