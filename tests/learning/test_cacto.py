"""CACTO's loop where the answer is Riccati's: what the critic is taught, what it learns, and where the actor goes."""

import io
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.learning import Cacto, CactoState
from planahead.learning.cacto import one_step, rolled_out
from planahead.learning.timed_value import TimedValue, value_loss
from planahead.planning import CostToGo, cost_to_go
from planahead.policies import ActionBox, DirectPolicy, TimedPolicy
from planahead.problem import EndingInValue
from tests.learning.integrator import HORIZON, IntegratorTask, closed_form, moved, riccati
from tests.learning.test_sac import saved

TASK = IntegratorTask()
BOX = ActionBox((-20.0,), (20.0,))
QUICK = Cacto(
    sobolev_weight=0.1, batch_size=8, gradient_steps=300, replay_size=320, steps_per_chunk=32, hidden_units=32,
    learning_rate=2e-3,
)  # fmt: skip
STATES = jnp.array([[1.0, 0.0], [0.7, -0.8], [0.5, -1.0], [0.3, -1.0]])


def actor(horizon: int = HORIZON) -> TimedPolicy:
    return TimedPolicy((1.0, 2.0), BOX, horizon=horizon, hidden=(32, 32), key=jax.random.key(0))


def linear_value(root: Any) -> TimedValue:
    """½‖root x‖² at all stages."""
    value = TimedValue.of(TASK, HORIZON, (), jax.random.key(0))
    weight = jnp.zeros((3, 8)).at[:2, :2].set((jnp.asarray(root, float) * jnp.array([1.0, 2.0])[None]).T)
    return eqx.tree_at(lambda v: (v.network.layers[0].weight, v.scale), value, (weight, jnp.array(1.0)))


@pytest.mark.long
def test_the_critic_is_riccatis_and_the_actor_the_regulator():
    state, told = QUICK.init(TASK, actor(), jax.random.key(1)), []
    for chunk in range(10):
        state, metrics = QUICK.advance(state, jax.random.key(chunk))
        told.append(metrics)
    assert all(float(metrics["failed_solves"]) == 0.0 for metrics in told)
    assert float(told[-1]["value_error"]) < 0.05 < float(told[0]["value_error"])
    assert int(told[-1]["steps"]) == 320
    for stage in (0, 5):
        P, value = riccati()[stage], state.value.at(stage)
        expected = np.array([0.5 * x @ P @ x for x in np.asarray(STATES)])
        np.testing.assert_allclose(jax.vmap(value)(STATES), expected, rtol=0.15, atol=0.03 * expected.max())
        slopes = np.asarray(STATES) @ P
        np.testing.assert_allclose(jax.vmap(jax.grad(value))(STATES), slopes, atol=0.15 * np.abs(slopes).max())
    found = jax.vmap(lambda x: state.policy.decide(x).action)(STATES)[:, 0]
    np.testing.assert_allclose(found, -(np.asarray(STATES) @ closed_form().gain.T)[:, 0], atol=1.5)
    again, _ = QUICK.advance(_loaded(state), jax.random.key(20))
    assert saved(again) == saved(QUICK.advance(state, jax.random.key(20))[0])


def _loaded(state: CactoState) -> CactoState:
    file = io.BytesIO(saved(state))
    return eqx.tree_deserialise_leaves(file, state)


