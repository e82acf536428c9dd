"""The wind maze: its mechanics, its wind and walls, that it can be solved, and what the planner believes."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.planning import SQP, solve
from planahead.problem import ParameterSpace, zero_order_hold
from planahead.qp import Status, native
from planahead.tasks import WindMaze, WindMazeProblem, WindMazeState, WindMazeTask, make_task
from planahead.tasks.task import check_choice
from planahead.tasks.wind_maze import Difficulty

KEY = jax.random.key(0)
LAYOUTS = ("easy", "hard", "walls")


def world_of(difficulty, **options):
    world = make_task(f"windmaze-{difficulty}", **options).environment
    assert isinstance(world, WindMaze)
    return world


def at(*x, step=0):
    return WindMazeState(x=jnp.array(x, float), step=jnp.array(step))


def push(*force):
    return jnp.array(force, float)


def test_a_step_is_the_published_one(x64):
    """v⁺ by the exact rule for a held force, p⁺ with the old velocity; e = 0.22313, b = 0.051791 s/kg."""
    x, u = np.array([0.3, 0.5, 0.4, -0.2]), np.array([3.0, -7.0])
    exact = zero_order_hold(jnp.array([[-15.0]]), jnp.array([[1.0]]), 0.1)
    assert (float(exact.A[0, 0]), float(exact.B[0, 0])) == pytest.approx((0.22313, 0.051791), rel=1e-4)
    new = WindMaze().step(at(*x), push(*u), KEY).state.x
    np.testing.assert_allclose(new[:2], x[:2] + 0.1 * x[2:], rtol=1e-14)
    np.testing.assert_allclose(new[2:], exact.A[0, 0] * x[2:] + exact.B[0, 0] * u, rtol=1e-12)


def test_a_force_ends_in_the_speed_that_drag_allows(x64):
    world = WindMaze(zones=jnp.zeros((0, 4)))
    state = at(0.0, 0.0, 0.0, 0.0)
    for _ in range(25):
        state = world.step(state, push(10.0, -5.0), KEY).state
    np.testing.assert_allclose(state.x[2:], [10 / 15, -5 / 15], rtol=1e-14)


@pytest.mark.parametrize(
    ("difficulty", "along", "across", "blows"),
    [
        ("hard", 1.0, 0.5, True), ("hard", 0.5, 0.1, True), ("hard", 1.5, 1.0, True), ("hard", 1.0, 0.09, False),
        ("hard", 3.0, 0.05, True), ("hard", 3.0, 0.9, True), ("hard", 3.0, 0.91, False), ("hard", 2.0, 0.5, False),
        ("hard", 0.49, 0.5, False), ("hard", 3.51, 0.5, False), ("easy", 1.0, 0.15, False), ("easy", 1.0, 0.2, True),
        ("easy", 3.0, 0.8, True), ("easy", 3.0, 0.85, False), ("walls", 0.25, 0.8, False), ("walls", 3.75, 0.2, False),
    ],
)  # fmt: skip
def test_the_wind_blows_in_its_closed_zones_and_nowhere_else(difficulty, along, across, blows, x64):
    world = world_of(difficulty)
    wind = np.asarray(world.wind(jnp.array([along, across])))
    np.testing.assert_allclose(wind, [-10.5 if blows else 0.0, 0.0], atol=0.05 if difficulty == "walls" else 0)
    np.testing.assert_array_equal(world.observe(at(along, across, 0.0, 0.0))[4:], wind)


def test_nothing_can_be_done_against_the_wind_of_a_zone(x64):
    state = at(1.0, 0.5, 0.0, 0.0)
    for _ in range(20):
        state = WindMaze().step(state, push(10.0, 0.0), KEY).state
    assert state.x[2] == pytest.approx(-0.5 / 15)


def test_gusts_are_smooth_and_weaker_than_the_mass(x64):
    """The slope of a bell of height F and radius r is at most F e^-½ / r, so nearby places have nearby winds."""
    world = world_of("walls")
    places = jnp.stack(jnp.meshgrid(jnp.linspace(0, 4, 161), jnp.linspace(0, 1, 41)), -1).reshape(-1, 2)
    forces = np.asarray(jax.vmap(world.wind)(places))
    assert 5 < np.abs(forces).max() < 8
    heights = 10.5 * np.linalg.norm(np.asarray(world.gusts)[:, 3:], axis=1)
    steepest = np.sum(heights * math.exp(-0.5) / np.asarray(world.gusts)[:, 2])
    slopes = np.linalg.norm(np.diff(forces.reshape(41, 161, 2), axis=1), axis=-1) / 0.025
    assert 0.1 * steepest < slopes.max() < steepest
    centre = jnp.array([1.5, 0.5])
    expected = 10.5 * sum(
        np.array([fx, fy]) * math.exp(-((1.5 - px) ** 2 + (0.5 - py) ** 2) / (2 * r**2))
        for px, py, r, fx, fy in np.asarray(world.gusts)
    )
    np.testing.assert_allclose(world.wind(centre), expected, rtol=1e-12)


def test_a_wall_stops_whoever_would_be_through_it_within_a_step():
    """Both ends of the way are off the wall: a test of points would let it pass."""
    world = world_of("walls")
    through = world.step(at(0.9, 0.6, 2.5, 0.0), push(0.0, 0.0), KEY)
    assert through.state.x[0] == pytest.approx(1.15) and through.terminated
    assert through.info.violation and not through.info.success and not through.truncated
    below = world.step(at(0.9, 0.1, 2.5, 0.0), push(0.0, 0.0), KEY)
    assert not below.terminated and not below.info.violation
    assert not world_of("hard").step(at(1.6, 0.6, 2.5, 0.0), push(0.0, 0.0), KEY).terminated


def test_a_wall_parts_the_mass_from_the_goal():
    world = world_of("walls", goal_radius=1.0)
    behind = world.step(at(2.9, 0.2, 3.0, 0.0), push(0.0, 0.0), KEY)
    assert np.linalg.norm(np.asarray(behind.state.x[:2]) - [3.75, 0.2]) < 1.0
    assert behind.info.violation and not behind.info.success and behind.reward < 0.1


def test_a_way_touches_a_wall_where_one_of_its_points_does(x64):
    """Against 400 points of each of 2000 ways, with and without a hair's breadth."""
    world = world_of("walls")
    ends = np.random.default_rng(0).uniform([0, 0], [4, 1], (2000, 2, 2))
    ends[:, 1] = ends[:, 0] + np.random.default_rng(1).normal(0, 0.15, (2000, 2))
    ends[:50, 1, 0], ends[50:100, 1, 1], ends[100:120, 1] = ends[:50, 0, 0], ends[50:100, 0, 1], ends[100:120, 0]
    hits = np.asarray(jax.vmap(world.hits_a_wall)(jnp.array(ends[:, 0]), jnp.array(ends[:, 1])))
    ways = ends[:, :1] + np.linspace(0, 1, 400)[None, :, None] * (ends[:, 1:] - ends[:, :1])
    walls = np.asarray(world.walls)

    def touches(margin):
        low, high = walls[:, ::2] - margin, walls[:, 1::2] + margin
        inside = (ways[:, :, None] >= low) & (ways[:, :, None] <= high)
        return inside.all(-1).any((1, 2))

    assert 200 < hits.sum() < 1800
    assert hits[touches(0.0)].all() and not hits[~touches(0.002)].any()
    assert world.hits_a_wall(jnp.array([math.nan, 0.5]), jnp.array([0.1, 0.1]))


