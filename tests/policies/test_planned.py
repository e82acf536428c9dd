"""The planning policy: what it draws, where the noise enters, what it remembers, and what it refuses."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.learning import SAC
from planahead.planning import solve
from planahead.policies import ActionBox, NoisePlace, PlannerPolicy, Proposal, SquashedGaussian, steering
from planahead.policies.stochastic import ANCHOR_MARGIN
from tests.learning.probes import ProbeTask, SteeredProblem, probe
from tests.learning.test_soft_losses import experience

OBSERVATION = jnp.array([0.3])
KEY = jax.random.key(5)


def planner_policy(noise: NoisePlace = "parameters", problem: Any = None, **settings: Any) -> PlannerPolicy:
    return PlannerPolicy(
        SteeredProblem() if problem is None else problem,
        lambda observation: observation,
        (1.0,),
        ActionBox((-1.0,), (1.0,)),
        noise=noise,
        hidden=(16,),
        key=jax.random.key(0),
        **settings,
    )


def test_noise_at_the_parameters_is_filtered_by_the_planner():
    policy = planner_policy(problem=SteeredProblem(limit=0.5))
    distribution = SquashedGaussian(*jnp.split(policy.network(OBSERVATION), 2))
    for key in jax.random.split(KEY, 5):
        decision, drawn = policy.decide(OBSERVATION, key=key), distribution.sample(key)
        assert decision.parameters is not None
        np.testing.assert_allclose(decision.parameters, drawn.value, atol=1e-6)  # the box of φ is [-1, 1]
        np.testing.assert_allclose(decision.log_probability, drawn.log_probability, rtol=1e-5)
        np.testing.assert_allclose(decision.action, jnp.clip(drawn.value, -0.5, 0.5), atol=1e-3)
        np.testing.assert_array_equal(decision.action, decision.plan.controls[0])


def test_noise_at_the_action_is_anchored_at_the_plan():
    policy = planner_policy("action")
    proposal = policy.propose(OBSERVATION, KEY)
    assert proposal.action_log_std is not None
    for target in (-0.7, 0.0, 0.4):
        still = eqx.tree_at(lambda p: (p.unit, p.action_noise), proposal, (jnp.array([target]), jnp.zeros(1)))
        np.testing.assert_allclose(policy.execute(OBSERVATION, still).action, [target], atol=2e-4)
        noisy = policy.execute(OBSERVATION, eqx.tree_at(lambda p: p.unit, proposal, jnp.array([target])))
        density = SquashedGaussian(jnp.arctanh(noisy.plan.controls[0]), proposal.action_log_std)
        np.testing.assert_allclose(noisy.log_probability, density.log_probability(noisy.action), rtol=1e-3, atol=1e-3)
        assert noisy.action != still.unit


@pytest.mark.parametrize("noise", ["parameters", "action"])
def test_without_a_key_the_plan_is_the_decision(noise):
    policy = planner_policy(noise)
    decision = policy.decide(OBSERVATION)
    np.testing.assert_array_equal(decision.action, decision.plan.controls[0])
    np.testing.assert_array_equal(decision.action, policy.decide(OBSERVATION).action)
    assert decision.log_probability == 0.0 and not decision.failed


def test_noise_at_a_saturated_action_is_finite():
    policy = planner_policy("action")

    def drawn(target):
        proposal = eqx.tree_at(lambda p: p.unit, policy.propose(OBSERVATION, KEY), target)
        decision = policy.execute(OBSERVATION, proposal)
        return decision.log_probability + decision.action.sum()

    value, slope = jax.value_and_grad(drawn)(jnp.array([1.0]))
    assert np.isfinite(value) and np.isfinite(slope).all()


def test_residual_starts_at_the_default_problem():
    problem = SteeredProblem(target=jnp.array(0.8))
    at_default, in_the_middle = (planner_policy(problem=problem, residual=switch) for switch in (True, False))
    np.testing.assert_allclose(at_default.propose(OBSERVATION).unit, [0.8], atol=0.02)
    np.testing.assert_allclose(in_the_middle.propose(OBSERVATION).unit, [0.0], atol=0.02)
    edge = planner_policy(problem=SteeredProblem(target=jnp.array(1.0)), residual=True)
    np.testing.assert_allclose(edge.propose(OBSERVATION).unit, [1.0], atol=2 * ANCHOR_MARGIN)


def test_a_bad_observation_is_a_failure_and_not_an_exception():
    decision = planner_policy().execute(jnp.array([jnp.nan]), Proposal(jnp.array([0.3]), jnp.zeros(())))
    assert decision.failed and not decision.gradient_valid and np.isfinite(decision.action).all()


def test_updates_of_a_critic_over_parameters_never_plan(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("planned in an update")

    learner = SAC(critic="parameters", hidden_units=16, replay_size=16)
    task = ProbeTask(environment=probe())
    state = learner.init(task, planner_policy(), KEY)
    monkeypatch.setattr(steering, "solve", refuse)
    eqx.filter_eval_shape(learner.update, state, experience(), KEY)
    with pytest.raises(AssertionError, match="planned in an update"):
        eqx.filter_eval_shape(dataclasses.replace(learner, critic="action").update, state, experience(), KEY)


def test_a_warm_start_is_the_previous_plan_shifted(monkeypatch):
    guesses = []

    def spy(problem, state, *, guess, planner):
        guesses.append(guess)
        return solve(problem, state, guess=guess, planner=planner)

    monkeypatch.setattr(steering, "solve", spy)
    policy = planner_policy(warm_start=True)
    first = policy.decide(OBSERVATION, policy.initial_memory())
    np.testing.assert_array_equal(guesses[0].states, [OBSERVATION, OBSERVATION])  # cold: no control, so no motion
    assert not guesses[0].controls.any()
    second = policy.decide(OBSERVATION + 0.1, first.memory)
    np.testing.assert_array_equal(guesses[1].controls, first.plan.shift().controls)
    np.testing.assert_array_equal(guesses[1].states, first.plan.shift().states)
    failed = policy.decide(jnp.array([jnp.nan]), second.memory)
    assert failed.failed and not failed.memory.known
    for decision in (first, second, failed):
        assert jax.tree.structure(decision.memory) == jax.tree.structure(policy.initial_memory())
    assert planner_policy().decide(OBSERVATION).memory is None and guesses[-1] is None


def test_only_the_network_is_trained():
    policy = planner_policy()
    trained = eqx.filter(policy, policy.trainable())
    assert len(jax.tree.leaves(trained)) == len(jax.tree.leaves(eqx.filter(policy.network, eqx.is_inexact_array)))
    assert trained.steering.problem.target is None


class OpenProblem(pa.Problem):
    """A parameter without a box."""

    horizon: int = pa.static(1)
    state_size: int = pa.static(1)
    control_size: int = pa.static(1)
    gain: pa.Array = pa.parameter(1.0)

    def dynamics(self, x, u):
        return x + self.gain * u


REFUSALS = [
    (lambda: planner_policy(names=("aim",)), "SteeredProblem has no parameter 'aim'; its parameters are: target"),
    (lambda: planner_policy(names=()), "has no parameter for the policy to write"),
    (lambda: planner_policy(problem=OpenProblem()), "parameter gain has no finite box"),
    (
        lambda: PlannerPolicy(SteeredProblem(), lambda o: o, (1.0,), ActionBox((-1.0,) * 2, (1.0,) * 2), key=KEY),
        "plans 1 controls and the environment takes 2 actions",
    ),
    (lambda: ActionBox((0.0,), (float("inf"),)), "needs one finite pair with low < high"),
]


@pytest.mark.parametrize(("build", "message"), REFUSALS)
def test_what_does_not_fit_is_refused_in_words(build, message):
    with pytest.raises(ValueError, match=message):
        build()
