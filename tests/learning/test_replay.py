"""The replay keeps the newest items whole and draws every one of them as often as any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from planahead.learning import Replay


def item(number):
    """A pytree of several types, told apart by `number`."""
    number = jnp.asarray(number)
    return {
        "matrix": number + jnp.array([[0.0, 0.1, 0.2], [0.5, 0.6, 0.7]]),
        "flag": number % 2 == 0,
        "count": number.astype(jnp.int32),
        "nothing": None,
    }


def filled(batches: int, capacity: int = 6, batch: int = 2) -> Replay:
    replay = Replay(item(0), capacity, batch)
    for i in range(batches):
        replay = replay.insert(jax.vmap(item)(jnp.arange(i * batch, (i + 1) * batch)))
    return replay


def test_items_come_back_as_they_went_in():
    drawn = filled(2).sample(jax.random.key(0), 50)
    assert drawn["flag"].dtype == bool and drawn["count"].dtype == jnp.int32 and drawn["nothing"] is None
    expected = jax.vmap(item)(drawn["count"])
    for name in ("matrix", "flag"):
        np.testing.assert_array_equal(drawn[name], expected[name])


@pytest.mark.parametrize(
    ("batches", "kept"), [(1, {0, 1}), (3, set(range(6))), (4, set(range(2, 8))), (11, set(range(16, 22)))]
)
def test_the_newest_are_kept(batches: int, kept: set[int]):
    replay = filled(batches)
    assert int(replay.size) == len(kept) and int(replay.count) == 2 * batches
    assert set(np.asarray(replay.sample(jax.random.key(1), 500)["count"]).tolist()) == kept


def test_the_front_is_what_came_first_until_the_ring_comes_round():
    assert filled(2).front(3)["count"].tolist() == [0, 1, 2]
    assert filled(4).front(3)["count"].tolist() == [6, 7, 2]


def test_draws_are_uniform():
    drawn = np.asarray(filled(7).sample(jax.random.key(2), 6_000)["count"])
    assert stats.chisquare(np.bincount(drawn - drawn.min(), minlength=6)).pvalue > 0.01


def test_insertion_and_draw_work_under_jit_and_scan():
    def body(replay, numbers):
        return replay.insert(jax.vmap(item)(numbers)), replay.size

    compiled, sizes = jax.jit(lambda r: jax.lax.scan(body, r, jnp.arange(8).reshape(4, 2)))(filled(0))
    np.testing.assert_array_equal(compiled.rows, filled(4).rows)
    assert sizes.tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize("capacity", [0, 7])
def test_a_capacity_that_does_not_fit_is_refused(capacity: int):
    with pytest.raises(ValueError, match="is filled 2 at a time; make it a positive multiple of 2"):
        Replay(item(0), capacity, 2)
