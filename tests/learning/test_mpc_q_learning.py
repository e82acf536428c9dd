"""Q-learning on a planner's own parameters: what it must find in closed form, and that its steps stay admissible."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.learning import MPCQLearning
from planahead.learning.mpc_q_learning import mirrored, q_value, temporal_difference
from planahead.learning.planner_learner import Tried, admissible_step
from planahead.policies import DirectPolicy, TunedPlanner
from tests.learning.linear_quadratic import DISCOUNT, EXACT, PlantTask, WrongModel, optimum, policy_of, taught
from tests.planning.study import quick_jit


@pytest.mark.long
@pytest.mark.parametrize("horizon", [1, 2, 10])
def test_the_right_cost_makes_up_for_a_wrong_model(horizon, x64):
    """Gros and Zanon's theorem with two states: with ℓ̂ = Q* - γ V*∘f̂ and terminal V*, the planner's policy, V and Q
    are those of the world, whatever the horizon."""
    P, K, H = optimum()
    problem, state, action = taught(horizon), jnp.array([0.7, -1.1]), jnp.array([0.3])

    @quick_jit
    def everything(state, action):
        plan = pa.solve(problem, state, planner=EXACT)
        gain = jax.jacrev(lambda x: pa.solve(problem, x, planner=EXACT).controls[0])(state)
        return plan, gain, pa.action_value(problem, state, action, planner=EXACT)

    plan, gain, q = everything(state, action)
    x, z = np.asarray(state), np.concatenate([state, action])
    assert int(plan.status) == pa.Status.SOLVED
    np.testing.assert_allclose(gain, -K, rtol=1e-8)
    np.testing.assert_allclose(plan.controls[0], -K @ x, rtol=1e-8)
    assert float(plan.cost) == pytest.approx(x @ P @ x / 2, rel=1e-8)
    assert float(q) == pytest.approx(z @ H @ z / 2, rel=1e-8)


@pytest.mark.long
@pytest.mark.parametrize("hessian", ["gauss-newton", "full"])
def test_the_temporal_difference_vanishes_from_random_parameters(hessian, x64):
    """The learner itself, from perturbed costs: δ -> 0 on what it saw, and the policy becomes the best one."""
    random = np.random.default_rng(0)
    start = WrongModel()
    start = dataclasses.replace(start, cost=start.cost + 0.2 * random.normal(size=6))
    learner = MPCQLearning(
        hessian=hessian, learning_rate=1.0, largest_change=0.2, regularisation=1e-8, exploration=0.05,
        environments=8, steps_per_update=32, steps_per_chunk=320, batch_size=64, replay_size=320,
    )  # fmt: skip
    state = learner.init(PlantTask(problem=start), policy_of(start), jax.random.key(0))
    errors, metrics = [], {}
    for chunk in range(5):
        state, metrics = learner.advance(state, jax.random.key(chunk))
        errors.append(float(metrics["td_error"]))
    assert errors[0] > 1e-1 and errors[-1] < 1e-8 and metrics["failed_updates"] == 0.0
    gain = jax.jacrev(lambda x: pa.solve(state.policy.problem(), x, planner=EXACT).controls[0])(jnp.array([0.5, 0.2]))
    np.testing.assert_allclose(gain, -optimum().K, rtol=1e-6)


def rows(number: int = 6, key: int = 0) -> Tried:
    first, second, third = jax.random.split(jax.random.key(key), 3)
    observation, action = jax.random.normal(first, (number, 2)), 0.05 * jax.random.normal(second, (number, 1))
    following = 0.9 * observation + jax.random.normal(third, (number, 2))
    cost, no = jnp.sum(observation**2, axis=1), jnp.zeros(number, bool)
    return Tried(observation, jnp.zeros_like(action), action, cost, following, no, no, ~no)


@pytest.mark.long
def test_directions_are_derivatives_of_the_temporal_difference(x64):
    """g is the gradient of ½ E[δ²] with the target held, and H with `full` its Hessian, by central differences."""
    policy, batch = policy_of(WrongModel(), ("cost",)), rows()
    learner = MPCQLearning(hessian="full", regularisation=1e-12)
    state = learner.init(PlantTask(), policy, jax.random.key(0))
    target = jax.vmap(lambda row: temporal_difference(policy, row, DISCOUNT).error + q_value(policy, policy.unit, row))

    @quick_jit
    def loss(unit):
        values = jax.vmap(lambda row: q_value(policy, unit, row))(batch)
        return 0.5 * jnp.mean((target(batch) - values) ** 2)

    direction = quick_jit(lambda: learner.direction(state, batch))()
    step, n = 1e-4, policy.unit.size
    moved = step * jnp.eye(n)
    around = np.array([[float(loss(policy.unit + a + b)) for b in (*moved, *-moved)] for a in (*moved, *-moved)])
    slopes = [float(loss(policy.unit + e) - loss(policy.unit - e)) / (2 * step) for e in moved]
    np.testing.assert_allclose(direction.gradient, slopes, rtol=1e-6, atol=1e-7)
    hessian = (around[:n, :n] - around[:n, n:] - around[n:, :n] + around[n:, n:]) / (4 * step**2)
    np.testing.assert_allclose(direction.curvature, mirrored(jnp.asarray(hessian)), rtol=1e-3, atol=1e-3)


def test_rows_whose_solve_failed_are_left_out_and_counted(x64):
    learner = MPCQLearning()
    state = learner.init(PlantTask(), policy_of(WrongModel()), jax.random.key(0))
    batch = rows(8)
    broken = eqx.tree_at(lambda b: b.observation, batch, batch.observation.at[2].set(jnp.nan))
    broken = eqx.tree_at(lambda b: b.next_observation, broken, broken.next_observation.at[5].set(jnp.inf))
    healthy = jax.tree.map(lambda leaf: leaf[jnp.array([0, 1, 3, 4, 6, 7])], batch)
    direction = quick_jit(learner.direction)
    left, expected = direction(state, broken), direction(state, healthy)
    assert float(left.metrics["failed_updates"]) == 0.25 and float(expected.metrics["failed_updates"]) == 0.0
    np.testing.assert_allclose(left.gradient, expected.gradient, rtol=1e-9)
    np.testing.assert_allclose(left.curvature, expected.curvature, rtol=1e-9)


def test_what_terminated_has_no_future(x64):
    policy, row = policy_of(WrongModel()), jax.tree.map(lambda leaf: leaf[0], rows())
    ended = eqx.tree_at(
        lambda row: (row.terminated, row.next_observation), row, (jnp.array(True), jnp.full(2, jnp.nan))
    )
    found = temporal_difference(policy, ended, DISCOUNT)
    assert bool(found.usable) and not np.any(found.next_gradient)
    assert float(found.error) == pytest.approx(float(row.cost - q_value(policy, policy.unit, row)), rel=1e-12)


class TestAdmissibleStep:
    H = jnp.array([[1.0, 0.9], [0.9, 1.0]])

    def step(self, unit, gradient, curvature, rate=1.0, largest=0.5):
        return admissible_step(jnp.array(unit), jnp.array(gradient), curvature, rate=rate, largest=largest)

    def test_a_free_step_is_newtons(self, x64):
        H = jnp.asarray(self.H, float)
        step = self.step([0.0, 0.1], [0.02, -0.01], H, rate=0.5)
        np.testing.assert_allclose(step - jnp.array([0.0, 0.1]), -0.5 * np.linalg.solve(H, [0.02, -0.01]), rtol=1e-6)
        np.testing.assert_allclose(self.step([0.2, 0.0], [0.1, -0.2], None, rate=0.1), [0.19, 0.02], rtol=1e-12)

    def test_a_limited_step_is_the_best_one_in_the_box(self, x64):
        """Clipping Newton's step, (1, -0.9)/0.19, would end where the model is worse."""
        H, g = jnp.asarray(self.H, float), jnp.array([-1.0, 0.0])
        found = self.step([0.9, 0.0], [-1.0, 0.0], H)
        np.testing.assert_allclose(found, [1.0, -0.09], atol=1e-6)  # the second entry follows the first
        clipped = np.clip(-np.linalg.solve(H, g), [-0.5, -0.5], [0.1, 0.5])
        taken = np.asarray(found) - [0.9, 0.0]

        def model(d):
            return g @ d + d @ H @ d / 2

        assert model(taken) < min(0.0, float(model(clipped)))

    def test_nothing_learned_moves_nothing(self):
        """All solves of a batch failed; the way inwards is as long as is allowed, and none of it is taken."""
        np.testing.assert_array_equal(self.step([1.0, -1.0], [0.0, 0.0], jnp.zeros((2, 2))), jnp.array([1.0, -1.0]))

    @pytest.mark.parametrize("curvature", [None, H])
    def test_what_is_not_finite_moves_nothing(self, curvature):
        np.testing.assert_array_equal(self.step([0.3, -0.2], [jnp.nan, 0.1], curvature), jnp.array([0.3, -0.2]))