@pytest.mark.parametrize("step", [0, 49, 99])
def test_an_early_goal_is_worth_more(step, x64):
    """60 at once and 30 at the end of the episode, beside the progress of 0.1."""
    transition = WindMaze().step(at(3.65, 0.2, 0.5, 0.0, step=step), push(0.0, 0.0), KEY)
    assert transition.terminated and transition.info.success and not transition.truncated
    elapsed = 0.1 * (step + 1)
    assert transition.reward == pytest.approx(0.1 * (1 - 0.05 / 4) + 60 * (1 - 0.5 * elapsed / 10))


def test_the_reward_is_progress_along_the_course(x64):
    for along in (0.25, 2.0, 3.95):
        transition = WindMaze(zones=jnp.zeros((0, 4))).step(at(along, 0.6, 0.0, 0.0), push(0.0, 0.0), KEY)
        assert not transition.terminated
        assert transition.reward == pytest.approx(0.1 * (1 - abs(along - 3.75) / 4))


@pytest.mark.parametrize(
    "x",
    [(3.95, 0.8, 1.0, 0.0), (0.05, 0.8, -1.0, 0), (2.0, 0.95, 0.0, 1.0), (2.0, 0.05, 0.0, -1.0), (2, 0.5, math.nan, 0)],
)
def test_off_the_course_everything_ends(x):
    transition = WindMaze().step(at(*x, step=99), push(0.0, 0.0), KEY)
    assert transition.terminated and transition.info.violation
    assert not transition.truncated and not transition.info.success


