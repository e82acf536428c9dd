"""Imitating a planner: what is asked, what the losses say in closed form, and that DAgger mends what cloning breaks."""

import dataclasses
import io
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import planahead as pa
from planahead.learning import Expert, Imitation, ImitationState, make_algorithm
from planahead.learning.fitting import fit
from planahead.learning.imitation_losses import (
    ActionTerm,
    GaussNewtonTerm,
    ImitationTerm,
    Lesson,
    QTerm,
    SobolevTerm,
    TrajectoryTerm,
)
from planahead.policies import ActionBox, DirectPolicy, GaussianPolicy, Policy
from tests.learning.integrator import HORIZON, STEP, IntegratorProblem, IntegratorTask, closed_form, moved
from tests.learning.test_sac import saved

TASK = IntegratorTask()
EXPERT = Expert(TASK)
BOX = ActionBox((-20.0,), (20.0,))
QUICK = Imitation(batch_size=32, gradient_steps=300, replay_size=2_000, environments=2, steps_per_chunk=50)
HIDDEN = (16, 16)


def student(seed: int = 0, hidden: tuple[int, ...] = HIDDEN, horizon: int = 1) -> DirectPolicy:
    return DirectPolicy((1.0, 2.0), BOX, hidden=hidden, horizon=horizon, key=jax.random.key(seed))


def lessons(observations: Any, *terms: ImitationTerm, expert: Expert = EXPERT) -> Lesson:
    def ask(observation: jax.Array) -> Lesson:
        answer = expert.answer(observation, sensitive=any(term.sensitive for term in terms))
        kept = tuple(term.keep(expert, observation, answer) for term in terms)
        return Lesson(observation, answer.unit, answer.usable, kept)

    return jax.jit(jax.vmap(ask))(jnp.asarray(observations, float))


def saying(unit: Any, horizon: int = 1) -> DirectPolicy:
    """A student that proposes `unit` everywhere."""
    policy = student(hidden=(), horizon=horizon)
    outputs = jnp.concatenate([jnp.arctanh(jnp.asarray(unit, float)), jnp.zeros(horizon)])
    last = policy.network.layers[-1]
    return eqx.tree_at(
        lambda p: (p.network.layers[-1].weight, p.network.layers[-1].bias),
        policy,
        (jnp.zeros_like(last.weight), outputs),
    )


def gain(policy: DirectPolicy) -> np.ndarray:
    """∂u/∂o at the origin, in physical units."""
    return np.asarray(jax.jacrev(lambda o: policy.decide(o).action)(jnp.zeros(2)))


def test_the_expert_answers_with_the_riccati_gain(x64: None):
    """u* = -K x and J = -K, in unit coordinates."""
    exact, x = closed_form(), np.array([0.3, -0.2])
    answer = EXPERT.answer(jnp.asarray(x), sensitive=True)
    assert answer.jacobian is not None and bool(answer.usable)
    np.testing.assert_allclose(20 * answer.unit, -exact.gain @ x, rtol=1e-6)
    np.testing.assert_allclose(20 * answer.jacobian, -exact.gain, rtol=1e-6)


@pytest.mark.slow
def test_sensitivities_are_worth_samples(x64: None):
    """A linear student of a linear expert: the gain has two entries, so one answer without its slope leaves one open,
    and one answer with it none."""
    lesson = lessons([[0.3, -0.2]], ActionTerm(), SobolevTerm())

    def trained(weight: float) -> np.ndarray:
        policy, adam = student(hidden=()), optax.adam(3e-2)
        parts, fixed = eqx.partition(policy, policy.trainable())

        def loss_of(parts: Any, key: Any) -> tuple[jax.Array, None]:
            del key
            found = eqx.combine(parts, fixed)
            action = ActionTerm().score(EXPERT, found, lesson, None).loss
            return action + weight * SobolevTerm().score(EXPERT, found, lesson, lesson.kept[1]).loss, None

        fitted = fit(parts, adam.init(parts), adam, loss_of, 1_500, jax.random.key(0))
        end = eqx.combine(fitted.trained, fixed)
        assert fitted.losses[-1] < 1e-6
        return np.asarray(jax.jacrev(lambda o: end.decide(o).action)(lesson.observation[0]))

    exact = closed_form().gain
    assert np.abs(trained(1.0) + exact).max() < 0.02 * np.abs(exact).max()
    assert np.abs(trained(0.0) + exact).max() > 0.3 * np.abs(exact).max()


