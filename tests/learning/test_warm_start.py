"""A warm start from the default planner: what is imitated, that it is learned, and that nothing depends on a break."""

import dataclasses
import io
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.learning import SAC
from planahead.learning.off_policy import OffPolicy
from planahead.learning.warm_start import demonstrate, imitate
from planahead.policies import DirectPolicy, StochasticPolicy
from planahead.policies.stochastic import held_inside
from tests.learning.probes import AIM_AT_HALF, QUICK, QUICK_TD3, ProbeTask, SteeredProblem, direct_policy
from tests.learning.steered import SteeredPolicy
from tests.learning.test_sac import saved
from tests.learning.test_soft_losses import steered
from tests.policies.test_planned import planner_policy

DEFAULT = 0.6
TASK = ProbeTask(environment=AIM_AT_HALF, problem=SteeredProblem(target=jnp.array(DEFAULT)))
SWITCH: dict[str, Any] = dict(imitation_steps=300, imitation_hold_steps=0, steps_per_chunk=256)
SEEN = jnp.array([[-1.0], [1.0]])


def after_chunks(learner: OffPolicy[Any], policy: StochasticPolicy, chunks: int) -> tuple[Any, Any]:
    state, metrics = learner.init(TASK, policy, jax.random.key(1)), {}
    for chunk in range(chunks):
        state, metrics = learner.advance(state, jax.random.key(chunk))
    return state, metrics


def proposals(policy: StochasticPolicy) -> np.ndarray:
    return np.asarray(jax.vmap(lambda o: policy.propose(o).unit[0])(SEEN))


def test_what_is_demonstrated():
    """A policy that acts is shown the planned action, one that plans the default parameters."""
    for policy in (direct_policy(), planner_policy(problem=TASK.problem)):
        shown = demonstrate(policy, TASK, SEEN[0])
        np.testing.assert_allclose(shown.unit, [DEFAULT], atol=1e-4)
        assert shown.usable
    assert not demonstrate(direct_policy(), TASK, jnp.array([jnp.nan])).usable


