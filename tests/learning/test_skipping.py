"""Who acts and for how long: targets of all sub-skips by hand, what is chosen, and an end of all trust."""

import dataclasses
import io
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.learning import Replay
from planahead.learning.off_policy import IMITATION, SKIPPING
from planahead.learning.skipping import Skipping, SkipState
from planahead.learning.soft_losses import Experience
from planahead.policies import ActionBox, DirectPolicy, Network
from tests.learning.integrator import Integrator, IntegratorTask
from tests.learning.test_sac import saved

PART = Skipping(length=3, until=100, price=0.0, exploration=0.0, discount=0.5, polyak=0.1, learning_rate=1e-2)


def constant(outputs: list[float]) -> Network:
    """Says the same everywhere."""
    network = Network((1.0,), len(outputs), hidden=(), last_gain=1.0, key=jax.random.key(0))
    where = network.layers[0].weight, network.layers[0].bias
    return eqx.tree_at(
        lambda n: (n.layers[0].weight, n.layers[0].bias), network, (0 * where[0], jnp.array(outputs, float))
    )


def rows(reward: Any, led: Any, terminated: Any = (0, 0, 0), truncated: Any = (0, 0, 0)) -> Experience:
    """One window."""
    flags = [jnp.array(flag, bool)[None] for flag in (terminated, truncated, led)]
    observation = jnp.zeros((1, 3, 1))
    return Experience(
        observation, jnp.zeros((1, 3, 1)), jnp.array(reward, float)[None], observation, flags[0],
        jnp.zeros((1, 3), bool), led=flags[2], ended=flags[0] | flags[1],
    )  # fmt: skip


def squared(values: list[float], aims: list[float]) -> float:
    return 0.5 * float(np.mean((np.array(values) - np.array(aims)) ** 2))


VALUES = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
AFTER = 8.0
TARGET = [0.0, AFTER, 0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("window", "stored", "values", "aims"),
    [
        # The expert all along: after one, two and three steps the best option goes on.
        (rows([1, 2, 4], (1, 1, 1)), (1, 1, 1), VALUES[3:], [1 + 4, 1 + 1 + 2, 1 + 1 + 1 + 1]),
        # A change of hands after two steps of π's own.
        (rows([1, 2, 4], (0, 0, 1)), (1, 1, 1), VALUES[:2], [5, 4]),
        # The episode ran out of time after two steps, or ended there for good.
        (rows([1, 2, 4], (1, 1, 1), truncated=(0, 1, 0)), (1, 1, 1), VALUES[3:5], [5, 4]),
        (rows([1, 2, 4], (1, 1, 1), terminated=(0, 1, 0)), (1, 1, 1), VALUES[3:5], [5, 2]),
        # No more than one step is stored.
        (rows([1, 2, 4], (1, 1, 1)), (1, 0, 0), VALUES[3:4], [5]),
    ],
)
def test_every_stretch_teaches_every_option_that_it_begins_with(
    window: Experience, stored: Any, values: Any, aims: Any
):
    loss = PART.loss(constant(VALUES), constant(TARGET), window, jnp.array(stored, bool)[None], jnp.array(0))
    np.testing.assert_allclose(loss, squared(values, aims), rtol=1e-6)


def test_the_expert_costs_more_and_more_and_is_asked_less_and_less():
    part, window = dataclasses.replace(PART, price=2.0), rows([1, 2, 4], (1, 1, 1))
    stored, target = jnp.ones((1, 3), bool), constant([0.0, 0.0, 0.0, 0.0, 0.0, AFTER])
    found = [part.loss(constant(VALUES), target, window, stored, jnp.array(t)) for t in (0, 50)]
    # Half way a step costs 1, and three steps of the expert are no option any more; what is left is worth 0.
    expected = [squared([4, 5, 6], [5, 4, 4]), squared([4, 5, 6], [0, 0.5, 1.25])]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert [int(part.longest(jnp.array(t))) for t in (-10, 0, 50, 99, 100)] == [3, 3, 2, 1, 0]


def leading(skip: SkipState, observation: jax.Array, steps: int, part: Skipping = PART) -> SkipState:
    return part.choose(skip, observation, jnp.array(steps), jax.random.key(steps % 7))