def test_time_truncates_and_does_not_terminate():
    early, last = (WindMaze().step(at(2.0, 0.5, 0.0, 0.0, step=step), push(0.0, 0.0), KEY) for step in (98, 99))
    assert not early.truncated and last.truncated and not last.terminated


def test_an_episode_starts_at_rest_anywhere_in_its_disc():
    """Uniform: half of the starts lie within r / √2, and a quarter in each quadrant."""
    starts = np.asarray(jax.vmap(WindMaze().reset)(jax.random.split(KEY, 4000)).x)
    assert not starts[:, 2:].any()
    offset = starts[:, :2] - [0.25, 0.8]
    distance = np.linalg.norm(offset, axis=1)
    assert distance.max() < 0.15 + 1e-6
    assert abs(np.mean(distance < 0.15 / math.sqrt(2)) - 0.5) < 4 * 0.5 / math.sqrt(4000)
    assert abs(np.mean((offset > 0).all(1)) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)
    np.testing.assert_array_equal(
        world_of("hard", start_spread=0.0).reset(KEY).x, np.array([0.25, 0.8, 0, 0], np.float32)
    )


@pytest.mark.parametrize(
    ("difficulty", "area", "box", "part"),
    [
        ("easy", 3.04 - 2 * 0.7, (0.5, 1.5, 0.1, 0.2), 0.1),  # the strip under the first zone
        ("hard", 3.04 - 2 * 0.8, (1.5, 2.5, 0.1, 0.9), 0.8),  # between the zones
        ("walls", 3.04 - 0.1 * (0.65 + 0.65 + 0.3 + 0.3), (0.1, 0.95, 0.1, 0.9), 0.68),  # before the first wall
    ],
)
def test_starts_anywhere_are_uniform_outside_of_zones_and_walls(difficulty, area, box, part):
    world = world_of(difficulty, starts="anywhere")
    starts = jax.vmap(world.reset)(jax.random.split(KEY, 4000)).x
    places = np.asarray(starts[:, :2])
    assert (places >= np.array([0.1, 0.1]) - 1e-6).all() and (places <= np.array([3.9, 0.9]) + 1e-6).all()
    assert not jax.vmap(world.hits_a_wall)(starts[:, :2], starts[:, :2]).any()
    if difficulty != "walls":
        assert not np.asarray(jax.vmap(world.wind)(starts[:, :2])).any()
    inside = ((places >= [box[0], box[2]]) & (places <= [box[1], box[3]])).all(1)
    share = part / area
    assert abs(inside.mean() - share) < 4 * math.sqrt(share * (1 - share) / 4000)


DETOURS = {
    "easy": ((0.42, 0.1), (1.62, 0.1), (2.38, 0.9), (3.58, 0.9), (3.75, 0.2)),
    "hard": ((0.42, 0.05), (1.58, 0.05), (2.42, 0.95), (3.58, 0.95), (3.75, 0.2)),
    "walls": ((0.85, 0.12), (1.15, 0.12), (1.85, 0.88), (2.15, 0.88), (2.85, 0.5), (3.15, 0.5), (3.75, 0.2)),
}


@eqx.filter_jit
def follow(world, keys, way):
    """Episodes of a hand that goes from place to place of `way` and leans against the wind it observes."""
    decay = jnp.exp(-world.drag * world.time_step / world.mass)

    def episode(key):
        def step(carry, _):
            state, place, alive = carry
            observation = world.observe(state)
            position, velocity, wind = observation[:2], observation[2:4], observation[4:]
            arrived = jnp.linalg.norm(position - way[place]) < 0.06
            place = jnp.where(arrived, jnp.minimum(place + 1, len(way) - 1), place)
            wanted = jnp.clip((way[place] - position) / 0.2, -0.8, 0.8)
            force = (wanted - decay * velocity) * world.drag / (1 - decay) - wind
            transition = world.step(state, force / jnp.maximum(1.0, jnp.max(jnp.abs(force)) / 10), key)
            counts = jax.tree.map(lambda flag: flag & alive, transition.info)
            return (transition.state, place, alive & ~transition.terminated), counts

        return jax.lax.scan(step, (world.reset(key), 0, True), length=world.episode_steps)[1]

    info = jax.vmap(episode)(keys)
    return info.success.any(1), info.violation.any(1)


