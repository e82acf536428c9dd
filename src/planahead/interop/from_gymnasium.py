r"""Any Gymnasium environment as a world that planahead's learners can act in.

    s = (seed, t, h, o)      h: hash of the actions so far, o: the observation, which is all that JAX sees
    step(s, a)               the copy that stands at (seed, t, h) takes a, and stands at (seed, t + 1, h') afterwards

An `Environment` is a pure function, a Gymnasium environment remembers. Where it stands is determined by its seed and
the actions since, so that pair is the state, and the copy that stands there is found by it. A step that is asked for
twice has one answer, lanes never mix, and a state that its copy has left is reached again from its seed, through the
same actions. All that presumes that the environment is deterministic given its seed, as Gymnasium asks of it.

The way out of a compiled program is `jax.pure_callback`, once for all lanes. The copies step one after the other, in
Python: a learner is as slow as its environment. Nothing here can be differentiated, or moved to another process.

Observations become float32 (JAX's precision, where it is 64 bits), as networks take them.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from planahead.interop.gymnasium_copies import Copies
from planahead.problem import static
from planahead.tasks import Environment, StepInfo, Transition
from planahead.tasks.environment import constant


class GymnasiumState(eqx.Module):
    """Where an episode stands."""

    seed: UInt32[Array, ""]
    step: Int[Array, ""]
    """Steps since the start."""
    ended: Bool[Array, ""]
    """Nothing moves any more."""
    history: UInt32[Array, ""]
    """Hash of the actions since."""
    observation: Float[Array, " observation"]


@final
class FromGymnasium(Environment[GymnasiumState]):
    """A Gymnasium environment with one-dimensional boxes of observations and actions.

    Observation: the environment's own.
    Action: the environment's own, clipped to its box.
    Reward: the environment's own.
    Terminates: when the environment does.
    Truncates: when the environment does, after `max_episode_steps` of its specification, unless it terminates.
    Success: never; `info` of Gymnasium has no common name for it.
    Violation: never.
    Start: the environment's own, from a seed that `reset` draws.

    **Arguments:**

    - `make`: makes one copy: `lambda: gymnasium.make("Pendulum-v1")`, or the name.
    - `observation_scale`: typical magnitudes; 1 for unbounded entries, the larger bound for others unless given.
    - `copies`: the most that are kept; one for every lane of a learner, and one for every lane of an evaluation.

    **Raises:** `ValueError` for spaces that are no one-dimensional boxes, actions without bounds, scales of another
    number than the observations, and an environment without a time limit.
    """

    observation_names: tuple[str, ...] = static()
    observation_low: tuple[float, ...] = static()
    observation_high: tuple[float, ...] = static()
    observation_scale: tuple[float, ...] = static()
    action_names: tuple[str, ...] = static()
    action_low: tuple[float, ...] = static()
    action_high: tuple[float, ...] = static()
    time_step: float = static()  # s
    episode_steps: int = static()
    start_spread: Array = constant(0.0)
    """Not used: starts are the environment's own."""
    _copies: Copies = static()

    def __init__(
        self,
        make: Callable[[], gymnasium.Env[Any, Any]] | str,
        observation_scale: tuple[float, ...] | None = None,
        copies: int = 256,
    ):
        build = functools.partial(gymnasium.make, make) if isinstance(make, str) else make
        first = build()
        low, high = _box("observations", first.observation_space)
        self.observation_low, self.observation_high = low, high
        self.observation_names = tuple(f"observation {entry}" for entry in range(len(low)))
        sizes = tuple(max(abs(a), abs(b)) for a, b in zip(low, high, strict=True))
        guessed = tuple(size if math.isfinite(size) and size > 0 else 1.0 for size in sizes)
        self.observation_scale = guessed if observation_scale is None else tuple(map(float, observation_scale))
        if len(self.observation_scale) != len(low):
            raise ValueError(
                f"observation_scale has {len(self.observation_scale)} entries and an observation {len(low)}; give the "
                "typical magnitude of each."
            )
        self.action_low, self.action_high = _box("actions", first.action_space)
        if not np.isfinite([*self.action_low, *self.action_high]).all():
            raise ValueError(
                f"the actions {first.action_space} have no bounds; give them finite ones: "
                "gymnasium.wrappers.TransformAction(env, lambda action: action, Box(low, high))."
            )
        self.action_names = tuple(f"action {entry}" for entry in range(len(self.action_low)))
        limit = None if first.spec is None else first.spec.max_episode_steps
        if limit is None:
            raise ValueError(
                f"{first} has no time limit; make it with gymnasium.make(..., max_episode_steps=...), so that episodes "
                "end."
            )
        self.episode_steps = limit
        self.time_step = float(getattr(first.unwrapped, "dt", 1.0))
        self.start_spread = jnp.zeros(())
        self._copies = Copies(build, first, copies, limit)

    def reset(self, key: PRNGKeyArray) -> GymnasiumState:
        seed = jax.random.bits(key, dtype=jnp.uint32)
        shape = jax.ShapeDtypeStruct((self.observation_size,), jnp.result_type(float))
        observation = jax.pure_callback(self._copies.starts, shape, seed, vmap_method="broadcast_all")
        return GymnasiumState(seed, jnp.array(0), jnp.array(False), jnp.array(0, jnp.uint32), observation)

    def observe(self, state: GymnasiumState) -> Float[Array, " observation"]:
        return state.observation

    def step(
        self, state: GymnasiumState, action: Float[Array, " action"], key: PRNGKeyArray
    ) -> Transition[GymnasiumState]:
        del key  # the copy has drawn from its own seed
        dtype = jnp.result_type(float)
        action = jnp.clip(action, jnp.asarray(self.action_low, dtype), jnp.asarray(self.action_high, dtype))
        shapes = (
            jax.ShapeDtypeStruct((), jnp.uint32),
            jax.ShapeDtypeStruct((self.observation_size,), dtype),
            jax.ShapeDtypeStruct((), dtype),
            jax.ShapeDtypeStruct((), bool),
            jax.ShapeDtypeStruct((), bool),
        )
        where = (state.seed, state.step, state.history)
        history, observation, reward, terminated, truncated = jax.pure_callback(
            self._copies.steps, shapes, *where, state.ended, state.observation, action, vmap_method="broadcast_all"
        )
        no = jnp.zeros_like(terminated)
        return Transition(
            state=GymnasiumState(
                state.seed, state.step + 1, state.ended | terminated | truncated, history, observation
            ),
            observation=observation,
            reward=reward,
            terminated=terminated,
            truncated=truncated & ~terminated,
            info=StepInfo(violation=no, success=no),
        )


def _box(what: str, space: gymnasium.Space[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Bounds. **Raises** `ValueError` for what is no box of numbers with one axis."""
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise ValueError(
            f"the {what} are {space}; a Box with one axis was expected (wrap the environment: FlattenObservation, for "
            "instance)."
        )
    return tuple(space.low.astype(float).tolist()), tuple(space.high.astype(float).tolist())
