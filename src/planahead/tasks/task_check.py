"""Whether the parts of a task fit each other: what a learner would otherwise find out deep inside, or never.

Looked at are the names and boxes, the shapes and types of what each method returns (by tracing it), and one episode of
random actions: its numbers are finite, and it ends.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from planahead.problem import at_stage
from planahead.problem.fields import parameter_boxes
from planahead.tasks.environment import Environment, StepInfo, Transition
from planahead.tasks.task import Task
from planahead.words import shown


def check_task(task: Task[Any, Any], seed: int = 0) -> None:
    """Look at a task as a whole before anything is planned or learned with it.

    `seed` draws the start, the actions and the noise of the episode that is looked at.

    **Raises:** `ValueError` with the first thing that is wrong, and what was expected.

    >>> import planahead as pa
    >>> pa.check_task(pa.make_task("cartpole"))
    """
    complaints = itertools.chain(_of_names(task), _of_shapes(task), _of_an_episode(task.environment, seed))
    for complaint in complaints:  # no later one is looked for
        raise ValueError(complaint)


def _of_names(task: Task[Any, Any]) -> Iterator[str]:
    world, problem = task.environment, task.problem
    name = type(world).__name__
    for what, others in (("observation", ("low", "high", "scale")), ("action", ("low", "high"))):
        names = getattr(world, f"{what}_names")
        for other in others:
            entries = getattr(world, f"{what}_{other}")
            if len(entries) != len(names):
                yield (
                    f"{name}.{what}_{other} has {len(entries)} entries and {what}_names has {len(names)}; one for each "
                    f"entry of the {what} is expected."
                )
    for low, high, action in zip(world.action_low, world.action_high, world.action_names, strict=False):
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            yield f"{name}: the action «{action}» is between {low} and {high}; finite bounds, low < high, are expected."
    for low, high, observation in zip(
        world.observation_low, world.observation_high, world.observation_names, strict=False
    ):
        if not low <= high:
            yield f"{name}: the observation «{observation}» is between {low} and {high}; low <= high is expected."
    for scale, observation in zip(world.observation_scale, world.observation_names, strict=False):
        if not (math.isfinite(scale) and scale > 0):
            yield f"{name}.observation_scale of «{observation}» is {scale}; a finite number above 0 is expected."
    if not 0 < world.time_step < math.inf:
        yield f"{name}.time_step is {world.time_step}; a finite number above 0, in s, is expected."
    if not (isinstance(world.episode_steps, int) and world.episode_steps >= 1):
        yield f"{name}.episode_steps is {world.episode_steps!r}; a whole number of at least 1 is expected."
    if len(task.state_names) != problem.state_size:
        yield (
            f"{type(task).__name__}.state_names has {len(task.state_names)} entries; {type(problem).__name__} has "
            f"state_size = {problem.state_size}."
        )
    known = list(parameter_boxes(problem))
    for parameter in task.learned_parameters:
        if parameter not in known:
            yield (
                f"{type(task).__name__}.learned_parameters has {parameter!r}; the parameters of "
                f"{type(problem).__name__} are: {', '.join(known) or 'none'}."
            )


def _of_shapes(task: Task[Any, Any]) -> Iterator[str]:
    world, problem, key = task.environment, task.problem, jax.random.key(0)
    name, number = type(world).__name__, jnp.result_type(float)
    observations, actions = len(world.observation_names), len(world.action_names)
    state = eqx.filter_eval_shape(world.reset, key)
    action = jax.ShapeDtypeStruct((actions,), number)
    yield from _numbers(f"{name}.observe", eqx.filter_eval_shape(world.observe, state), (observations,))
    outcome = eqx.filter_eval_shape(world.step, state, action, key)
    if not isinstance(outcome, Transition):
        yield f"{name}.step returns a {type(outcome).__name__}; a Transition is expected."
        return
    yield from _numbers(f"the observation of {name}.step", outcome.observation, (observations,))
    yield from _numbers(f"the reward of {name}.step", outcome.reward, ())
    if not isinstance(outcome.info, StepInfo):
        yield f"the info of {name}.step is a {type(outcome.info).__name__}; a StepInfo(violation, success) is expected."
        return
    flags = {"terminated": outcome.terminated, "truncated": outcome.truncated}
    flags |= {"info.violation": outcome.info.violation, "info.success": outcome.info.success}
    for flag, array in flags.items():
        if not isinstance(array, jax.ShapeDtypeStruct):
            yield f"{flag} of {name}.step is a {type(array).__name__}, no array; jnp.array({array}) is expected."
        elif array.shape != () or array.dtype != jnp.bool_:
            yield f"{flag} of {name}.step is {_described(array)}; a bool of shape () is expected."
    if jax.tree.structure(outcome.state) != jax.tree.structure(state):
        yield f"{name}.step returns a state of another structure than {name}.reset."
        return
    for (path, before), after in zip(
        jax.tree_util.tree_flatten_with_path(state)[0], jax.tree.leaves(outcome.state), strict=True
    ):
        what = f"the state{jax.tree_util.keystr(path)}"
        for method, leaf in (("reset", before), ("step", after)):
            if not isinstance(leaf, jax.ShapeDtypeStruct):
                yield f"{what} is a {type(leaf).__name__} from {name}.{method}; an array is expected."
                return
        if (before.shape, before.dtype) != (after.shape, after.dtype):
            yield (
                f"{what} is {_described(before)} from {name}.reset and {_described(after)} from {name}.step; they must "
                "be the same."
            )
    observation = jax.ShapeDtypeStruct((observations,), number)
    planned = eqx.filter_eval_shape(task.planner_state, observation)
    yield from _numbers(f"{type(task).__name__}.planner_state", planned, (problem.state_size,))
    x, u = (jax.ShapeDtypeStruct((size,), number) for size in (problem.state_size, problem.control_size))
    told = eqx.filter_eval_shape(at_stage(problem, 0).action, x, u)
    yield from _numbers(f"{type(problem).__name__}.action, which {name} is told,", told, (actions,))


def _numbers(what: str, array: Any, shape: tuple[int, ...]) -> Iterator[str]:
    if not isinstance(array, jax.ShapeDtypeStruct):
        yield f"{what} is a {type(array).__name__}; an array of shape {shape} is expected."
    elif array.shape != shape or not jnp.issubdtype(array.dtype, jnp.floating):
        yield f"{what} is {_described(array)}; floating-point numbers of shape {shape} are expected."


def _described(array: Any) -> str:
    return f"{array.dtype} of shape {array.shape}"


def _of_an_episode(world: Environment[Any], seed: int) -> Iterator[str]:
    name, steps = type(world).__name__, int(world.episode_steps)
    low, high = np.asarray(world.action_low, float), np.asarray(world.action_high, float)
    actions = np.random.default_rng(seed).uniform(low, high, (steps, len(low)))

    @eqx.filter_jit
    def episode(world: Environment[Any], actions: jax.Array) -> tuple[jax.Array, Any]:
        start, *keys = jax.random.split(jax.random.key(seed), steps + 1)
        state = world.reset(start)

        def advance(state: Any, inputs: Any) -> tuple[Any, Any]:
            outcome = world.step(state, *inputs)
            return outcome.state, (outcome.observation, outcome.reward, outcome.terminated, outcome.truncated)

        return world.observe(state), jax.lax.scan(advance, state, (actions, jnp.stack(keys)))[1]

    first, outcomes = jax.tree.map(np.asarray, episode(world, jnp.asarray(actions, float)))
    observations, rewards, terminated, truncated = outcomes
    if not np.isfinite(first).all():
        yield f"the first observation of {name} is {shown(first)}; finite numbers are expected."
    ends = np.flatnonzero(terminated | truncated)
    last = int(ends[0]) if len(ends) else steps - 1
    for step in range(last + 1):
        before = first if step == 0 else observations[step - 1]
        if not (np.isfinite(rewards[step]) and np.isfinite(observations[step]).all()):
            yield (
                f"{name}.step with the action {shown(actions[step])}, from the observation {shown(before)}, gives "
                f"the reward {rewards[step]} and the observation {shown(observations[step])}; finite numbers are "
                "expected."
            )
            return
    if not len(ends):
        yield (
            f"an episode of {name} with random actions has not ended after episode_steps = {steps} steps; `truncated` "
            "must be true then, unless `terminated` is."
        )
    elif terminated[last] and truncated[last]:
        yield (
            f"step {last} of an episode of {name} is both terminated and truncated; truncate only what is not "
            "terminated."
        )