@pytest.mark.parametrize("difficulty", LAYOUTS)
def test_a_detour_reaches_the_goal_in_time_and_the_straight_way_does_not(difficulty):
    keys = jax.random.split(KEY, 50)
    success, violation = follow(world_of(difficulty), keys, jnp.array(DETOURS[difficulty]))
    assert success.all() and not violation.any()
    success, _ = follow(world_of(difficulty), keys, jnp.array(DETOURS[difficulty][-1:]))
    assert not success.any()


@pytest.mark.parametrize("difficulty", DETOURS)
def test_a_planner_that_is_told_where_to_go_reaches_the_goal(difficulty: str):
    """The learned parameters alone are enough: a policy aims beyond every place on its way, with the weights of
    positions at the upper end of their box and the others at the lower one, and asks for the force that the wind
    takes."""
    task = make_task(f"windmaze-{difficulty}", start_spread=0.0)
    way, space = jnp.array(DETOURS[difficulty]), ParameterSpace(task.problem, task.learned_parameters)
    weights = jnp.array([1.5, 1.5, 0.5, 0.5, 0.05, 0.05])

    @jax.jit
    def episode():
        def step(carry, _):
            state, place, alive = carry
            observation = task.environment.observe(state)
            x, wind = task.planner_state(observation), observation[4:]
            place = jnp.where(jnp.linalg.norm(x[:2] - way[place]) < 0.1, jnp.minimum(place + 1, len(way) - 1), place)
            aim = x[:2] + 3 * (way[place] - x[:2])
            written = jnp.concatenate([weights, aim, jnp.zeros(2), -wind])
            plan = solve(space.insert(task.problem, jnp.clip(written, space.low, space.high)), x)
            transition = task.environment.step(state, plan.controls[0], KEY)
            seen = transition.info.success & alive, (plan.status == Status.SOLVED) | ~alive
            return (transition.state, place, alive & ~transition.terminated), seen

        return jax.lax.scan(step, (task.environment.reset(KEY), 0, True), length=200)[1]

    success, solved = episode()
    assert success.any() and solved.all()


@pytest.mark.long
def test_plans_are_found_from_everywhere_and_lead_away_from_the_goal_by_default():
    """The default reference is the origin."""
    task = make_task("windmaze-hard", starts="anywhere")
    x = jax.vmap(task.environment.reset)(jax.random.split(KEY, 120)).x
    plans = jax.vmap(solve, (None, 0))(task.problem, x)
    assert (plans.status == Status.SOLVED).all() and int(plans.iterations.max()) <= 2
    assert (plans.controls[:, 0, 0] < 0).all()


def test_the_planner_knows_neither_wind_nor_walls(x64):
    task = WindMazeTask(difficulty="walls")
    x, u = jnp.array([2.0, 0.85, 0.3, 0.1]), jnp.array([4.0, -2.0])
    observation = task.environment.observe(at(*x))
    assert np.abs(observation[4:]).max() > 1
    np.testing.assert_array_equal(task.planner_state(observation), x)
    still = dataclasses.replace(task.environment, wind_force=0.0)
    np.testing.assert_allclose(task.problem.dynamics(x, u), still.step(at(*x), u, KEY).state.x, rtol=1e-14)
    assert task.problem.constraints(x, u).shape == (0,)


def test_the_published_model_is_wrong_twice(x64):
    """A drag of 0.1, and one factor for both: 0.1105 m/s per newton in the long run, where 1/15 is true."""
    problem = WindMazeTask(definition="published").problem
    assert problem.drag == 0.1 and WindMazeTask().problem.drag == 15.0
    x = jnp.zeros(4)
    factor = (1 - math.exp(-0.01)) / 0.1
    np.testing.assert_allclose(problem.dynamics(x, push(1.0, 0.0)), [0, 0, factor, 0], rtol=1e-12)
    moving = problem.dynamics(jnp.array([0.0, 0.0, 1.0, 0.0]), push(0.0, 0.0))
    np.testing.assert_allclose(moving, [0.1, 0, factor, 0], rtol=1e-12)
    for kind, speed in ((problem, factor / (1 - factor)), (WindMazeProblem(), 1 / 15)):
        state = x
        for _ in range(25):
            state = kind.dynamics(state, push(1.0, 0.0))
        assert state[2] == pytest.approx(speed, rel=1e-9)
    assert factor / (1 - factor) == pytest.approx(0.1105, abs=1e-4)