@pytest.mark.long
def test_parameters_stay_in_their_boxes_and_steps_within_their_limit():
    """On the linear system, with a rate that would throw them out of their boxes at once."""
    task = pa.make_task("linear")
    settings = {"learning_rate": 1e4, "largest_change": 0.3, "batch_size": 32, "replay_size": 320}
    policy, learner = pa.make_algorithm(
        "mpc-q", task, jax.random.key(0), steps_per_update=32, steps_per_chunk=32, **settings
    )
    assert isinstance(policy, TunedPlanner)
    state, farthest = learner.init(task, policy, jax.random.key(0)), 0.0
    space = policy.steering.space
    for chunk in range(12):
        before = state.policy.unit
        state, metrics = learner.advance(state, jax.random.key(chunk))
        assert metrics["failed_updates"] == 0.0
        assert np.abs(state.policy.unit).max() <= 1.0
        assert np.abs(state.policy.unit - before).max() <= 0.3 * (1 + 1e-6)
        farthest = max(farthest, float(np.abs(state.policy.unit).max()))
        values = space.flatten(state.policy.problem())
        assert (values >= space.low - 1e-6).all() and (values <= space.high + 1e-6).all()
    assert farthest > 0.999


def test_cost_and_violations_of_the_linear_system_fall():
    """Half of all steps violate with the wrong model; after 4,000 none of a hundred does, at a tenth of the cost."""
    task = pa.make_task("linear")
    policy, learner = pa.make_algorithm("mpc-q", task, jax.random.key(0))
    state, seen = learner.init(task, policy, jax.random.key(1)), []
    for chunk in range(2):
        state, metrics = learner.advance(state, jax.random.key(chunk))
        seen.append({name: float(metrics[name]) for name in ("return", "violations_per_step", "td_error")})
    assert seen[0]["return"] < -20 < -12 < seen[1]["return"]
    assert seen[0]["violations_per_step"] > 0.03 and seen[1]["violations_per_step"] < 0.01
    again, same = learner.init(task, policy, jax.random.key(1)), {}
    for chunk in range(2):
        again, same = learner.advance(again, jax.random.key(chunk))
    assert {name: float(same[name]) for name in seen[1]} == seen[1]


