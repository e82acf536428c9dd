"""What a learner makes of a planner in its critic: with none of it plain soft actor-critic, with failed plans the
learned critic alone, and with a right one a better policy sooner."""

import dataclasses
import io
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import planahead as pa
from planahead.learning import SAC, make_algorithm
from planahead.learning.critics import TwinCritic
from planahead.learning.planner_critic import check_planner_critic, seen
from planahead.policies import DirectPolicy
from planahead.tasks import Task, make_task
from planahead.tasks.task import Imagined
from tests.learning.linear_quadratic import (
    DISCOUNT,
    LIMIT,
    Believer,
    Plant,
    PlantTask,
)
from tests.learning.test_planner_critic import KEY, ROWS, rows

SMALL = SAC(
    discount=DISCOUNT, batch_size=16, hidden_units=8, environments=8, steps_per_chunk=64, warm_up_steps=32,
    replay_size=512,
)  # fmt: skip


def direct_policy() -> DirectPolicy:
    return DirectPolicy((1.0, 1.0), pa.ActionBox((-LIMIT,), (LIMIT,)), hidden=(8, 8), key=jax.random.key(0))


def chunk(learner: SAC, task: Task) -> tuple[bytes, dict[str, Any]]:
    state, metrics = learner.advance(learner.init(task, direct_policy(), jax.random.key(1)), jax.random.key(2))
    stream = io.BytesIO()
    eqx.tree_serialise_leaves(stream, eqx.tree_at(lambda s: s.task, state, None))
    return stream.getvalue(), dict(metrics)


@pytest.mark.long
def test_without_a_share_of_the_planner_it_is_plain_soft_actor_critic():
    """To the bit: switched off, and also where λ has fallen to 0 before learning begins."""
    task = PlantTask(problem=Believer())
    plain, metrics = chunk(SMALL, task)
    off, off_metrics = chunk(dataclasses.replace(SMALL, blend_steps=7, believes="steps", plan_scale=3.0), task)
    assert off == plain and off_metrics.keys() == metrics.keys()
    fallen, fallen_metrics = chunk(dataclasses.replace(SMALL, blend=1.0, blend_steps=1), task)
    assert fallen == plain
    assert fallen_metrics["blend"] == fallen_metrics["failed_judgements"] == 0.0
    believing, metrics = chunk(dataclasses.replace(SMALL, blend=1.0), task)
    assert believing != plain and metrics["blend"] == 1.0 and metrics["failed_judgements"] == 0.0


def test_the_share_falls_from_where_learning_begins():
    learner = dataclasses.replace(SMALL, blend=0.8, blend_steps=100)
    found = [float(learner.blend_at(jnp.array(steps))) for steps in (0, 32, 57, 82, 132, 500)]
    np.testing.assert_allclose(found, [0.8, 0.8, 0.6, 0.4, 0.0, 0.0], atol=1e-6)
    assert float(dataclasses.replace(learner, blend_steps=0).blend_at(jnp.array(500))) == pytest.approx(0.8)


@final
class BlindTask(Task[Plant, Believer]):
    """What it plans from is not a number where the first state is positive, and it cannot tell what a plan earns."""

    environment: Plant = eqx.field(default_factory=Plant)
    problem: Believer = eqx.field(default_factory=Believer)
    imagines: bool = pa.static(False)
    name: str = pa.static("blind")
    learned_parameters: tuple[str, ...] = pa.static(())
    state_names: tuple[str, ...] = pa.static(("first", "second"))

    def planner_state(self, observation: Float[Array, " 2"]) -> Float[Array, " 2"]:
        return jnp.where(observation[0] > 0, jnp.nan, observation)

    def imagined(
        self, observation: Float[Array, " 2"], states: Float[Array, "nodes 2"], controls: Float[Array, "N 1"]
    ) -> Imagined | None:
        return PlantTask().imagined(observation, states, controls) if self.imagines else None


