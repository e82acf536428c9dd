r"""Copies of a Gymnasium environment, each found by where it stands: (seed, t, hash of the actions so far).

    starts(seeds)                       o_0 of every seed
    steps(seeds, t, h, …, actions)      the copy at (seed, t, h) takes a and stands at (seed, t + 1, h') afterwards

What was answered once is answered again without a step; a place that its copy has left is reached anew, from its seed
and through the same actions. All that presumes that the environment is deterministic given its seed.
"""

import dataclasses
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import gymnasium
import jax.numpy as jnp
import numpy as np

Key = tuple[int, int, int]
"""Seed, steps since, hash of the actions."""
K = TypeVar("K")
V = TypeVar("V")


@dataclasses.dataclass(frozen=True)
class _Answer:
    """What a step led to."""

    history: int
    observation: np.ndarray
    reward: float
    terminated: bool
    truncated: bool


class Copies:
    """The copies of one environment, found by where they stand. Of everything the oldest makes room.

    **Arguments:**

    - `build`: makes another copy.
    - `first`: one that was made already.
    - `most`: copies that are kept.
    - `steps`: the longest episode.
    """

    def __init__(
        self, build: Callable[[], gymnasium.Env[Any, Any]], first: gymnasium.Env[Any, Any], most: int, steps: int
    ):
        self._build, self._most, self._made = build, most, 1
        self._idle = [first]
        self._standing: OrderedDict[Key, gymnasium.Env[Any, Any]] = OrderedDict()
        self._starts = _Recent[int, np.ndarray](4 * most)
        self._answers = _Recent[tuple[Key, bytes], _Answer](4 * most)
        self._came_from = _Recent[Key, tuple[Key, np.ndarray]](most * steps)
        self._lock = threading.Lock()

    def starts(self, seeds: Any) -> np.ndarray:
        """First observations, for seeds of any shape."""
        seeds = np.asarray(seeds)
        with self._lock:
            rows = [self._start(seed) for seed in seeds.ravel().tolist()]
        return np.stack(rows).reshape(*seeds.shape, -1).astype(jnp.result_type(float))

    def steps(
        self, seeds: Any, steps: Any, histories: Any, ended: Any, seen: Any, actions: Any
    ) -> tuple[np.ndarray, ...]:
        """One step of every lane, for leading axes of any shape."""
        shape = np.shape(seeds)
        flat = [np.asarray(column).ravel().tolist() for column in (seeds, steps, histories, ended)]
        rows = (np.asarray(block).reshape(len(flat[0]), -1) for block in (seen, actions))
        with self._lock:
            answers = [
                _Answer(history, observation, 0.0, False, False) if over else self._step((seed, step, history), action)
                for seed, step, history, over, observation, action in zip(*flat, *rows, strict=True)
            ]
        return (
            np.array([answer.history for answer in answers], np.uint32).reshape(shape),
            np.stack([answer.observation for answer in answers]).reshape(*shape, -1).astype(jnp.result_type(float)),
            np.array([answer.reward for answer in answers], jnp.result_type(float)).reshape(shape),
            np.array([answer.terminated for answer in answers]).reshape(shape),
            np.array([answer.truncated for answer in answers]).reshape(shape),
        )

    def _start(self, seed: int) -> np.ndarray:
        if seed not in self._starts:
            env = self._free()
            self._starts.keep(seed, np.asarray(env.reset(seed=seed)[0]).ravel())
            self._idle.append(env)
        return self._starts[seed]

    def _step(self, key: Key, action: np.ndarray) -> _Answer:
        asked = (key, action.tobytes())
        if asked not in self._answers:
            env = self._standing.pop(key, None) or self._walk(key)
            self._answers.keep(asked, self._go(env, key, action))
        return self._answers[asked]

    def _go(self, env: gymnasium.Env[Any, Any], key: Key, action: np.ndarray) -> _Answer:
        """Step the copy that stands at `key`."""
        observation, reward, terminated, truncated, _ = env.step(action.astype(env.action_space.dtype))
        seed, step, history = key
        after = (seed, step + 1, zlib.crc32(action.tobytes(), history))
        self._came_from.keep(after, (key, action))
        if terminated or truncated:
            self._idle.append(env)
        else:
            self._standing[after] = env
        return _Answer(after[2], np.asarray(observation).ravel(), float(reward), bool(terminated), bool(truncated))

    def _walk(self, key: Key) -> gymnasium.Env[Any, Any]:
        """A copy that stands at `key`, brought there from the start."""
        way: list[np.ndarray] = []
        while key[1] > 0:
            if key not in self._came_from:
                raise RuntimeError(
                    f"the episode with seed {key[0]} is not known after {key[1]} steps: it is that of another process "
                    "(a run in a Gymnasium environment cannot be resumed), or too old; more copies= remember longer."
                )
            key, action = self._came_from[key]
            way.append(action)
        env = self._free()
        env.reset(seed=key[0])
        for action in reversed(way):
            env.step(action.astype(env.action_space.dtype))
        return env

    def _free(self) -> gymnasium.Env[Any, Any]:
        if self._idle:
            return self._idle.pop()
        if self._made < self._most:
            self._made += 1
            return self._build()
        return self._standing.popitem(last=False)[1]


class _Recent(OrderedDict[K, V]):
    """A dictionary of at most `most` entries, the last ones kept."""

    def __init__(self, most: int):
        super().__init__()
        self._most = most

    def keep(self, key: K, value: V) -> None:
        self[key] = value
        if len(self) > self._most:
            self.popitem(last=False)
