"""The closed loop behind a page: what a slider, a poke, a reset and the end of an episode do."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.planning import SQP
from planahead.policies import TunedPlanner
from planahead.policies.filtered import FilteredPolicy, Guard
from planahead.tasks import MassSpringDamper
from planahead.tasks.mass_spring_damper import MassSpringDamperTask
from planahead.viewer import Frame, Poke, Session
from planahead.viewer.pilot import pilot_of
from planahead.viewer.sliders import at


@pytest.fixture
def session() -> Session:
    return Session(pa.make_task("mass-spring-damper", matched=True), seed=3)


def steps(session: Session, number: int) -> Frame:
    """The last of so many steps."""
    return [session.step() for _ in range(number)][-1]


def by_name(session: Session, name: str):
    everything = (*session.sliders.world, *session.sliders.aims, *session.sliders.beliefs)
    return next(slider for slider in everything if slider.label == name)


def test_a_step_is_the_worlds_under_the_planned_action(session: Session):
    world, first = session.world, session.frame
    second = session.step()
    expected = world.step(jax.tree.map(jnp.asarray, first.state), jnp.asarray(first.action), jax.random.key(0))
    np.testing.assert_allclose(second.state.x, expected.state.x, rtol=1e-6)
    assert second.time == pytest.approx(world.time_step) and second.total_reward == pytest.approx(
        float(expected.reward)
    )
    assert first.plan_states is not None
    np.testing.assert_allclose(first.plan_states[1], second.state.x, atol=1e-4)  # the model is right
    np.testing.assert_allclose(second.past[-1].state.x, first.state.x)


def compiled(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Which of a session's two functions were compiled since the log was cleared."""
    messages = [record.getMessage() for record in caplog.records if "Compiling" in record.getMessage()]
    return [name for name in ("_decision", "_advance") for message in messages if name in message]


def test_a_slider_of_the_world_acts_from_the_next_step_and_compiles_nothing(caplog: pytest.LogCaptureFixture):
    with jax.log_compiles():
        other = MassSpringDamper(episode_steps=49)  # than that of other tests, so that it has to be compiled
        session = Session(pa.make_task("mass-spring-damper", environment=other, matched=True), seed=3)
        session.step()
        assert set(compiled(caplog)) == {"_decision", "_advance"}
        caplog.clear()
        before = session.frame
        session.turn(by_name(session, "stiffness"), 5.0)
        session.turn(by_name(session, "force weight root"), 0.2)
        after = session.step()
        assert compiled(caplog) == []
    heavier = MassSpringDamper(stiffness=jnp.asarray(5.0))
    expected = heavier.step(jax.tree.map(jnp.asarray, before.state), jnp.asarray(before.action), jax.random.key(0))
    np.testing.assert_allclose(after.state.x, expected.state.x, rtol=1e-5)


def test_what_is_believed_of_a_constant_is_not_the_constant():
    """Both sliders have the same label, number and ends here."""
    session = Session(pa.make_task("cartpole"))
    (of_world,), (believed,) = (
        [slider for slider in group if slider.path == ("cart_mass",)]
        for group in (session.sliders.world, session.sliders.beliefs)
    )
    assert dataclasses.astuple(of_world) == dataclasses.astuple(believed)
    session.turn(believed, 2.5)
    assert float(at(session.world, ("cart_mass",))) == pytest.approx(of_world.start)
    session.turn(of_world, 0.5)
    assert float(at(session.world, ("cart_mass",))) == 0.5


def test_a_slider_of_the_planner_acts_on_the_same_moment(session: Session):
    before = session.frame
    slider = by_name(session, "force weight root")
    session.turn(slider, slider.high)
    after = session.replan()
    np.testing.assert_array_equal(after.state.x, before.state.x)
    assert np.abs(after.action).max() < np.abs(before.action).max()
    session.turn_back()
    np.testing.assert_allclose(session.replan().action, before.action, atol=1e-4)


def test_a_kick_moves_the_plant_at_once_and_the_plan_starts_there(session: Session):
    before = session.frame
    after = session.poke(Poke("push", kick=(0.0, 0.3)))
    np.testing.assert_allclose(after.state.x, before.state.x + np.array([0.0, 0.3]), atol=1e-6)
    assert after.time == before.time and after.plan_states is not None
    np.testing.assert_allclose(after.plan_states[0], after.state.x, atol=1e-6)


def test_a_foreign_action_acts_for_its_time_and_no_longer(session: Session):
    session.poke(Poke("push", action=(0.5,), seconds=0.2))
    frame = steps(session, 3)
    acted = [float(moment.action[0]) for moment in frame.past]
    assert acted[:2] == [0.5, 0.5] and acted[2] != 0.5


def test_after_the_end_of_an_episode_the_next_begins():
    session = Session(pa.make_task("mass-spring-damper"))
    frame = steps(session, session.world.episode_steps)
    assert frame.truncated and frame.ended and not frame.terminated
    fresh = session.step()
    assert fresh.episode == 2 and fresh.time == 0 and fresh.total_reward == 0 and fresh.fresh and not fresh.ended


def test_the_same_seed_gives_the_same_frames():
    runs = [Session(pa.make_task("obstacles", gust=0.3), seed=5) for _ in range(2)]
    first, second = ([run.step().state.x for _ in range(5)] for run in runs)
    np.testing.assert_array_equal(first, second)


def test_the_solve_is_timed_by_the_clock_that_is_given():
    ticks = itertools.count()
    session = Session(pa.make_task("mass-spring-damper"), clock=lambda: 0.25 * next(ticks))
    assert session.step().solve_seconds == 0.25


def test_a_policys_own_parameters_have_no_sliders():
    task = pa.make_task("mass-spring-damper")
    policy = TunedPlanner(task.problem, task.planner_state, task.action_box, names=("mass",), planner=SQP(iterations=5))
    session = Session(task, policy)
    labels = [slider.label for slider in (*session.sliders.aims, *session.sliders.beliefs)]
    assert "mass" not in labels and "stiffness" in labels
    before = session.frame.plan_states
    session.turn(next(s for s in session.sliders.beliefs if s.label == "stiffness"), 0.0)
    after = session.replan().plan_states
    assert before is not None and after is not None and np.abs(after - before).max() > 0.1


def test_a_network_has_no_plan_and_behind_a_filter_its_corrections_are_told():
    task = pa.make_task("mass-spring-damper", matched=True)
    assert isinstance(task, MassSpringDamperTask)
    box = task.action_box
    network = pa.DirectPolicy(task.environment.observation_scale, box, key=jax.random.key(0))
    alone = Session(task, network).frame
    assert alone.status is None and alone.plan_states is None and alone.corrected is None and np.isnan(alone.cost)
    guard = Guard(pa.SafetyFilter(pa.linear_safety_problem(task.problem, horizon=10)), task.planner_state, box)
    session = Session(task, FilteredPolicy(network, guard))
    session._state = eqx.tree_at(lambda state: state.x, session._state, jnp.array([1.9, 0.45]))
    session._observation = session._state.x
    frame = session.replan()
    assert frame.corrected is True and frame.plan_states is not None


@pytest.mark.parametrize("name", ["cartpole", "race-horizontal"])
def test_what_acts_without_a_policy_is_up_to_its_task(name: str):
    """The cart-pole swings up within two seconds; the quadrotor is past its first gate."""
    task = pa.make_task(name)
    session = Session(task, pilot_of(task), seed=1)
    frame = steps(session, round(2.0 / task.environment.time_step))
    assert not frame.failed
    assert abs(float(frame.state.x[1])) < 0.1 if name == "cartpole" else int(frame.state.passed) >= 1