@pytest.mark.long
@pytest.mark.parametrize("kind", ["acts", "plans"])
def test_before_the_first_reward_counts_the_policy_is_the_default_planner(kind: str):
    """Half of the warm-up is the default planner's, and all of what imitation leaves behind."""
    policy = direct_policy() if kind == "acts" else planner_policy(problem=TASK.problem)
    place = "action" if kind == "acts" else "parameters"
    learner = dataclasses.replace(QUICK, critic=place, **SWITCH)
    state, metrics = after_chunks(learner, policy, 1)
    assert np.abs(proposals(state.policy) - DEFAULT).min() > 0.3 and np.isnan(metrics["imitation_loss"])
    rows = state.replay.rows[: learner.warm_up_steps, 1].reshape(-1, learner.environments)
    np.testing.assert_allclose(rows[:, : learner.environments // 2], DEFAULT, atol=1e-3)
    assert np.std(rows[:, learner.environments // 2 :]) == pytest.approx(1 / np.sqrt(3), rel=0.15)
    imitated, loss = eqx.filter_jit(learner._imitate)(state, jax.random.key(5))
    np.testing.assert_allclose(proposals(imitated.policy), DEFAULT, atol=0.05)
    assert loss < 1e-2
    for a, b in ((imitated.critic, state.critic), (imitated.log_temperature, state.log_temperature)):
        assert saved(a) == saved(b)


@pytest.mark.long
def test_the_target_policy_imitates_too():
    state, _ = after_chunks(dataclasses.replace(QUICK_TD3, **SWITCH), direct_policy(), 1)
    imitated, _ = eqx.filter_jit(dataclasses.replace(QUICK_TD3, **SWITCH)._imitate)(state, jax.random.key(5))
    assert isinstance(imitated.policy, DirectPolicy)
    network, target = imitated.policy.network, imitated.target_policy.network
    assert saved(network) == saved(target) != saved(state.policy)


def test_the_target_policy_starts_from_imitation_once_and_lags_behind_afterwards():
    learner = dataclasses.replace(QUICK_TD3, **SWITCH)
    state, _ = after_chunks(learner, direct_policy(), 2)
    later, loss = eqx.filter_jit(learner._imitate)(state, jax.random.key(5))
    assert np.isnan(loss) and saved(later) == saved(state)
    assert isinstance(later.policy, DirectPolicy)
    assert saved(later.target_policy.network) != saved(later.policy.network)


@pytest.mark.long
def test_it_happens_once_and_a_break_changes_nothing():
    """Saved right before imitation, loaded into a fresh state: the run goes on to the same bytes."""
    learner = dataclasses.replace(QUICK, **SWITCH)
    first, _ = after_chunks(learner, direct_policy(), 1)
    fresh = learner.init(TASK, direct_policy(3), jax.random.key(9))
    loaded = eqx.tree_deserialise_leaves(io.BytesIO(saved(first)), fresh)
    found = []
    for state in (first, loaded):
        state, second = learner.advance(state, jax.random.key(1))
        state, third = learner.advance(state, jax.random.key(2))
        assert np.isfinite(second["imitation_loss"]) and np.isnan(third["imitation_loss"])
        found.append(saved(state))
    assert found[0] == found[1]


@pytest.mark.long
@pytest.mark.parametrize("learner", [QUICK, QUICK_TD3], ids=["sac", "td3"])
def test_who_acts_stays_while_critics_learn(learner: OffPolicy[Any]):
    """For two chunks; in the next they learn together."""
    tuned = dataclasses.replace(learner, tune_temperature=True) if isinstance(learner, SAC) else learner
    held = dataclasses.replace(tuned, **SWITCH | dict(imitation_hold_steps=512))
    after = [after_chunks(held, direct_policy(), chunks)[0] for chunks in (2, 3, 4)]
    acting = [lambda s: s.policy, lambda s: s.optimisers.policy]
    if isinstance(learner, SAC):
        acting += [lambda s: s.log_temperature, lambda s: s.optimisers.temperature]
    else:
        acting += [lambda s: s.target_policy]
    for part in acting:
        first, second, third = (saved(part(state)) for state in after)
        assert first == second != third
    for part in (lambda s: s.critic, lambda s: s.target_critic, lambda s: s.optimisers.critic):
        first, second, third = (saved(part(state)) for state in after)
        assert first != second != third
    np.testing.assert_allclose(proposals(after[1].policy), DEFAULT, atol=0.05)


def test_other_clocks_wait_for_the_end_of_the_hold():
    learner = SAC(imitation_steps=10, blend=0.5, blend_steps=4_000)
    assert int(learner.learning_since(jnp.array(2_000))) == -10_000
    np.testing.assert_allclose([learner.blend_at(jnp.array(s)) for s in (2_000, 12_000, 14_000)], [0.5, 0.5, 0.25])
    without = dataclasses.replace(learner, imitation_steps=0)
    assert int(without.learning_since(jnp.array(2_000))) == 0


def test_targets_at_the_ends_of_the_box_are_held_inside():
    """A policy that says them as near as it can has nothing left to learn; executed is the default planner's own."""
    task = ProbeTask(environment=AIM_AT_HALF, problem=SteeredProblem(target=jnp.array(5.0)))
    policy = direct_policy()
    says = jnp.array([math.atanh(held_inside(jnp.ones(1))[0]), 0.0])
    last = policy.network.layers[-1]
    policy = eqx.tree_at(
        lambda p: (p.network.layers[-1].weight, p.network.layers[-1].bias), policy, (0 * last.weight, says)
    )
    np.testing.assert_allclose(demonstrate(policy, task, SEEN[0]).unit, 1.0, atol=1e-3)
    found = imitate(policy, task, SEEN, QUICK.adam(), 1, 64, jax.random.key(1))
    assert found.loss < 1e-6


REFUSALS = [
    (dict(imitation_hold_steps=-1), "imitation_hold_steps=-1; expected 0"),
    (dict(imitation_steps=-1), "imitation_steps=-1; expected 0"),
    (dict(imitation_steps=10, warm_up_steps=100), "warm_up_steps=100 is not a multiple of steps_per_chunk=2000"),
    (dict(imitation_steps=10, warm_up_steps=0), "warm_up_steps=0; imitation needs states to imitate in"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSALS)
def test_settings_that_do_not_fit_are_refused_in_words(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        SAC(**settings)


def test_a_policy_without_a_demonstrator_is_refused_in_words():
    assert isinstance(steered(), SteeredPolicy)
    with pytest.raises(ValueError, match="SteeredPolicy names none; give it a `default_unit"):
        SAC(imitation_steps=10).init(TASK, steered(), jax.random.key(0))