@pytest.mark.long
def test_the_q_loss_is_the_cost_of_a_deviation_and_its_gradient_the_multiplier(x64: None):
    """For a linear-quadratic problem Q - V = ½ H (u - u*)²; the gradient also by finite differences of solved plans."""
    exact, x, unit = closed_form(), jnp.array([0.3, -0.2]), 0.1
    best = -exact.gain @ np.asarray(x)
    lesson = lessons(x[None], QTerm(), GaussNewtonTerm())

    def loss(term: int, unit: jax.Array) -> jax.Array:
        part: ImitationTerm = (QTerm(robust=False), GaussNewtonTerm(robust=False))[term]
        return part.score(EXPERT, saying(unit), lesson, lesson.kept[term]).loss

    apart = 20 * unit - best
    for term in (0, 1):
        value, slope = jax.value_and_grad(lambda u, term=term: loss(term, u))(jnp.array([unit]))
        np.testing.assert_allclose(value, 0.5 * apart @ exact.curvature @ apart, rtol=1e-5)
        np.testing.assert_allclose(slope, 20 * exact.curvature @ apart, rtol=1e-5)

    def q(u: float) -> float:
        return float(pa.solve(TASK.problem, x, jnp.array([u])).cost)

    step = 1e-3  # Q is quadratic: the difference is exact but for the solver's 1e-8
    _, slope = jax.value_and_grad(lambda u: loss(0, u))(jnp.array([unit]))
    np.testing.assert_allclose(slope[0], 20 * (q(20 * unit + step) - q(20 * unit - step)) / (2 * step), rtol=1e-4)


@pytest.mark.parametrize("term", [QTerm(), GaussNewtonTerm()])
def test_who_is_at_the_experts_bound_is_pushed_no_further(term: ImitationTerm, x64: None):
    """Into saturation, out of which there is no way back; on the wrong side there is, however small the slope."""
    expert = Expert(IntegratorTask(problem=IntegratorProblem(limit=20.0)))
    far = jnp.array([[4.0, 6.0]])  # where all that the box allows is called for
    lesson = lessons(far, term, expert=expert)
    assert float(lesson.unit[0, 0]) == pytest.approx(-1.0)

    def score(unit: Any) -> tuple[float, float]:
        loss, slope = jax.value_and_grad(lambda unit: term.score(expert, saying(unit), lesson, lesson.kept[0]).loss)(
            jnp.array([unit])
        )
        return float(loss), float(slope[0])

    loss, slope = score(-0.99)
    assert loss < 1e-3 and slope == 0.0  # but for the solver's tolerance
    for unit in (-0.9, 0.99):
        loss, slope = score(unit)
        assert loss > 0 and slope > 0


@pytest.mark.slow
def test_at_an_active_bound_the_cost_rises_with_the_bounds_multiplier(x64: None):
    problem, x = IntegratorProblem(limit=0.5), jnp.array([0.3, -0.2])
    plan = pa.solve(problem, x)
    bent = pa.action_curvature(problem, x, plan)
    assert float(plan.controls[0, 0]) == pytest.approx(-0.5) and bool(bent.valid)
    step = 1e-4
    rise = (pa.action_value(problem, x, jnp.array([-0.5 + step])) - plan.cost) / step
    np.testing.assert_allclose(bent.gradient[0] + 0.5 * bent.hessian[0, 0] * step, rise, rtol=1e-3)
    assert rise > 0.01


def test_scalar_costs_have_no_gauss_newton_form():
    class Scalar(pa.Problem):
        horizon: int = pa.static(1)
        state_size: int = pa.static(1)
        control_size: int = pa.static(1)

        def dynamics(self, x: jax.Array, u: jax.Array) -> jax.Array:
            return x + u

        def stage_cost(self, x: jax.Array, u: jax.Array) -> jax.Array:
            return jnp.sum(x**2 + u**2)

    problem, x = Scalar(), jnp.zeros(1)
    plan = eqx.filter_eval_shape(lambda: pa.solve(problem, x))
    with pytest.raises(ValueError, match=r"Scalar\.stage_cost is a scalar cost"):
        eqx.filter_eval_shape(lambda plan: pa.action_curvature(problem, x, plan), plan)