def test_it_learns_whom_to_trust():
    """One step a life; the expert earns where the observation is positive, and π where it is not."""
    part = dataclasses.replace(PART, learning_rate=3e-3)
    keys = jax.random.split(jax.random.key(0), 3)
    sign = jnp.where(jax.random.bernoulli(keys[0], shape=(256, 1)), 1.0, -1.0)
    led, over = jax.random.bernoulli(keys[1], shape=(256,)), jnp.ones(256, bool)
    reward = jnp.where(led == (sign[:, 0] > 0), 1.0, 0.0)
    lived = Experience(sign, sign, reward, sign, over, ~over, led=led, ended=over)
    replay = Replay(jax.tree.map(lambda leaf: leaf[0], lived), 256, 256).insert(lived)
    network = Network((1.0,), 6, hidden=(16,), last_gain=1.0, key=keys[2])
    moments = part._adam().init(eqx.filter(network, eqx.is_inexact_array))
    skip = SkipState(network, network, moments, jnp.zeros(256, bool), jnp.zeros(256, jnp.int32))
    for steps in (1, 2):
        skip, metrics = part.learn(skip, replay, 64, 300, jnp.array(steps), keys[2])
    values = jnp.reshape(jax.vmap(skip.network)(sign), (256, 2, 3))[:, :, 0]  # a life is no longer
    np.testing.assert_allclose(values[:, 1], sign[:, 0] > 0, atol=0.1)
    np.testing.assert_allclose(values[:, 0], sign[:, 0] < 0, atol=0.1)
    assert float(metrics["longest_trust"]) == 3.0


def test_an_option_is_kept_until_it_is_over_or_the_expert_is_trusted_no_longer():
    expert_for_three = constant([0.0, 0.0, 0.0, 1.0, 1.0, 2.0])
    skip = SkipState(expert_for_three, expert_for_three, None, jnp.zeros(2, bool), jnp.zeros(2, jnp.int32))
    observation = jnp.zeros((2, 1))
    skip = leading(skip, observation, 1)
    assert skip.leads.all() and skip.left.tolist() == [3, 3]
    skip = leading(skip.passed(jnp.array([False, True])), observation, 2)
    assert skip.left.tolist() == [2, 3]  # the second environment began an episode, and chose anew
    skip = leading(skip.passed(jnp.zeros(2, bool)), observation, 80)
    assert skip.leads.all() and skip.left.tolist() == [1, 1]  # no longer than is allowed by now
    skip = leading(skip, observation, 100)
    assert not skip.leads.any()


SMALL: dict[str, Any] = {
    "environments": 4, "warm_up_steps": 80, "steps_per_chunk": 80, "replay_size": 400, "batch_size": 16,
    "skip_length": 3, "skip_until": 160, "hidden_units": 16, "hidden_layers": 1,
}  # fmt: skip


@pytest.mark.long
def test_trust_ends_and_the_policy_is_left_alone():
    task = IntegratorTask(environment=Integrator(start_spread=jnp.array(0.5)))
    policy = DirectPolicy((1.0, 2.0), ActionBox((-20.0,), (20.0,)), hidden=(16,), key=jax.random.key(0))
    learner = pa.TD3(**SMALL)
    state, told = learner.init(task, policy, jax.random.key(1)), []
    for chunk in range(4):
        state, metrics = learner.advance(state, jax.random.key(chunk))
        told.append(metrics)
    shares = [float(m["expert_share"]) for m in told]
    assert 0.2 < shares[0] < 0.8 and shares[1] > 0 and shares[3] == 0.0
    assert [float(m["longest_trust"]) for m in told][-1] == 0.0
    assert float(told[0]["skip_loss"]) == 0.0 < float(told[1]["skip_loss"])
    led = state.replay._items(jnp.arange(320)).led
    assert led is not None and 0 < int(led.sum()) < 240
    assert learner.policy(state) is state.policy and isinstance(state.policy, DirectPolicy)
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, state)
    file.seek(0)
    again, _ = learner.advance(eqx.tree_deserialise_leaves(file, state), jax.random.key(9))
    assert saved(again) == saved(learner.advance(state, jax.random.key(9))[0])


@pytest.mark.parametrize("part", [IMITATION, SKIPPING])
def test_a_part_draws_with_a_key_of_its_own(part: int):
    """`fold_in(key, i)` is entry i of `split(key, n)`: options drawn with the world's key would know its next start."""
    key = jax.random.key(0)
    split, own = jax.random.split(key, 1_000), jax.random.fold_in(key, part)
    assert not (jax.random.key_data(split) == jax.random.key_data(own)[None]).all(axis=1).any()


def test_what_steers_a_planner_has_no_skip_policy():
    with pytest.raises(ValueError, match=r"a skip policy lets an expert act in the place .*PlannerPolicy proposes"):
        pa.make_algorithm("sac-zop", pa.make_task("cartpole"), jax.random.key(0), skip_length=3)
    with pytest.raises(ValueError, match="skip_length=-1; expected 0"):
        pa.SAC(skip_length=-1)
