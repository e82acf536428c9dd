"""Many copies of a task's world, stepped together: `gymnasium.make_vec("planahead/CartPole-v0", num_envs=256)`.

All copies advance in one compiled call: a step of hundreds costs about as much as a step of one. An episode that ended
starts anew on the next step, whose action is ignored (`AutoresetMode.NEXT_STEP`, what Gymnasium's own vector
environments do by default), and the numbers are those of `gymnasium.vector.SyncVectorEnv` with the same seed.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from planahead.interop.gymnasium import as_task, checked_action, spaces
from planahead.tasks import Environment, StepInfo, Task, Transition


class GymnasiumVectorTask(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """`num_envs` worlds of one task behind Gymnasium's vector interface.

    **Arguments:** as for `GymnasiumTask`, without rendering.
    """

    def __init__(self, task: Task | str, num_envs: int = 1, render_mode: str | None = None, **options: Any):
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; expected at least 1.")
        if render_mode is not None:
            raise ValueError(f"render_mode is '{render_mode}'; worlds that step together are not drawn: use None.")
        self.task = as_task(task, options)
        self.num_envs = num_envs
        self.render_mode = None
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space, self.single_action_space = spaces(self.task.environment)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._keys: jax.Array | None = None
        self._states: Any = None
        self._ended = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in every world. A `seed` is for the first one; the others get the numbers that follow."""
        if options:
            raise ValueError(f"reset got options {sorted(options)}; the start is set by options of the task instead.")
        if isinstance(seed, int):
            seed = [seed + lane for lane in range(self.num_envs)]
        if seed is not None or self._keys is None:
            self._keys = self._first_keys([None] * self.num_envs if seed is None else seed)
        self._states, observations, self._keys = _reset(self.task.environment, self._keys)
        self._ended = np.zeros(self.num_envs, bool)
        return np.array(observations, np.float32), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self._keys is None:
            raise RuntimeError("step was called before the first reset; call reset first.")
        actions = checked_action(actions, (self.num_envs, self.task.environment.action_size))
        transition, self._keys = _step(self.task.environment, self._states, actions, self._keys, self._ended)
        self._states = transition.state
        stepped = ~self._ended
        terminated, truncated = np.array(transition.terminated), np.array(transition.truncated)
        self._ended = terminated | truncated
        info = {"violation": np.array(transition.info.violation), "success": np.array(transition.info.success)}
        info |= {f"_{name}": stepped for name in info}
        observations, rewards = np.array(transition.observation, np.float32), np.array(transition.reward, np.float64)
        return observations, rewards, terminated, truncated, info

    def _first_keys(self, seeds: list[int | None]) -> jax.Array:
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds came for {self.num_envs} worlds; give one number, or one for each.")
        words = [int(seeding.np_random(seed)[0].integers(2**32)) for seed in seeds]
        return jax.vmap(jax.random.key)(np.asarray(words, np.uint32))


@eqx.filter_jit
def _reset(world: Environment, keys: jax.Array):
    def lane(key):
        key, start = jax.random.split(key)
        state = world.reset(start)
        return state, world.observe(state), key

    return jax.vmap(lane)(keys)


@eqx.filter_jit
def _step(world: Environment, states: Any, actions: Any, keys: jax.Array, ended: Any):
    def lane(state, action, key, ended):
        key, noise = jax.random.split(key)
        stepped = world.step(state, action, noise)
        fresh = world.reset(noise)
        no = jnp.zeros_like(stepped.terminated)
        restarted = Transition(
            state=fresh,
            observation=world.observe(fresh),
            reward=jnp.zeros_like(stepped.reward),
            terminated=no,
            truncated=no,
            info=StepInfo(violation=no, success=no),
        )
        return jax.tree.map(lambda new, old: jnp.where(ended, new, old), restarted, stepped), key

    return jax.vmap(lane)(states, actions, keys, ended)