def test_the_trajectory_loss_is_what_a_wrong_control_moves(x64: None):
    """The expert's own plan costs nothing; a wrong first control moves x_k by A^{k-1} B δ."""
    lesson = lessons([[0.3, -0.2]], TrajectoryTerm())
    plan = pa.solve(TASK.problem, lesson.observation[0])
    right = plan.controls[:, 0] / 20
    term, (shown,) = TrajectoryTerm(), lesson.kept
    assert float(term.score(EXPERT, saying(right, HORIZON), lesson, shown).loss) < 1e-12
    delta = 0.4
    wrong = saying(right.at[0].add(delta / 20), HORIZON)
    apart = [np.zeros(2), np.array([0.0, STEP * delta])]
    for _ in range(HORIZON - 1):
        apart.append(np.asarray(moved(jnp.asarray(apart[-1]), jnp.zeros(1))))
    scale = np.sqrt(np.mean(np.asarray(shown[0] - shown[0, :1]) ** 2, axis=0))
    expected = np.mean((np.array(apart) / scale) ** 2)
    np.testing.assert_allclose(term.score(EXPERT, wrong, lesson, shown).loss, expected, rtol=1e-6)


ALL = {
    "action": ActionTerm(),
    "q": QTerm(),
    "gauss-newton": GaussNewtonTerm(),
    "sobolev": SobolevTerm(),
    "trajectory": TrajectoryTerm(),
}


@pytest.mark.parametrize("name", ALL)
def test_labels_of_failed_solves_have_no_say(name: str):
    """A row whose solve failed changes neither loss nor gradient."""
    term, good = ALL[name], [[0.3, -0.2], [0.5, 0.1]]
    settings: dict[str, Any] = {"sobolev_weight": 1.0} if name == "sobolev" else {"loss": name}
    learner = Imitation(**settings)
    policy, place = student(horizon=HORIZON if name == "trajectory" else 1), int(name == "sobolev")
    parts, fixed = eqx.partition(policy, policy.trainable())
    ask = jax.jit(jax.vmap(lambda o: learner._ask(EXPERT, o)))

    @jax.jit
    def judged(rows: Lesson) -> Any:
        def loss(parts: Any) -> Any:
            scored = term.score(EXPERT, eqx.combine(parts, fixed), rows, rows.kept[place])
            return scored.loss, scored.unusable

        return jax.value_and_grad(loss, has_aux=True)(parts)

    both = ask(jnp.array([*good, [jnp.nan, 0.0]]))
    assert both.usable.tolist() == [True, True, False]
    both = eqx.tree_at(lambda rows: rows.observation, both, jnp.nan_to_num(both.observation))
    (loss, left_out), slope = judged(both)
    (alone, _), slope_alone = judged(jax.tree.map(lambda leaf: leaf[:2], both))
    assert left_out == pytest.approx(1 / 3)
    np.testing.assert_allclose(loss, alone, rtol=1e-4)
    for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(slope_alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * float(jnp.abs(b).max()))


def advanced(learner: Imitation, chunks: int, seed: int = 0) -> tuple[ImitationState, Any]:
    state, metrics = learner.init(TASK, student(seed), jax.random.key(seed)), {}
    for chunk in range(chunks):
        state, metrics = learner.advance(state, jax.random.fold_in(jax.random.key(seed), chunk))
    return state, metrics


