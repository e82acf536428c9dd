"""Experience replay: the newest transitions in one preallocated array, drawn from uniformly.

    rows [capacity, width]:   row i = one transition, its leaves flattened side by side
    insert: rows[count mod capacity : … + n] ← n new ones,   sample: i ~ U{0, …, min(count, capacity) - 1}

One array instead of one per field makes an insertion one contiguous write and a draw one gather. Numbers other than
floats (flags, iteration counts) are stored as floats, exact up to 2²⁴ in float32."""

import math
from typing import Any, Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

Item = TypeVar("Item")


class Replay(eqx.Module, Generic[Item]):
    """A ring of items, all pytrees shaped like `example`.

    `batch` items are inserted at a time; `capacity` is a multiple of it, so that an insertion never wraps around.

    >>> replay = Replay(example=jnp.zeros(2), capacity=4, batch=2)
    >>> for value in (1.0, 2.0, 3.0):
    ...     replay = replay.insert(jnp.full((2, 2), value))
    >>> replay.rows[:, 0].tolist(), int(replay.size)
    ([3.0, 3.0, 2.0, 2.0], 4)
    """

    rows: Float[Array, "capacity width"]
    count: Int[Array, ""]
    """Items inserted so far."""
    batch: int = eqx.field(static=True)
    structure: Any = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    dtypes: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, example: Item, capacity: int, batch: int = 1):
        if capacity <= 0 or capacity % batch != 0:
            raise ValueError(
                f"replay of {capacity} items is filled {batch} at a time; make it a positive multiple of {batch}, "
                f"e.g. {max(1, round(capacity / batch)) * batch}"
            )
        leaves, self.structure = jax.tree.flatten(example)
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        self.shapes = tuple(leaf.shape for leaf in leaves)
        self.dtypes = tuple(str(leaf.dtype) for leaf in leaves)
        self.batch = batch
        self.rows = jnp.zeros((capacity, sum(math.prod(shape) for shape in self.shapes)))
        self.count = jnp.zeros((), jnp.int32)

    @property
    def capacity(self) -> int:
        return self.rows.shape[0]

    @property
    def size(self) -> Int[Array, ""]:
        """Items that can be drawn."""
        return jnp.minimum(self.count, self.capacity)

    def insert(self, items: Item) -> "Replay[Item]":
        """Add `batch` items, leaves `[batch, ...]`, over the oldest ones."""
        leaves = self.structure.flatten_up_to(items)
        columns = [jnp.reshape(leaf, (self.batch, -1)).astype(self.rows.dtype) for leaf in leaves]
        rows = jax.lax.dynamic_update_slice_in_dim(
            self.rows, jnp.concatenate(columns, axis=1), self.count % self.capacity, axis=0
        )
        return eqx.tree_at(lambda replay: (replay.rows, replay.count), self, (rows, self.count + self.batch))

    def sample(self, key: PRNGKeyArray, number: int) -> Item:
        """Draw `number` items with replacement, leaves `[number, ...]`. Before the first insertion they are zeros."""
        return self._items(jax.random.randint(key, (number,), 0, jnp.maximum(self.size, 1)))

    def front(self, number: int) -> Item:
        """The first `number` rows, leaves `[number, ...]`: what was inserted first, until the ring has come round."""
        return self._items(jnp.arange(number))

    def newest(self) -> Item:
        """What was inserted last, leaves `[batch, ...]`."""
        return self._items((self.count - self.batch + jnp.arange(self.batch)) % self.capacity)

    def windows(self, key: PRNGKeyArray, number: int, length: int, stride: int) -> "Windows[Item]":
        """Draw `number` sequences of `length` items that were inserted `stride` apart: of environments side by side,
        `stride` of them, the steps of one in their order. What is not inserted yet is not `stored`.

        >>> replay = Replay(example=jnp.zeros(()), capacity=6, batch=2)
        >>> for value in (1.0, 2.0, 3.0, 4.0):
        ...     replay = replay.insert(jnp.array([value, -value]))
        >>> rows, stored = replay.windows(jax.random.key(0), 1, length=3, stride=2)
        >>> rows.tolist(), stored.tolist()
        ([[-2.0, -3.0, -4.0]], [[True, True, True]])
        """
        first = jax.random.randint(key, (number, 1), 0, jnp.maximum(self.size, 1))
        age = first + stride * jnp.arange(length)[None]
        oldest = jnp.where(self.count > self.capacity, self.count % self.capacity, 0)
        return Windows(self._items((oldest + age) % self.capacity), age < self.size)

    def _items(self, index: Int[Array, "*shape"]) -> Item:
        rows = jnp.take(self.rows, index, axis=0, mode="clip")
        ends = [0]
        for shape in self.shapes:
            ends.append(ends[-1] + math.prod(shape))
        leaves = [
            jnp.reshape(rows[..., start:stop], (*index.shape, *shape)).astype(dtype)
            for start, stop, shape, dtype in zip(ends[:-1], ends[1:], self.shapes, self.dtypes, strict=True)
        ]
        return jax.tree.unflatten(self.structure, leaves)


class Windows(NamedTuple, Generic[Item]):
    """Sequences of items."""

    rows: Item
    """Leaves `[number, length, ...]`."""
    stored: Bool[Array, "number length"]