def test_the_critics_loss_is_nothing_at_the_optimum_and_counts_slopes():
    """Costs ½ xᵀPx of all stages: a network that is linear in x has them exactly, slopes included."""
    P = riccati()[0]
    value = linear_value(np.linalg.cholesky(P).T)
    states = jax.random.normal(jax.random.key(0), (5, HORIZON + 1, 2))
    exact = CostToGo(0.5 * jnp.einsum("bki,ij,bkj->bk", states, P, states), states @ jnp.asarray(P, float))
    every, scale = jnp.ones(5, bool), jnp.ones(2)
    found = value_loss(value, states, exact, every, scale, sobolev=True)
    assert float(found.roots) < 1e-10 and float(found.slopes) < 1e-8
    # Slopes twice as steep are missed by half of their length; a row that is not usable is not counted.
    steeper = eqx.tree_at(lambda costs: costs.slopes, exact, 2.0 * exact.slopes)
    np.testing.assert_allclose(value_loss(value, states, steeper, every, scale, sobolev=True).slopes, 0.25, rtol=1e-4)
    spoilt = eqx.tree_at(lambda costs: costs.values, exact, exact.values.at[2].set(7.0))
    assert float(value_loss(value, states, spoilt, every.at[2].set(False), scale, sobolev=False).roots) < 1e-10
    assert float(value_loss(value, states, spoilt, every, scale, sobolev=False).roots) > 1e-3


@pytest.mark.long
def test_one_step_is_what_it_costs_and_what_is_left():
    value, policy = linear_value(np.diag([2.0, 1.0])), actor()
    states = jax.random.normal(jax.random.key(0), (HORIZON + 1, 2))
    found = one_step(TASK.problem, value, policy, TASK, states)
    for k in (0, 4):
        x, u = states[k], policy.act(states[k], jnp.array(k))
        after = moved(x, u)
        expected = 0.5 * (x[0] ** 2 + 0.1 * x[1] ** 2 + 0.01 * u[0] ** 2) + 0.5 * (4.0 * after[0] ** 2 + after[1] ** 2)
        np.testing.assert_allclose(found[k], expected, rtol=1e-5)
    guess = rolled_out(TASK.problem, policy, TASK, states[0])
    np.testing.assert_allclose(guess.states[1], moved(states[0], guess.controls[0]), rtol=1e-6)


@pytest.mark.long
def test_the_value_of_a_stage_ends_a_shorter_plan():
    """V of stage 5 after five steps is what the whole horizon costs."""
    value = linear_value(np.linalg.cholesky(riccati()[5]).T).at(5)
    ended = pa.solve(EndingInValue(TASK.problem, value, horizon=5), STATES[1])
    whole = pa.solve(TASK.problem, STATES[1])
    np.testing.assert_allclose(ended.cost, whole.cost, rtol=1e-4)
    np.testing.assert_allclose(cost_to_go(TASK.problem, whole).values[5], value(whole.states[5]), rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replay_size": 100}, "replay_size=100 is not a multiple of steps_per_chunk=64; use 64 or 128"),
        ({"revisits": 1.5}, "revisits=1.5; expected 0 .none. to 1"),
        ({"sobolev_weight": -1.0}, "sobolev_weight=-1.0; expected 0 .left out. or more"),
        ({"horizon": 0}, "horizon=0; at least 1 was expected, or None"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Cacto(**settings)


def test_what_it_cannot_train_is_refused():
    with pytest.raises(ValueError, match=r"Cacto trains a TimedPolicy, .*; got DirectPolicy"):
        QUICK.check(DirectPolicy((1.0,), BOX, key=jax.random.key(0)))
    with pytest.raises(
        ValueError, match="the plans have 10 controls and the actor counts 7 stages; give it horizon=10"
    ):
        QUICK.init(TASK, actor(7), jax.random.key(0))
    chain = pa.make_task("chain")
    with pytest.raises(ValueError, match="task 'chain' cannot tell what its policies would observe"):
        QUICK.init(
            chain, pa.make_algorithm("cacto", chain, jax.random.key(0), hidden_units=8).policy, jax.random.key(0)
        )


def test_the_horizon_is_a_setting():
    task = pa.make_task("obstacles")
    policy, learner = pa.make_algorithm("cacto", task, jax.random.key(0), horizon=30, hidden_units=8)
    assert isinstance(learner, Cacto) and isinstance(policy, TimedPolicy)
    assert policy.horizon == learner.problem(task).horizon == 30
    assert learner.problem(pa.make_task("cartpole")).horizon == 30