@pytest.mark.long
@pytest.mark.parametrize("believes", ["value", "steps"])
def test_where_a_plan_fails_the_learned_critic_judges_alone(believes):
    planner = check_planner_critic(
        BlindTask(imagines=True), DISCOUNT, believes, 1.0 if believes == "value" else None, 0.0
    )
    learned = TwinCritic((1.0, 1.0), 1, hidden=(8,), key=KEY)
    observation, point = rows()
    failing = observation[:, 0] > 0
    assert 0 < failing.sum() < ROWS

    @jax.jit
    def judge(point: Array) -> tuple[Array, Array, Array]:
        def total(point: Array) -> tuple[Array, tuple[Array, Array]]:
            view = seen(planner, learned, jnp.array(0.6), observation, point)
            values = view.critic(observation, point)
            return values.sum(), (values, view.failed)

        (_, (values, failed)), slope = jax.value_and_grad(total, has_aux=True)(point)
        return values, slope, failed

    values, slope, failed = judge(point)
    alone, alone_slope = jax.jit(jax.value_and_grad(lambda point: learned(observation, point).sum()))(point)
    np.testing.assert_allclose(failed, np.mean(failing))
    np.testing.assert_array_equal(values[:, failing], learned(observation, point)[:, failing])
    np.testing.assert_allclose(slope[failing], alone_slope[failing], rtol=1e-6)
    assert np.isfinite(slope).all() and np.isfinite(alone)
    assert (np.abs(values - learned(observation, point))[:, ~failing] > 1e-3).all()


def test_failed_judgements_are_counted_and_nothing_is_left_out():
    _, metrics = chunk(dataclasses.replace(SMALL, blend=1.0, plan_scale=1.0), BlindTask())
    assert 0.2 < metrics["failed_judgements"] < 0.8
    assert metrics["failed_updates"] == 0.0 and np.isfinite(metrics["critic_loss"])


REFUSALS = [
    ("mass-spring-damper", {}, {"blend": 0.5}, "no multiple of what task 'mass-spring-damper' rewards.*set plan_scale"),
    (
        "mass-spring-damper",
        {"matched": True},
        {"blend": 0.5},
        "discount=0.99 of the learner and 1 of MassSpringDamperProblem.*do not compare",
    ),
    ("linear", {}, {"blend": 0.5}, "discount=0.99 of the learner and 0.9 of LinearSystemProblem.*use discount=0.9"),
    ("cartpole", {}, {"blend": 0.5, "believes": "steps"}, "'cartpole' cannot tell what the steps of a plan would earn"),
    (
        "linear",
        {},
        {"blend": 0.5, "believes": "steps", "plan_scale": 2.0},
        "plan_scale=2.0 and plan_offset=0.0 turn the cost of a plan into rewards, and believes='steps' goes by the",
    ),
    ("race-circle", {"model": "rotors"}, {"blend": 0.5, "plan_scale": 1.0}, "plans in other terms than its plant"),
    ("linear", {}, {"blend": 1.5}, "blend=1.5; expected 0 .no planner in the critic. to 1"),
    ("linear", {}, {"blend_steps": -1}, "blend_steps=-1; expected 0"),
    ("linear", {}, {"plan_scale": 0.0}, "plan_scale=0.0; a positive number was expected"),
]


@pytest.mark.parametrize(("task", "options", "settings", "message"), REFUSALS)
def test_what_does_not_compare_is_refused_in_words(task, options, settings, message):
    with pytest.raises(ValueError, match=message):
        make_algorithm("sac", make_task(task, **options), KEY, hidden_units=8, **settings)


def test_a_critic_of_parameters_has_no_planner_in_it():
    with pytest.raises(ValueError, match="makes a planner part of a critic that judges actions"):
        make_algorithm("sac-zop", make_task("linear"), KEY, hidden_units=8, blend=0.5, discount=0.9)


def test_a_scale_of_ones_own_is_taken_at_its_word():
    task, (observation, point) = make_task("mass-spring-damper"), rows()
    planner = check_planner_critic(task, 0.99, "value", 3.0, 2.0)
    found: Any = planner.foresee(observation, point)
    first = pa.action_value(task.problem, observation[0], task.action_box.from_unit(point[0]))
    np.testing.assert_allclose(found.value[0], 2.0 - 3.0 * first, rtol=1e-3)


@pytest.mark.slow
def test_a_right_planner_teaches_a_network_sooner():
    """Three chunks of learning: who is judged by the right planner is close to the best return, -5, and who has to find
    out by itself is not."""
    task = make_task("mass-spring-damper", matched=True, discount=0.95)
    small = {"discount": 0.95, "hidden_units": 64, "warm_up_steps": 800, "steps_per_chunk": 800, "batch_size": 128}
    returns = {}
    for blend in (0.0, 1.0):
        policy, learner = make_algorithm("sac", task, KEY, blend=blend, **small)
        state, metrics = learner.init(task, policy, jax.random.key(1)), {}
        for number in range(4):
            state, metrics = learner.advance(state, jax.random.key(number))
        returns[blend] = float(metrics["return"])
    assert returns[1.0] > -7 and returns[0.0] < -12