def test_what_cannot_be_trained_is_refused_in_words():
    task = pa.make_task("linear")
    learner = MPCQLearning()
    box = pa.ActionBox((-1.0,), (1.0,))
    with pytest.raises(ValueError, match="MPCQLearning trains the parameters of a TunedPlanner; got DirectPolicy"):
        learner.init(task, DirectPolicy((1.0, 1.0), box, key=jax.random.key(0)), jax.random.key(0))
    shot = TunedPlanner(task.problem, task.planner_state, box, planner=pa.SQP(shooting="single"))
    with pytest.raises(ValueError, match=r"needs a planner that can pin the first control; use .*'multiple'"):
        learner.init(task, shot, jax.random.key(0))
    race = pa.make_task("race-split-s", model="rotors")
    with pytest.raises(ValueError, match="RaceProblem plans in other terms than its plant is commanded in"):
        pa.make_algorithm("mpc-q", race, jax.random.key(0), discount=0.9)
    other = pa.make_task("mass-spring-damper")
    policy, learner = pa.make_algorithm("mpc-q", other, jax.random.key(0))
    with pytest.raises(ValueError, match=r"MassSpringDamperProblem has a discount of 1, .* give discount=0.99"):
        learner.init(other, policy, jax.random.key(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate=0.0; a positive number was expected"),
        ({"steps_per_update": 100}, "steps_per_update=100 is not a multiple of environments=16; use 96 or 112"),
        ({"steps_per_chunk": 2050}, "steps_per_chunk=2050 is not a multiple of steps_per_update=80; use 2000 or 2080"),
        ({"replay_size": 100}, "replay_size=100 is not a multiple of steps_per_update=80; use 80 or 160"),
        ({"discount": 1.0}, "discount=1.0; expected 0 <= discount < 1"),
        ({"regularisation": 0.0}, "regularisation=0.0; a positive number was expected"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MPCQLearning(**settings)


def test_an_unknown_hessian_is_told_the_known_ones():
    with pytest.raises(ValueError, match="hessian='newton': 'none' or 'gauss-newton' or 'full' was expected"):
        pa.make_algorithm("mpc-q", pa.make_task("linear"), jax.random.key(0), hessian="newton")