def closed_loop_cost(policy: Policy) -> float:
    """Σ p² along one episode from (1, 0), of which the expert makes 4.2."""

    def step(x: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        x = jnp.clip(moved(x, policy.decide(x).action), -10.0, 10.0)
        return x, x[0] ** 2

    return float(jnp.sum(jax.lax.scan(step, jnp.array([1.0, 0.0]), None, length=50)[1]))


@pytest.mark.long
def test_dagger_is_as_good_as_cloning_where_errors_compound():
    """A plant that drifts off, little data: cloning knows the expert's one way only. The same number of queries."""
    hasty = dataclasses.replace(QUICK, gradient_steps=60)  # students that err, so that errors can compound
    cloning, dagger = (
        [closed_loop_cost(advanced(dataclasses.replace(hasty, expert_decay=p), 6, seed)[0].policy) for seed in range(6)]
        for p in (1.0, 0.0)
    )
    assert np.mean(dagger) < np.mean(cloning)
    assert np.max(dagger) < np.max(cloning)


def test_who_acts_and_what_is_asked():
    """Cloning asks along the expert's way and nowhere else; DAgger does so in its first chunk. A step is a query."""
    state, metrics = advanced(dataclasses.replace(QUICK, expert_decay=1.0), 2)
    assert int(metrics["expert_queries"]) == int(metrics["steps"]) == 100 and metrics["expert_share"] == 1.0
    width = state.replay.rows[:100].reshape(50, 2, -1)
    x = np.array([1.0, 0.0])
    K = closed_form().gain
    for row in np.asarray(width[:25, 0, :2]):
        np.testing.assert_allclose(row, x, atol=2e-3)
        x = np.asarray(moved(jnp.asarray(x, float), jnp.asarray(-K @ x, float)))
    np.testing.assert_allclose(width[25, 0, :2], [1.0, 0.0])  # a new episode
    state, metrics = advanced(QUICK, 2)
    assert metrics["expert_share"] == 0.0
    np.testing.assert_allclose(state.replay.rows[:50], width.reshape(100, -1)[:50], atol=1e-5)
    assert np.abs(state.replay.rows[52:100] - width.reshape(100, -1)[52:100]).max() > 1e-3  # the student's own way
    mixed = dataclasses.replace(QUICK, expert_decay=0.5)
    assert advanced(mixed, 2)[1]["expert_share"] == 0.5


def test_a_break_changes_nothing():
    """Saved, loaded into a fresh state: learning goes on to the same bytes."""
    first, _ = advanced(QUICK, 1)
    fresh = QUICK.init(TASK, student(3), jax.random.key(9))
    loaded = eqx.tree_deserialise_leaves(io.BytesIO(saved(first)), fresh)
    ends = [saved(QUICK.advance(state, jax.random.key(1))[0]) for state in (first, loaded)]
    assert ends[0] == ends[1]


REFUSALS = [
    (dict(expert_decay=1.5), r"expert_decay=1.5; expected 0 \(DAgger\) to 1 \(behaviour cloning\)"),
    (dict(sobolev_weight=-1.0), r"sobolev_weight=-1.0; expected 0 \(left out\) or more"),
    (dict(steps_per_chunk=10), "steps_per_chunk=10 is not a multiple of environments=4; use 8 or 12"),
    (dict(gradient_steps=0), "gradient_steps=0; at least 1 was expected"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSALS)
def test_settings_that_do_not_fit_are_refused_in_words(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Imitation(**settings)


def test_policies_that_do_not_fit_are_refused_in_words():
    with pytest.raises(ValueError, match="a network that acts by itself, such as DirectPolicy; got GaussianPolicy"):
        Imitation().init(TASK, GaussianPolicy((1.0, 2.0), BOX, key=jax.random.key(0)), jax.random.key(0))
    with pytest.raises(ValueError, match="proposes 1 numbers; give it horizon=10"):
        Imitation(loss="trajectory").init(TASK, student(), jax.random.key(0))
    with pytest.raises(ValueError, match="stands for 1 actions and the policy takes 2"):
        wide = DirectPolicy((1.0, 2.0), ActionBox((-1.0,) * 2, (1.0,) * 2), key=jax.random.key(0))
        Imitation().init(TASK, wide, jax.random.key(0))


@pytest.mark.long
def test_problems_with_parameters_for_every_stage_are_imitated():
    task = pa.make_task("race-circle")
    policy, learner = make_algorithm("dagger", task, jax.random.key(0), hidden_units=8)
    assert learner.init(task, policy, jax.random.key(0)) is not None


def test_what_plans_in_other_terms_than_actions_is_no_expert():
    race = pa.make_task("race-split-s", model="rotors")
    for name in ("q-loss-gn", "gps"):
        policy, learner = pa.make_algorithm(name, race, jax.random.key(0))
        with pytest.raises(ValueError, match="RaceProblem plans in other terms than its plant is commanded in"):
            learner.init(race, policy, jax.random.key(0))


def test_an_expert_that_plans_in_other_terms_acts_in_the_plants():
    race = pa.make_task("race-split-s", model="rotors")
    expert, start = Expert(race), race.environment.observe(race.environment.reset(jax.random.key(0)))
    plan = expert.plan(start)
    commanded = race.problem.action(plan.states[0], plan.controls[0])
    np.testing.assert_allclose(expert.decide(start).action, race.action_box.clip(commanded), rtol=1e-5, atol=1e-5)
    assert commanded[0] == pytest.approx(float(plan.controls[0].sum()), rel=1e-5)  # thrust, not that of one rotor