def test_costs_bounds_and_boxes_are_the_published_ones(x64):
    task = WindMazeTask()
    problem = eqx.tree_at(lambda p: p.state_reference, task.problem, jnp.array([1.0, 0.5, 0.1, 0.2]))
    problem = eqx.tree_at(lambda p: p.control_reference, problem, jnp.array([1.0, -1.0]))
    x, u = np.array([2.0, 0.4, -0.3, 0.5]), np.array([3.0, -4.0])
    state_cost = 0.5 * np.sum((x - [1.0, 0.5, 0.1, 0.2]) ** 2)
    stage, last = problem.stage_residual(jnp.array(x), jnp.array(u)), problem.terminal_residual(jnp.array(x))
    assert 0.5 * jnp.sum(stage**2) == pytest.approx(state_cost + 0.5 * 0.01 * np.sum((u - [1, -1]) ** 2))
    assert 0.5 * jnp.sum(last**2) == pytest.approx(state_cost)

    space = ParameterSpace(task.problem, task.learned_parameters)
    assert space.size == 12 and (task.problem.horizon, task.problem.time_step) == (20, 0.1)
    np.testing.assert_allclose(space.flatten(task.problem), [1.0] * 4 + [0.1] * 2 + [0.0] * 6)
    np.testing.assert_allclose(space.low, [0.5] * 4 + [0.05] * 2 + [0, 0, -20, -20] + [-10] * 2)
    np.testing.assert_allclose(space.high, [1.5] * 4 + [0.15] * 2 + [4, 1, 20, 20] + [10] * 2)

    force, course, end = problem.control_bounds(), problem.state_bounds(), problem.terminal_bounds()
    assert (float(force.lower), float(force.upper), force.slack) == (-10.0, 10.0, None)
    np.testing.assert_allclose(course.lower, [0.05, 0.05, -20, -20])
    np.testing.assert_allclose(course.upper, [3.95, 0.95, 20, 20])
    assert course.slack is not None and (float(course.slack.linear), float(course.slack.quadratic)) == (1e4, 10.0)
    assert (float(end.lower), float(end.upper)) == (-math.inf, math.inf)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="got definition='published' and a problem; leave one of them out"):
        WindMazeTask(problem=WindMazeProblem(), definition="published")
    # Annotations are checked in tests, and would come first where a task is built.
    with pytest.raises(
        ValueError, match="WindMazeTask got difficulty='wild'; 'easy' or 'hard' or 'walls' was expected"
    ):
        check_choice(WindMazeTask(), "difficulty", "wild", Difficulty)


def test_a_name_has_its_layout_and_takes_no_other():
    with pytest.raises(ValueError, match="task 'windmaze-easy' has no option 'difficulty'"):
        make_task("windmaze-easy", difficulty="hard")
    task = make_task("windmaze-easy", starts="anywhere", wind_force=3.0)
    assert (task.name, task.environment.starts, float(task.environment.wind_force)) == (
        "windmaze-easy",
        "anywhere",
        3.0,
    )
    np.testing.assert_allclose(task.environment.zones[0], [0.5, 1.5, 0.2, 1.0])


def test_layouts_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"WindMaze got walls of shape \(1, 3\); rows of 4 numbers were expected"):
        WindMaze(walls=jnp.ones((1, 3)))


@pytest.mark.skipif(not native.available(), reason=native.description())
def test_what_rounding_stops_in_float32_is_solved_in_float64():
    """In float32 one of these QPs comes no nearer than to a residual of 6e-5; its plan then took another one."""
    problem = WindMazeProblem()
    space = ParameterSpace(problem)
    drawn, placed = jax.random.split(jax.random.key(0))
    units = jax.random.uniform(drawn, (256, space.size), minval=-1.0, maxval=1.0)
    states = jax.random.uniform(
        placed, (256, 4), minval=jnp.array([0.05, 0.05, -2, -2]), maxval=jnp.array([3.95, 0.95, 2, 2])
    )

    def planned(unit, state):
        return solve(space.insert(problem, space.from_unit(unit)), state, planner=SQP(arithmetic="float32"))

    plans = jax.vmap(planned)(units, states)
    assert (plans.status == Status.SOLVED).all() and (plans.iterations == 1).all()
