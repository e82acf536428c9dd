"""Between pillars after a reference."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.experiments.evaluation import evaluate
from planahead.planning import SQP, solve
from planahead.qp import Status
from planahead.tasks import PlanFollower, make_task
from planahead.tasks.flight.pillars import AHEAD, SIGMA, Pillars, PillarsState, referenced
from planahead.tasks.flight.pillars_problem import RADIUS, PillarsPlan
from planahead.tasks.flight.quadrotor import GRAVITY, MASS, PLANTS, Nominal
from planahead.tasks.flight.vector import length

KEY = jax.random.key(0)
HOVERING = jnp.array([MASS * GRAVITY, 0.0, 0.0, 0.0])
STILL = {"start_spread": 0.0, "course_spread": 0.0}


def at(world: Pillars, position: list[float]) -> PillarsState:
    """A state of `world` at rest at `position`."""
    state = world.reset(KEY)
    return eqx.tree_at(lambda s: s.x, state, state.x.at[:3].set(jnp.array(position)).at[7:10].set(0.0))


def test_a_plan_goes_around_pillars_and_on_to_the_goal():
    problem = PillarsPlan()
    starts = jnp.array([[-2.5, 0.05, 0.0], [-2.5, -0.6, 0.3], [-2.2, 0.8, -0.4]])
    states = jnp.concatenate([starts, jnp.zeros((3, 3))], axis=1)
    plans = jax.vmap(lambda x: solve(problem, x, guess=problem.towards(x), planner=SQP(iterations=30)))(states)
    assert set(np.asarray(plans.status).tolist()) == {Status.SOLVED}
    apart = np.linalg.norm(plans.states[:, :, None, :2] - problem.centres[None, None], axis=-1)
    assert apart.min() > RADIUS + 0.9 * float(problem.clearance)
    assert np.abs(plans.states[:, 1:-1, 3:]).max() < 2.5 + 1e-3
    assert float(plans.states[:, -1, 0].min()) > 1.5, "4 m of 5 in two seconds"


def test_a_step_by_hand():
    world = make_task("pillars", plant="nominal", reference="goal", **STILL).environment
    state = at(world, [2.4, 0.1, 0.0])
    moved = world.step(state, jnp.array([MASS * GRAVITY, 0.0, 5.0, 2.0]), KEY)
    off, away = 0.02 / SIGMA[0] ** 2, np.sqrt(0.02)  # 0.1 m in x and in y
    expected = np.exp(-0.5 * off) + 1 - away / 5 - 0.05 * (0.5**2 + 0.5**2)
    assert float(moved.reward) == pytest.approx(expected, abs=1e-4) and bool(moved.info.success)
    points = np.asarray(referenced(moved.observation))
    np.testing.assert_allclose(points[:, 0], [[0.1, -0.1, 0.0]] * len(AHEAD), atol=1e-3)
    np.testing.assert_allclose(moved.observation[15:18], 0.0, atol=1e-4)  # its thrust acts as it stood before
    np.testing.assert_allclose(moved.observation[18:22], [MASS * GRAVITY, 0.0, 5.0, 2.0], rtol=1e-6)


@pytest.mark.long
def test_pillars_and_walls_end_an_episode_but_not_where_references_are_drawn():
    world = make_task("pillars", reference="goal", **STILL).environment
    edge = RADIUS - 0.02
    for position, ends in (([-1.2, edge, 0.0], True), ([-1.2, edge + 0.04, 0.0], False), ([0.0, 1.9, 1.4], False)):
        moved = world.step(at(world, position), HOVERING, KEY)
        assert bool(moved.terminated) == bool(moved.info.violation) == ends
    assert bool(world.step(at(world, [0.0, 2.05, 0.0]), HOVERING, KEY).terminated)
    drawn = make_task("pillars", reference="drawn", **STILL).environment
    assert not bool(drawn.step(at(drawn, [-1.2, 0.0, 0.0]), HOVERING, KEY).terminated)
    last = eqx.tree_at(lambda s: s.step, at(world, [-2.5, 0.0, 0.0]), jnp.array(199, jnp.int32))
    assert bool(world.step(last, HOVERING, KEY).truncated)


def test_a_flight_that_leaves_the_numbers_earns_nothing_and_ends():
    world = make_task("pillars", reference="goal", **STILL).environment
    moved = world.step(at(world, [2.5, 0.0, 0.0]), HOVERING.at[1].set(jnp.nan), KEY)
    assert float(moved.reward) == 0.0 and bool(moved.terminated) and not bool(moved.info.success)
    assert bool(jnp.isfinite(moved.state.x).all()) and bool(jnp.isfinite(moved.state.reference.trajectory.states).all())


@pytest.mark.parametrize("reference", ["planned", "drawn"])
def test_a_reference_begins_where_the_quadrotor_is_and_is_renewed_at_its_rate(reference: str):
    world = make_task("pillars", reference=reference, replan_steps=3).environment
    step = eqx.filter_jit(world.step)
    state, ages = world.reset(KEY), []
    for _ in range(7):
        moved = step(state, HOVERING, KEY)
        state = moved.state
        ages.append(int(state.reference.age))
        if ages[-1] == 0:
            np.testing.assert_allclose(referenced(moved.observation)[0], 0.0, atol=1e-5)
    assert ages == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.long
def test_drawn_references_are_those_of_a_point_mass_and_their_goals_move():
    world = make_task("pillars", reference="drawn").environment
    state = world.reset(KEY)
    way, problem = state.reference.trajectory, world.plan
    after = jax.vmap(problem.dynamics)(way.states[:-1], way.controls)
    np.testing.assert_allclose(way.states[1:], after, atol=1e-5)
    assert float(jnp.abs(way.controls).max()) <= 6.0
    keys = jax.random.split(KEY, 200)
    moved = jax.vmap(lambda key: world.step(state, HOVERING, key).state)(keys)
    assert 0.0 < float(jnp.mean(jnp.any(moved.aim != state.aim[None], axis=1))) < 0.1
    # What is observed of the goal tells nothing of where references lead.
    states = jax.vmap(world.reset)(keys)
    apart = jax.vmap(length)(states.goal - states.aim)
    assert float(jnp.min(apart)) > 0.0 and abs(float(jnp.corrcoef(states.goal[:, 1], states.aim[:, 1])[0, 1])) < 0.25


def test_every_plant_measures_what_it_does():
    for kind in PLANTS:
        world = make_task("pillars", plant=kind, reference="goal", **STILL).environment
        moved = world.step(world.reset(KEY), jnp.array([0.0, 0.0, 0.0, 0.0]), KEY)
        fallen = float(moved.observation[17])
        assert fallen == pytest.approx(float(moved.state.x[9]) / 0.02, rel=1e-4)
        assert (fallen == pytest.approx(-GRAVITY, rel=1e-4)) == (kind == "nominal")  # rotors take their time


@pytest.mark.long
def test_a_wind_is_drawn_for_every_episode():
    world = make_task("pillars", plant="nominal", reference="goal", wind_spread=2.0).environment
    states = jax.vmap(world.reset)(jax.random.split(KEY, 50))
    moved = jax.vmap(lambda state: world.step(state, HOVERING, KEY))(states)
    pushed = MASS * np.asarray(moved.state.measured[:, 3:])
    assert np.abs(pushed).max() <= 2.0 + 1e-3 and np.abs(pushed).max(axis=0).min() > 1.5
    np.testing.assert_allclose(pushed, 2.0 * states.draw[:, -3:], atol=1e-3)


def test_the_tasks_own_planner_is_told_where_the_reference_will_be():
    task = make_task("pillars", reference="goal", **STILL)
    world = task.environment
    state = at(world, [2.4, 0.1, -0.2])
    x = task.planner_state(world.observe(state))
    np.testing.assert_allclose(x, [-0.1, 0.1, -0.2, 1, 0, 0, 0, 0, 0, 0], atol=1e-6)
    # In coordinates that move with a reference of constant velocity, who flies along with it is at rest, at the point.
    along = eqx.tree_at(lambda s: s.x, state, state.x.at[7].set(1.0))
    nodes = state.x[:3][None] + jnp.outer(0.1 * jnp.arange(21), jnp.array([1.0, 0.0, 0.0]))
    line = jnp.concatenate([nodes, jnp.tile(jnp.array([[1.0, 0.0, 0.0]]), (21, 1))], axis=1)
    along = eqx.tree_at(lambda s: s.reference.trajectory.states, along, line)
    np.testing.assert_allclose(task.planner_state(world.observe(along)), [0, 0, 0, 1, 0, 0, 0, 0, 0, 0], atol=1e-6)


@pytest.mark.slow
def test_feedback_follows_plans_in_a_world_as_believed_and_not_with_another_mass():
    found = evaluate(make_task("pillars"), PlanFollower(), KEY, episodes=25)
    assert found.success_rate >= 0.9 and found.violations_per_episode <= 0.1
    heavy = evaluate(make_task("pillars", mass=1.3 * MASS), PlanFollower(), KEY, episodes=25)
    assert heavy.success_rate <= 0.5
    assert isinstance(make_task("pillars", plant="nominal").environment.vehicle, Nominal)


def test_feedback_hovers_where_the_reference_stays_and_leans_towards_it_where_it_does_not():
    world = make_task("pillars", reference="goal", **STILL).environment
    follower = PlanFollower()
    there = follower.decide(world.observe(at(world, [2.5, 0.0, 0.0]))).action
    np.testing.assert_allclose(there, HOVERING, rtol=1e-4, atol=1e-5)
    before = follower.decide(world.observe(at(world, [2.4, 0.1, -0.1]))).action
    assert before[0] > HOVERING[0] and before[2] > 0 and before[1] > 0  # up, ahead, to the right


def test_compensating_takes_off_what_the_command_does_not_explain():
    world = make_task("pillars", plant="nominal", reference="goal", mass=1.3 * MASS, **STILL).environment
    state = world.step(at(world, [2.5, 0.0, 0.0]), HOVERING, KEY).state
    observation = world.observe(state)
    more = PlanFollower(compensates=True).decide(observation).action - PlanFollower().decide(observation).action
    assert float(more[0]) == pytest.approx(MASS * (GRAVITY - GRAVITY / 1.3), rel=1e-3)
