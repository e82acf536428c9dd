"""Tasks as Gymnasium environments: `gymnasium.make("planahead/CartPole-v0")`.

An `Environment` here is a pure function of a state and a key; a Gymnasium environment remembers both. Observations and
actions are float32 in physical units; `info` holds `violation` and `success`.

One environment steps in about a tenth of a millisecond, nearly all of it the way into JAX and back.
`gymnasium.make_vec` therefore steps its environments together: see `planahead.interop.gymnasium_vector`.
"""

from typing import Any

import equinox as eqx
import gymnasium
import jax
import numpy as np
from gymnasium.spaces import Box

from planahead.tasks import Environment, Task, make_task, render


class GymnasiumTask(gymnasium.Env[np.ndarray, np.ndarray]):
    """A task's world behind Gymnasium's interface.

    **Arguments:**

    - `task`: a `Task`, or the name of one as in `make_task`.
    - `render_mode`: `None` or `"rgb_array"`.
    - `options`: for `make_task`, where `task` is a name: `gymnasium.make("planahead/CartPole-v0", start_spread=0.1)`.

    **Raises:** `ValueError` for an action that has the wrong shape or is not finite; one outside the bounds is clipped.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012  declared so by Gymnasium

    def __init__(self, task: Task | str, render_mode: str | None = None, **options: Any):
        self.task = as_task(task, options)
        world = self.task.environment
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode is '{render_mode}'; use None or 'rgb_array'.")
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": round(1 / world.time_step)}
        self.observation_space, self.action_space = spaces(world)
        self._world = world
        self._state: Any = None
        self._key: jax.Array | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode. With a `seed` it, and those that follow until the next seed, are the same on every run."""
        super().reset(seed=seed)
        if options:
            raise ValueError(f"reset got options {sorted(options)}; the start is set by options of the task instead.")
        if seed is not None or self._key is None:
            self._key = jax.random.key(int(self.np_random.integers(2**32)))
        self._state, observation, self._key = _reset(self._world, self._key)
        return np.asarray(observation, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._key is None:
            raise RuntimeError("step was called before the first reset; call reset first.")
        action = checked_action(action, (self._world.action_size,))
        transition, self._key = _step(self._world, self._state, action, self._key)
        self._state = transition.state
        observation, reward, terminated, truncated, violation, success = jax.device_get(
            (
                transition.observation,
                transition.reward,
                transition.terminated,
                transition.truncated,
                transition.info.violation,
                transition.info.success,
            )
        )
        info = {"violation": bool(violation), "success": bool(success)}
        return np.asarray(observation, np.float32), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> np.ndarray | None:
        if self._key is None:
            raise RuntimeError("render was called before the first reset; call reset first.")
        return None if self.render_mode is None else render(self._world, self._state)


def as_task(task: Task | str, options: dict[str, Any]) -> Task:
    """`task` itself, or the one that it names."""
    if isinstance(task, str):
        return make_task(task, **options)
    if options:
        raise ValueError(f"options {sorted(options)} came beside a finished task; give them to it, or name the task.")
    return task


def spaces(world: Environment) -> tuple[Box, Box]:
    """The observation and action spaces of `world`."""

    def box(low: tuple[float, ...], high: tuple[float, ...]) -> Box:
        return Box(np.asarray(low, np.float32), np.asarray(high, np.float32), dtype=np.float32)

    return box(world.observation_low, world.observation_high), box(world.action_low, world.action_high)


def checked_action(action: Any, shape: tuple[int, ...]) -> np.ndarray:
    """`action` as a float32 array of `shape`, or an error that says what is wrong with it."""
    action = np.asarray(action, np.float32)
    if action.shape != shape:
        raise ValueError(f"an action of shape {action.shape} came; expected {shape}.")
    if not np.isfinite(action).all():
        raise ValueError(f"the action {action} is not finite; look for a NaN in the policy.")
    return action


# Compiled once for all environments of the same kind, since the environment is an argument.
@eqx.filter_jit
def _reset(world: Environment, key: jax.Array):
    key, start = jax.random.split(key)
    state = world.reset(start)
    return state, world.observe(state), key


@eqx.filter_jit
def _step(world: Environment, state: Any, action: Any, key: jax.Array):
    key, noise = jax.random.split(key)
    return world.step(state, action, noise), key
