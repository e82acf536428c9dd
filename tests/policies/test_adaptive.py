"""A planner that decides when and how far ahead to plan: it follows its rules, and learns what computing less costs."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.learning import regret
from planahead.learning.regret import Measured, fit_regrets, measure
from planahead.policies.adaptive import AdaptivePlanner, advanced, stretched

TASK = pa.make_task("mass-spring-damper")
FAR = TASK.problem
SHORT = dataclasses.replace(FAR, horizon=3)
STATE = jnp.array([1.0, 0.0])
PLANNER = pa.SQP(iterations=5, gradient_tolerance=1e-2)


def policy(**settings) -> AdaptivePlanner:
    return AdaptivePlanner(
        (SHORT, FAR), TASK.planner_state, TASK.action_box, planner=PLANNER, hidden=(32,), key=jax.random.key(0),
        **settings,
    )  # fmt: skip


def run(policy: AdaptivePlanner, steps: int, push: float = 0.0) -> tuple[list[int], list[np.ndarray]]:
    """Options and actions along an episode by the model."""
    decide = eqx.filter_jit(policy.decide)
    x, memory, chosen, actions = STATE, policy.initial_memory(), [], []
    for _ in range(steps):
        decision = decide(x, memory)
        x, memory = FAR.dynamics(x, decision.action) + push, decision.memory
        chosen.append(int(memory.chosen))
        actions.append(np.asarray(decision.action))
    return chosen, actions


@pytest.mark.long
def test_a_plan_is_followed_to_its_end_and_not_further():
    chosen, actions = run(policy(computation=(0.0, 1.0, 9.0)), 7)
    assert chosen == [1, 0, 0, 1, 0, 0, 1]
    np.testing.assert_allclose(actions[:3], pa.solve(SHORT, STATE, planner=PLANNER).controls, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(("patience", "expected"), [(1, [2, 2, 2, 2, 2]), (2, [2, 0, 2, 0, 2]), (3, [2, 0, 0, 2, 0])])
def test_patience_is_planning_in_every_nth_step(patience, expected):
    assert run(policy(computation=(0.0, 1e6, 1.0), patience=patience), 5)[0] == expected


@pytest.mark.long
def test_learned_regrets_decide_by_price():
    """Of a network that knows that going on costs |x - x̂| and the short horizon 2."""
    wise = policy()
    layers = wise.network.layers
    assert len(layers) == 2
    first = jnp.zeros_like(layers[0].weight).at[2, 0].set(1.0).at[2, 1].set(-1.0)  # the deviation of x_0
    last = jnp.zeros_like(layers[1].weight).at[0, 0].set(100.0).at[1, 0].set(100.0)
    bias = jnp.array([0.0, jnp.log1p(2.0), 0.0])
    network = eqx.tree_at(
        lambda network: (network.layers[0].weight, network.layers[1].weight, network.layers[1].bias),
        wise.network,
        (first, last, bias),
    )
    wise = eqx.tree_at(lambda policy: (policy.network, policy.price), wise, (network, jnp.array(0.1)))
    np.testing.assert_allclose(wise.regrets(jnp.zeros(7).at[2].set(-0.01)), [np.expm1(1.0), 2.0, 0.0], rtol=1e-5)
    assert run(wise, 4)[0] == [2, 0, 0, 0], "a plan that holds is followed; 17 stages at 0.1 are dearer than nothing"
    assert run(wise, 4, push=0.1)[0] == [2, 2, 2, 2], "one that does not is made anew"
    dear = eqx.tree_at(lambda policy: policy.price, wise, jnp.array(1.0))
    assert run(dear, 3, push=0.1)[0] == [1, 1, 1], "and shorter, where that is cheaper by more than it costs"


@pytest.mark.long
def test_one_lane_and_many_decide_alike():
    some = policy(computation=(0.0, 1.0, 9.0))
    memory = some.decide(STATE, some.initial_memory()).memory
    fresh = jax.tree.map(lambda a, b: jnp.stack([a, b]), memory, some.initial_memory())
    states = jnp.stack([FAR.dynamics(STATE, memory.plan.controls[0]), STATE])
    together = jax.vmap(some.decide)(states, fresh)
    np.testing.assert_array_equal(together.memory.chosen, [0, 1])
    np.testing.assert_array_equal(together.parameters, [[0.0], [3.0]])
    for lane in range(2):
        alone = some.decide(states[lane], jax.tree.map(lambda leaf, lane=lane: leaf[lane], fresh))
        np.testing.assert_allclose(together.action[lane], alone.action, atol=1e-5)


@pytest.mark.long
def test_a_failed_plan_is_not_followed():
    strict = eqx.tree_at(
        lambda policy: policy.problems, policy(), (SHORT, eqx.tree_at(lambda p: p.mass, FAR, jnp.array(jnp.nan)))
    )
    forced = eqx.tree_at(lambda policy: policy.computation, strict, jnp.array([0.0, 1e6, 1.0]))
    decision = forced.decide(STATE, forced.initial_memory())
    assert bool(decision.failed) and not bool(decision.memory.known) and bool(jnp.isfinite(decision.action).all())


def test_shapes_of_plans_fit_one_another():
    plan = pa.solve(SHORT, STATE, planner=PLANNER)
    longer = stretched(plan, 17)
    assert jax.tree.map(jnp.shape, longer) == jax.tree.map(jnp.shape, pa.solve(FAR, STATE, planner=PLANNER))
    np.testing.assert_array_equal(advanced(longer).controls[0], plan.controls[1])
    np.testing.assert_array_equal(longer.controls[3:], jnp.repeat(plan.controls[2:], 17, axis=0))


@pytest.mark.long
def test_measured_regret_is_what_the_longest_planner_loses():
    """Q(x, u) - Q(x, u*) of a linear planner, from its own action values."""
    some = policy()
    found = measure(TASK, some, jax.random.key(1), 2, 3)
    assert found.features.shape == (6, 7) and found.regrets.shape == (6, 3)
    first = np.array([0, 3])  # of every world: no plan is there to be followed
    assert not bool(found.usable[first, 0].any()) and bool(found.usable[first, 1:].all())

    def lost(x):
        short = pa.solve(SHORT, x, planner=PLANNER).controls[0]
        return pa.action_value(FAR, x, short, planner=PLANNER) - pa.value(FAR, x, planner=PLANNER)

    expected = jax.vmap(lost)(found.features[:, :2])
    assert float(expected.max()) > 5e-3
    np.testing.assert_allclose(found.regrets[:, 1], expected, rtol=5e-2, atol=1e-3)
    np.testing.assert_allclose(found.regrets[:, 2], 0.0, atol=1e-3)


def test_regression_learns_regrets():
    features = jax.random.uniform(jax.random.key(0), (600, 7), minval=-1.0, maxval=1.0)
    regrets = jnp.stack([10 * features[:, 2] ** 2, jnp.abs(features[:, 0]), jnp.zeros(600)], axis=1)
    measured = Measured(features, regrets, jnp.ones((600, 3), bool))
    start, fitting = jax.random.split(jax.random.key(1))
    found = fit_regrets(policy(), measured, start, fitting, 2000, 64, 5e-3, 60)
    assert float(found.error) < 0.4 * float(found.spread)
    told = found.policy.regrets(jnp.array([0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    assert told[1] > 0.4 > told[2]
    nothing = dataclasses.replace(measured, regrets=0 * regrets)
    with pytest.raises(ValueError, match="no option ever cost more than another"):
        fit_regrets(policy(), nothing, start, fitting, 1, 8, 1e-3, 60)
    unjudged = dataclasses.replace(measured, usable=measured.usable.at[-60:].set(False))
    with pytest.raises(ValueError, match="no solve succeeded in the 60 steps that are kept to judge by"):
        fit_regrets(policy(), unjudged, start, fitting, 1, 8, 1e-3, 60)


class Fitting(Exception):
    """Where the regression would begin."""


@pytest.mark.parametrize(("lanes", "judged"), [(2, 1), (19, 1), (40, 4)])
def test_whole_worlds_are_kept_to_judge_by(lanes, judged, monkeypatch):
    def begun(*given):
        raise Fitting(given[-1])

    monkeypatch.setattr(regret, "measure", lambda *_: None)
    monkeypatch.setattr(regret, "fit_regrets", begun)
    with pytest.raises(Fitting) as found:
        pa.fit_adaptive_planner(TASK, policy(), jax.random.key(0), lanes=lanes, steps=7)
    assert found.value.args == (7 * judged,)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"problems have horizons \[20, 3\]; at least one was expected, the longest"):
        AdaptivePlanner((FAR, SHORT), TASK.planner_state, TASK.action_box, key=jax.random.key(0))
    with pytest.raises(ValueError, match="3 numbers were expected, of going on and of every problem"):
        policy(computation=(1.0, 2.0))
    for wrong in ({"patience": 0}, {"price": -1.0}):
        with pytest.raises(ValueError, match="a price of 0 or more and a patience of 1 step or more were expected"):
            policy(**wrong)
    with pytest.raises(ValueError, match="lanes=1; at least two worlds"):
        pa.fit_adaptive_planner(TASK, policy(), jax.random.key(0), lanes=1)
