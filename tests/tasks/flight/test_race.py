"""Gates, laps and rewards of a race; what the planner sees of it."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.experiments.fixed_planner import FixedPlanner
from planahead.planning import solve
from planahead.problem import ParameterSpace, rk4
from planahead.problem.rotation import from_matrix, matrix, product
from planahead.qp import Status
from planahead.tasks import make_task
from planahead.tasks.flight.gates import TRACKS, corners_of, crossing, frame_of
from planahead.tasks.flight.quadrotor import Nominal, Realistic
from planahead.tasks.flight.race import Race, RaceState
from planahead.tasks.flight.race_models import RotorsModel
from planahead.tasks.flight.race_problem import RaceProblem
from planahead.tasks.flight.race_task import RaceTask

KEY = jax.random.key(0)
HALF, FRAME = jnp.array(0.65), jnp.array(1.2)


def met(gate, before, after):
    found = crossing(jnp.array(gate), jnp.array(before), jnp.array(after), HALF, FRAME)
    return bool(found.passed), bool(found.hit), float(found.share)


def test_a_gate_is_passed_through_its_opening_in_its_direction():
    gate = [0.0, 0.0, 2.0, 0.0, 0.0]
    assert met(gate, [-1.0, 0.0, 2.0], [3.0, 0.0, 2.0]) == (True, False, 0.25)
    assert met(gate, [1.0, 0.0, 2.0], [-1.0, 0.0, 2.0])[:2] == (False, False), "backwards"
    assert met(gate, [-1.0, 0.0, 2.0], [-0.1, 0.0, 2.0])[:2] == (False, False), "not there yet"
    assert met(gate, [-1.0, 0.7, 2.0], [1.0, 0.7, 2.0])[:2] == (False, True), "its frame"
    assert met(gate, [-1.0, 0.0, 3.0], [1.0, 0.0, 3.0])[:2] == (False, True), "its frame, above"
    assert met(gate, [-1.0, 1.5, 2.0], [1.0, 1.5, 2.0])[:2] == (False, False), "past it"
    assert met(gate, [-1.0, -1.0, 2.0], [1.0, 1.0, 2.0])[:2] == (True, False), "slanted, through the middle"


def test_a_fast_step_cannot_jump_over_a_gate():
    """However long the step is: a segment is tested, not a distance."""
    gate = [3.0, 1.0, 2.0, np.radians(60.0), 0.0]
    normal = np.asarray(frame_of(jnp.array(gate)).normal)
    for length in (0.01, 1.0, 100.0):
        before, after = np.array(gate[:3]) - length * normal, np.array(gate[:3]) + 2 * length * normal
        passed, hit, share = met(gate, before, after)
        assert passed and not hit and share == pytest.approx(1 / 3, abs=1e-4)


def test_axes_of_a_gate_are_right_handed_and_a_gate_may_lie_flat():
    for yaw in (0.0, 1.0, 4.0):
        for pitch in (0.0, 0.5, np.pi / 2):
            normal, tangent, up = frame_of(jnp.array([0.0, 0.0, 0.0, yaw, pitch]))
            np.testing.assert_allclose(jnp.cross(normal, tangent), up, atol=1e-6)
    assert met([0.0, 0.0, 2.0, 0.0, np.pi / 2], [0.1, 0.2, 3.0], [0.1, 0.2, 1.0])[0], "dived through"
    corners = corners_of(jnp.array([1.0, 2.0, 3.0, 0.7, 0.0]), jnp.array(0.75))
    np.testing.assert_allclose(jnp.mean(corners, axis=0), [1.0, 2.0, 3.0], atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(corners - jnp.roll(corners, 1, axis=0), axis=1), 1.5, atol=1e-5)


@pytest.mark.parametrize(("track", "length"), [("split-s-cpc", 71.0), ("split-s", 67.8), ("split-s-real", 66.1)])
def test_the_published_tracks_are_as_long_as_they_were_measured(track, length):
    centres = np.array(TRACKS[track])[:, :3]
    assert np.linalg.norm(centres - np.roll(centres, 1, axis=0), axis=1).sum() == pytest.approx(length, abs=0.06)


def placed(race: Race, position, velocity, gate=0, **fields) -> RaceState:
    state = race.reset(KEY)
    x = race.vehicle.at(jnp.array(position), jnp.array([1.0, 0.0, 0.0, 0.0]), jnp.array(velocity))
    values = {"x": x, "gate": jnp.array(gate, jnp.int32), **fields}
    return RaceState(**({name: getattr(state, name) for name in RaceState.__dataclass_fields__} | values))


HOVER = jnp.array([0.752 * 9.8066, 0.0, 0.0, 0.0])


def test_a_lap_is_timed_to_a_fraction_of_a_step():
    race = Race.on("split-s")
    x, y, z = TRACKS["split-s"][0][:3]
    state = placed(race, [x - 0.1, y, z], [10.0, 0.0, 0.0], line=jnp.array(1.0), step=jnp.array(250, jnp.int32))
    moved = race.step(state, HOVER, KEY)
    assert moved.state.lap == pytest.approx(5.0 + 0.01 - 1.0, abs=1e-4)
    assert moved.state.line == pytest.approx(5.01, abs=1e-4)
    assert moved.state.gate == 1 and moved.state.passed == state.passed + 1 and bool(moved.info.success)
    assert moved.reward == pytest.approx(10.0 + (0.1 - 0.1), abs=0.01)


def test_progress_is_rewarded_and_turning_costs():
    race = Race.on("split-s")
    x, y, z = TRACKS["split-s"][0][:3]
    state = placed(race, [x - 3.0, y, z], [5.0, 0.0, 0.0])
    assert race.step(state, HOVER, KEY).reward == pytest.approx(0.1, abs=1e-3)
    turned = race.step(state, HOVER.at[1].set(10.0), KEY)
    assert turned.reward == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(
    ("position", "velocity", "why"),
    [([-1.0, -0.5, 3.48], [10.0, 0.0, 0.0], "the frame"), ([0.0, 0.0, 0.12], [0.0, 0.0, -5.0], "the ground")],
)
def test_a_crash_ends_the_race(position, velocity, why):
    moved = Race.on("split-s").step(placed(Race.on("split-s"), position, velocity), HOVER, KEY)
    assert moved.terminated and moved.info.violation and not moved.truncated and moved.reward < -9.0, why


def test_a_track_that_is_no_loop_ends_with_its_last_gate():
    race = Race.on("horizontal")
    last = len(race.gates) - 1
    moved = race.step(placed(race, [19.95, 0.0, 2.0], [10.0, 0.0, 0.0], gate=last), HOVER, KEY)
    assert moved.terminated and moved.info.success and not moved.info.violation


def test_too_fast_is_a_violation_where_there_is_a_limit():
    for limit, expected in ((20.0, False), (5.0, True)):
        race = Race.on("split-s", speed_limit=limit)
        moved = race.step(placed(race, [-5.0, -1.27, 3.0], [8.0, 0.0, 0.0]), HOVER, KEY)
        assert bool(moved.info.violation) == expected and not moved.terminated


@pytest.mark.parametrize("plant", ["nominal", "realistic"])
def test_the_planner_sees_where_the_quadrotor_is(plant):
    """From the observation alone: position from the next gate, attitude, velocity."""
    task = RaceTask(plant=plant, starts="anywhere")
    for seed in range(5):
        state = task.environment.reset(jax.random.key(seed))
        x = task.planner_state(task.environment.observe(state))
        np.testing.assert_allclose(x[:3], state.x[:3] - task.environment.gates[state.gate, :3], atol=1e-4)
        np.testing.assert_allclose(matrix(x[3:7]), matrix(state.x[3:7]), atol=1e-5)
        np.testing.assert_allclose(x[7:], state.x[7:10], atol=1e-5)
        np.testing.assert_allclose(from_matrix(matrix(state.x[3:7])), x[3:7], atol=1e-5)


def test_episodes_are_as_long_as_asked():
    race = RaceTask(episode_steps=2, starts="anywhere").environment
    first = race.step(race.reset(KEY), HOVER, KEY)
    assert not first.truncated and race.step(first.state, HOVER, KEY).truncated


@pytest.mark.long
def test_starts_from_anywhere_reach_every_gate_inside_the_arena():
    race = Race.on("split-s", starts="anywhere")
    states = jax.vmap(race.reset)(jax.random.split(KEY, 200))
    assert set(np.asarray(states.gate).tolist()) == set(range(7))
    positions = np.asarray(states.x[:, :3])
    assert (positions > np.asarray(race.arena_low)).all() and (positions < np.asarray(race.arena_high)).all()
    moved = jax.vmap(lambda state: race.step(state, HOVER, KEY))(states)
    assert np.mean(moved.terminated) < 0.05


@pytest.mark.long
def test_starts_from_anywhere_fly_the_way_the_track_goes():
    """Behind a gate the way of that gate, before one the way of that one: never back at what was just passed."""
    race = Race.on("split-s", starts="anywhere", start_spread=0.0)
    states = jax.vmap(race.reset)(jax.random.split(KEY, 300))
    normals = np.asarray(jax.vmap(lambda gate: frame_of(gate).normal)(race.gates))
    gate = np.asarray(states.gate)
    offset = np.asarray(states.x[:, :3] - race.gates[states.gate, :3])
    ahead = np.linalg.norm(np.cross(offset, normals[gate]), axis=1) < 1e-3
    way = np.where(ahead[:, None], normals[gate], normals[(gate - 1) % 7])
    velocity = np.asarray(states.x[:, 7:10])
    assert 0.3 < ahead.mean() < 0.7
    np.testing.assert_allclose(np.sum(velocity * way, axis=1), np.linalg.norm(velocity, axis=1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(jax.vmap(matrix)(states.x[:, 3:7])[:, :, 0], way, atol=1e-5)


def test_a_state_that_is_no_number_ends_the_race_with_a_finite_reward():
    race = Race.on("split-s")
    moved = race.step(placed(race, [np.nan, 0.0, 2.0], [0.0, 0.0, 0.0]), HOVER, KEY)
    assert moved.terminated and np.isfinite(moved.reward)


def test_the_reward_has_a_derivative_at_rest():
    race = Race.on("split-s")
    slope = jax.grad(lambda u: race.step(race.reset(KEY), u, KEY).reward)(HOVER)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Race(), r"Race got gates of shape \(0,\); rows of x, y, z \[m\], yaw and pitch"),
        (lambda: Race.on("circle", clearance=0.8), "Race got clearance=0.8.* and opening=1.5; nothing passes a gate"),
        (lambda: make_task("race-circle", mass_spread=1.5), "Randomisation got mass_spread=1.5; a share from 0 to"),
        (lambda: make_task("race-circle", plant="realistic", delay=0.5), "Realistic got delay=0.5; expected 0 to 0.02"),
    ],
)
def test_a_race_that_cannot_be_flown_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_28_parameters_a_stage():
    """As in the published policy for this model: ten states and four controls, a weight and a slope each."""
    for horizon in (2, 5):
        task = make_task("race-split-s", horizon=horizon)
        assert ParameterSpace(task.problem, task.learned_parameters).size == 28 * horizon
    task = make_task("race-split-s", interface="global")
    assert ParameterSpace(task.problem, task.learned_parameters).size == 28


@pytest.mark.parametrize(
    ("model", "cost", "size"),
    [
        ("rates", "diagonal", 28),
        ("rates", "cholesky", 79),
        ("rates", "full", 130),
        ("rotors", "diagonal", 34),
        ("rotors", "cholesky", 118),
        ("rotors", "full", 202),
    ],
)
def test_the_cost_is_the_quadratic_that_the_docstring_says(model, cost, size, x64):
    """By its derivatives: residuals have one second derivative, the same everywhere."""
    task = RaceTask(model=model, cost=cost, interface="global")
    space = ParameterSpace(task.problem, task.learned_parameters)
    assert space.size == size
    unit = jax.random.uniform(jax.random.key(3), (size,), minval=-1.0)
    problem = space.insert(task.problem, space.from_unit(unit))
    assert isinstance(problem, RaceProblem)

    def value(y):
        r = problem.terminal_residual(y * jnp.array(problem.model.state_scale))
        return 0.5 * r @ r

    nx = problem.state_size
    Q = jax.hessian(value)(jnp.zeros(nx))
    D, coupling = np.diag(np.sqrt(problem.state_weight)), np.eye(nx)
    if cost != "diagonal":
        coupling[np.tril_indices(nx, -1)] = problem.state_lower
    if cost == "full":
        coupling.T[np.tril_indices(nx, -1)] = problem.state_upper
    expected = D @ coupling @ coupling.T @ D + (0.01 * np.eye(nx) if cost != "diagonal" else 0.0)
    np.testing.assert_allclose(Q, expected, atol=1e-9)
    np.testing.assert_allclose(jax.grad(value)(jnp.zeros(nx)), problem.state_slope, atol=1e-9)
    assert np.linalg.eigvalsh(Q).min() >= 0.01 - 1e-9


@pytest.mark.long
def test_a_speed_limit_in_the_plan_is_kept_where_it_can_be():
    """Full thrust upwards would be fastest; ten steps ahead the plan brakes in time, and says what it exceeds."""
    x = jnp.array([0.0, 0.0, -9.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0])
    speeds = {}
    for limits in (False, True):
        environment = Race.on("vertical", speed_limit=6.0)
        problem = RaceTask(environment, horizon=10, limits_speed=limits, interface="global").problem
        slope = jnp.zeros(10).at[2].set(-10.0)
        problem = dataclasses.replace(problem, state_slope=slope)
        assert float(problem.speed_limit) == pytest.approx(0.98 * 6.0)
        plan = solve(problem, x)
        assert int(plan.status) == Status.SOLVED
        speeds[limits] = float(jnp.linalg.norm(plan.states[:, 7:], axis=1).max())
    assert speeds[False] > 8.0 and speeds[True] < 5.89


def test_outcomes_of_a_flight():
    race = Race.on("split-s", start_spread=0.0)
    state = race.reset(KEY)
    assert np.isnan(race.outcome(state)["lap [s]"]) and float(race.outcome(state)["peak speed [m/s]"]) == 0.0
    state = race.step(state, jnp.array([34.0, 0.0, 0.0, 0.0]), KEY).state
    fast = race.outcome(state)["peak speed [m/s]"]
    state = race.step(state, jnp.array([0.0, 0.0, 0.0, 0.0]), KEY).state
    assert float(fast) == pytest.approx(0.708, abs=1e-3) == float(race.outcome(state)["peak speed [m/s]"])


class TestRotors:
    """The model with 13 states, whose plans are rotor thrusts."""

    @pytest.mark.parametrize("horizon", [1, 3])
    def test_34_parameters_a_stage(self, horizon):
        task = make_task("race-split-s", model="rotors", horizon=horizon)
        assert ParameterSpace(task.problem, task.learned_parameters).size == 34 * horizon

    @pytest.mark.long
    def test_a_nominal_quadrotor_does_what_was_planned(self, x64):
        """Thrusts near to hovering, so that no rate is beyond the limits: the body and the model agree to the digit."""
        task = RaceTask(model="rotors", starts="anywhere")
        race, problem = task.environment, task.problem
        state = race.reset(KEY)
        for key in jax.random.split(KEY, 5):
            x = task.planner_state(race.observe(state))
            thrusts = problem.control_guess() + jax.random.uniform(key, (4,), minval=-0.2, maxval=0.2)
            planned = problem.dynamics(x, thrusts)
            state = race.step(state, problem.action(x, thrusts), KEY).state
            seen = task.planner_state(race.observe(state))
            np.testing.assert_allclose(seen[3:], planned[3:], atol=1e-9)
        assert state.rates is not None and float(jnp.abs(state.rates).max()) > 0.02

    def test_the_model_is_the_rigid_body_in_the_limit_of_short_steps(self, x64):
        """Against the equations of motion, integrated by RK4 in a thousandth of the time: first order in the step."""
        model, mass = RotorsModel(), jnp.array(0.752)
        x = jnp.concatenate([jnp.zeros(3), jnp.array([0.8, 0.0, 0.6, 0.0]), jnp.array([1.0, 2.0, 0.0, 3.0, -2.0, 1.0])])
        thrusts = jnp.array([3.0, 4.0, 3.5, 2.5])
        arms = np.array([[0.075, -0.10], [-0.075, 0.10], [-0.075, -0.10], [0.075, 0.10]])  # m, forward and left
        spin = np.array([-1.0, -1.0, 1.0, 1.0])

        def ode(x, f):
            q, w = x[3:7], x[10:]
            torque = jnp.stack([f @ arms[:, 1], -f @ arms[:, 0], 0.022 * f @ spin])
            J = jnp.array([0.0025, 0.0021, 0.0043])
            a = matrix(q)[:, 2] * f.sum() / mass - jnp.array([0.0, 0.0, 9.8066])
            turn = 0.5 * product(q, jnp.concatenate([jnp.zeros(1), w]))
            return jnp.concatenate([x[7:10], turn, a, (torque - jnp.cross(w, J * w)) / J])

        errors = []
        for steps in (1, 2, 4):
            coarse = x
            for _ in range(steps):
                coarse = model.fly(coarse, thrusts, mass, 0.02 / steps)
            fine = jax.lax.fori_loop(0, 1000, lambda _, x: rk4(ode, x, thrusts, 2e-5), x)
            errors.append(float(jnp.abs(coarse - fine).max()))
        assert errors[0] < 0.1 and errors[1] < 0.6 * errors[0] and errors[2] < 0.6 * errors[1]

    def test_a_planner_of_rotors_flies(self):
        """Untrained, on the realistic plant: from the grid it comes nearer to the gate, and does not tumble."""
        task = RaceTask(model="rotors", plant="realistic", horizon=5)
        race = task.environment
        state, step, decide = race.reset(KEY), eqx.filter_jit(race.step), eqx.filter_jit(FixedPlanner(task).decide)
        start = float(jnp.linalg.norm(task.planner_state(race.observe(state))[:3]))
        for _ in range(50):
            decision = decide(race.observe(state))
            assert not bool(decision.failed)
            moved = step(state, decision.action, KEY)
            assert not bool(moved.terminated)
            state = moved.state
        assert float(jnp.linalg.norm(task.planner_state(race.observe(state))[:3])) < start - 0.3
        assert float(matrix(state.x[3:7])[2, 2]) > 0.5

    def test_it_needs_the_rates(self):
        with pytest.raises(ValueError, match="observes_rates=True"):
            RaceTask(Race.on("circle"), model="rotors")
        assert RaceTask(observes_rates=True).planner_state(jnp.ones(39)).shape == (10,)

    def test_a_gyroscope_tells_the_rates_of_either_plant(self):
        command = HOVER.at[1].set(2.0)
        race, state = Race.on("circle"), None
        for plant, expected in ((Nominal, 2.0), (Realistic, 0.0)):  # the realistic one waits for its delay
            race = Race.on("circle", vehicle=plant(), observes_rates=True)
            state = race.reset(KEY)
            assert race.observe(state).shape == (39,) and not race.observe(state)[36:].any()
            state = race.step(state, command, KEY).state
            np.testing.assert_allclose(race.observe(state)[36:], [expected, 0.0, 0.0], atol=1e-6)
        assert state is not None
        state = race.step(state, command, KEY).state
        assert 0.05 < float(race.observe(state)[36]) < 1.0


def test_speeding_costs_and_the_limit_is_far_unless_told():
    rewards = {}
    for limit in (100.0, 5.0):
        race = Race.on("split-s", speed_limit=limit)
        rewards[limit] = float(race.step(placed(race, [-5.0, -1.27, 3.0], [8.0, 0.0, 0.0]), HOVER, KEY).reward)
    assert rewards[100.0] - rewards[5.0] == pytest.approx(0.1 * 3.0, abs=1e-3)
