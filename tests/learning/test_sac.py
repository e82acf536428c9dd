"""The learner as a program: the same numbers from the same seed, across a save and a load, and refusals in words."""

import dataclasses
import io
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.learning import SAC, Metrics, SACState
from planahead.policies import Decision, Policy
from tests.learning.probes import QUICK, ProbeTask, direct_policy, probe

LEARNER = QUICK
TASK = ProbeTask(environment=probe(sign=1.0, base=1.0, of_action=1.0, turn=0.5, length=5))
FIRST = LEARNER.steps_per_chunk


def start(seed: int) -> SACState:
    return LEARNER.init(TASK, direct_policy(seed), jax.random.key(seed))


def go_on(state: SACState, chunks: range) -> tuple[SACState, Metrics]:
    metrics = {}
    for chunk in chunks:
        state, metrics = LEARNER.advance(state, jax.random.fold_in(jax.random.key(3), chunk))
    return state, metrics


def saved(tree) -> bytes:
    stream = io.BytesIO()
    eqx.tree_serialise_leaves(stream, tree)
    return stream.getvalue()


def test_the_same_seed_gives_the_same_bytes():
    first, again, other = (saved(go_on(start(seed), range(2))) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_saved_run_goes_on_to_the_same_bytes():
    without_break = saved(go_on(start(0), range(3)))
    half, _ = go_on(start(0), range(1))
    loaded = eqx.tree_deserialise_leaves(io.BytesIO(saved(half)), start(1))
    assert saved(go_on(loaded, range(1, 3))) == without_break


def test_a_state_can_be_advanced_twice():
    """`advance` is a function: it leaves its argument as it was, so that an interrupted chunk loses nothing."""
    state, _ = go_on(start(0), range(1))
    before = saved(state)
    first, _ = go_on(state, range(1, 2))
    second, _ = go_on(state, range(1, 2))
    assert saved(first) == saved(second) and saved(state) == before


def test_a_chunk_is_compiled_once(monkeypatch):
    state, _ = go_on(start(0), range(1))

    def traced_again(*_):
        raise AssertionError("advance is compiled anew")

    monkeypatch.setattr(SAC, "_act", traced_again)
    go_on(state, range(1, 4))
    go_on(start(1), range(1))


@pytest.mark.long
def test_repetitions_train_side_by_side():
    keys = jax.random.split(jax.random.key(0), 3)

    @eqx.filter_jit
    @eqx.filter_vmap
    def both(key):
        return LEARNER.advance(LEARNER.init(TASK, direct_policy(), key), key)

    after, metrics = both(keys)
    assert metrics["return"].shape == (3,) and after.steps.tolist() == [FIRST] * 3
    alone, _ = LEARNER.advance(LEARNER.init(TASK, direct_policy(), keys[1]), keys[1])
    np.testing.assert_allclose(after.replay.rows[1, :256], alone.replay.rows[:256], atol=1e-5)  # until learning begins


def test_metrics_say_what_happened():
    state, metrics = go_on(start(0), range(1))
    assert set(metrics) == {
        "episodes",
        *("return", "episode_length", "success_rate", "violations_per_step", "violations_per_episode", "failed_solves"),
        *("critic_loss", "actor_loss", "temperature", "entropy", "failed_updates", "steps"),
    }
    assert metrics["steps"] == FIRST == state.steps == state.replay.count
    assert metrics["episode_length"] == 5 and metrics["success_rate"] == 1.0
    assert 0 < metrics["violations_per_step"] < metrics["violations_per_episode"] < 1
    assert metrics["failed_solves"] == metrics["failed_updates"] == 0.0


def test_nothing_is_learned_while_warming_up():
    learner = dataclasses.replace(LEARNER, warm_up_steps=FIRST)
    state, metrics = learner.advance(start(0), jax.random.key(0))
    assert saved(state.policy) == saved(start(0).policy) and saved(state.critic) == saved(start(0).critic)
    assert np.isnan(metrics["critic_loss"])
    spread = np.std(state.replay.rows[:FIRST, 1])
    np.testing.assert_allclose(spread, 1 / np.sqrt(3), rtol=0.05)  # actions are uniform on [-1, 1]


def test_stored_transitions_are_those_of_the_world():
    state, _ = go_on(start(0), range(1))
    rows = state.replay.sample(jax.random.key(0), 100)
    np.testing.assert_allclose(rows.reward, 1 - (rows.point - 0.5 * rows.observation)[:, 0] ** 2, rtol=1e-5)
    np.testing.assert_array_equal(rows.observation, rows.next_observation)  # the sign stays for a whole episode
    assert 0 < rows.terminated.mean() < 0.5


def test_the_last_observation_of_an_episode_is_stored_before_the_reset():
    length = 4
    task = ProbeTask(environment=probe(clock=1.0, length=length, truncates=1.0))
    state, _ = LEARNER.advance(LEARNER.init(task, direct_policy(), jax.random.key(0)), jax.random.key(1))
    rows = state.replay.sample(jax.random.key(0), 100)
    np.testing.assert_allclose(rows.next_observation, rows.observation + 1 / length, rtol=1e-6)
    assert rows.next_observation.max() == 1.0 and not rows.terminated.any()


REFUSALS = [
    (dict(steps_per_chunk=1001), "steps_per_chunk=1001 is not a multiple of environments=16; use 992 or 1008"),
    (dict(environments=2), "environments=2 is not a multiple of steps_per_update=4; use 4"),
    (dict(replay_size=100), "replay_size=100 is not a multiple of environments=16; use 96 or 112"),
    (dict(discount=1.0), "discount=1.0; expected 0 <= discount < 1"),
    (dict(polyak=0.0), "polyak=0.0; expected 0 < polyak <= 1"),
    (dict(learning_rate=-1e-3), "learning_rate=-0.001; a positive number was expected"),
    (dict(batch_size=0), "batch_size=0; at least 1 was expected"),
    (dict(warm_up_steps=-1), "warm_up_steps=-1; expected 0 or more"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSALS)
def test_settings_that_do_not_fit_are_refused_in_words(settings, message):
    with pytest.raises(ValueError, match=message):
        SAC(**settings)


@final
class SilentPolicy(Policy):
    """Decides without saying how probable its decision was."""

    def initial_memory(self) -> None:
        return None

    def settings(self) -> dict:
        return {}

    def decide(self, observation, memory=None, key=None) -> Decision:
        return Decision(observation, jnp.zeros(()))


def test_only_stochastic_policies_are_trained():
    with pytest.raises(ValueError, match="knows the density of what it draws; got SilentPolicy"):
        SAC().check(SilentPolicy())
