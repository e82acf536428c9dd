"""What a planner cannot work with is named: the function, the stage, the entry."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa


class Homing(pa.Problem):
    """A point that is pushed about, with a function of the tests' in the place of each method."""

    horizon: int = pa.static(4)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    pull: pa.Array = pa.parameter(0.5, low=0.0, high=2.0)
    limit: pa.Array = pa.parameter([1.0, np.inf])

    def dynamics(self, x, u):
        return jnp.stack([x[0] + 0.1 * x[1], x[1] + 0.1 * u[0]])

    def stage_residual(self, x, u):
        return jnp.stack([self.pull * x[0], u[0]])


def findings(problem: pa.Problem, state=(1.0, 0.0), guess: pa.Guess | pa.Plan | None = None) -> list[str]:
    return [found.splitlines()[0] for found in pa.check_problem(problem, jnp.array(state), guess).findings]


def test_nothing_is_found_in_what_can_be_planned():
    for name in ("cartpole", "windmaze-walls", "race-split-s"):
        task = pa.make_task(name)
        world = task.environment
        state = task.planner_state(world.observe(world.reset(jax.random.key(0))))
        assert pa.check_problem(task.problem, state).findings == ()


def test_a_value_and_its_stage():
    class Overflowing(Homing):
        def dynamics(self, x, u):
            return jnp.stack([jnp.where(x[1] > 1.5, jnp.inf, x[0]), x[1] + 0.3])

    guess = pa.Guess(jnp.stack([jnp.zeros(5), 0.5 * jnp.arange(5)], 1), jnp.zeros((4, 1)))
    assert findings(Overflowing(), guess=guess) == []  # 2.0 is the last state's, which goes nowhere
    guess = pa.Guess(guess.states + 0.5, guess.controls)
    assert findings(Overflowing(), guess=guess) == [
        "Overflowing.dynamics: the value of entry 0 is inf at stage 3, where x = [0.5, 2] and u = [0]; so at 1 of 4 "
        "stages."
    ]


def test_derivatives_by_states_controls_and_leaves():
    class Rooted(Homing):
        def stage_residual(self, x, u):
            return jnp.stack([x[0], jnp.sqrt(jnp.abs(u[0]))])

        def stage_cost(self, x, u):
            return jnp.abs(x[1]) ** 1.5

        def terminal_residual(self, x):
            return x * jnp.sqrt(self.pull)

    found = findings(Rooted(pull=jnp.array(0.0)), state=(1.0, 0.5))
    assert found == [
        "Rooted.stage_residual: the derivative of entry 1 by u[0] is inf at stage 0, where x = [1, 0.5] and u = [0]; "
        "so at 4 of 4 stages.",
        "Rooted.terminal_residual: the derivative by Rooted.pull is inf at stage 4, where x = [1.2, 0.5].",
    ]
    bent = findings(Rooted(), state=(1.0, 0.0))[1]
    assert bent.startswith("Rooted.stage_cost: the second derivative by x[1] and ")


def test_what_is_found_is_what_fails():
    class Norm(Homing):
        def stage_cost(self, x, u):
            return jnp.linalg.norm(x) + u[0] ** 2

    assert int(pa.solve(Norm(), jnp.zeros(2)).status) == pa.Status.INVALID_INPUT
    assert len(findings(Norm(), state=(0.0, 0.0))) == 1
    assert "check_problem" in pa.solve(Norm(), jnp.zeros(2)).explain()
    assert findings(Norm()) == []


def test_bounds_that_cross():
    class Crossed(Homing):
        def control_bounds(self):
            return pa.Bounds(-1.0, self.limit[0])

        def state_bounds(self):
            return pa.Bounds(0.0, jnp.stack([5.0, self.limit[0]]))

    limits = jnp.stack([jnp.array([1.0, -2.0, 1.0, 1.0, -3.0]), jnp.ones(5)], 1)
    problem = pa.per_stage(Crossed(), "limit")
    assert findings(eqx.tree_at(lambda problem: problem.limit.values, problem, limits)) == [
        "Crossed.control_bounds: no number is between the bounds -1 and -2 of entry 0 at stage 1.",
        "Crossed.state_bounds: no number is between the bounds 0 and -2 of entry 1 at stage 1.",
        "Crossed.terminal_bounds: no number is between the bounds 0 and -3 of entry 1 at stage 4.",
    ]


def test_prices_and_derivatives_of_bounds():
    class Priced(Homing):
        def control_bounds(self):
            return pa.Bounds(-jnp.sqrt(self.limit[0]), 1.0)

        def state_bounds(self):
            return pa.Bounds(upper=1.0, slack=pa.Slack(linear=jnp.sqrt(self.pull - 1.0)))

        def constraints(self, x, u):
            return x[0] - 5.0

        def constraint_slack(self):
            return pa.Slack(linear=1.0, quadratic=self.pull - 1.0)

    problem = Priced(limit=jnp.array([0.0, 1.0]))
    assert int(pa.solve(problem, jnp.ones(2)).status) == pa.Status.INVALID_INPUT
    expected = "; a number that is not negative is expected."
    assert findings(problem) == [
        "Priced.control_bounds: the derivative by Priced.limit[0] is -inf at stage 0.",
        f"Priced.state_bounds: the linear price of entry 0 is nan at stage 1{expected}",
        f"Priced.constraint_slack: the quadratic price of entry 0 is -0.5 at stage 0{expected}",
        f"Priced.terminal_bounds: the linear price of entry 0 is nan at stage 4{expected}",
    ]


def test_what_has_no_derivative():
    class Looping(Homing):
        def dynamics(self, x, u):
            _, x = jax.lax.while_loop(lambda at: at[0] < 2, lambda at: (at[0] + 1, 0.9 * at[1]), (0, x))
            return x + 0.1 * u

    state = jnp.array([1.0, 0.0])
    assert int(pa.solve(Looping(), state).status) == pa.Status.SOLVED
    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        jax.grad(lambda problem: pa.solve(problem, state).cost)(Looping())
    (told,) = findings(Looping())
    assert told.startswith(
        "Looping.dynamics has no derivative in reverse mode: it can be planned with, but its plans have no gradient. "
        "JAX says: Reverse-mode differentiation does not work"
    )

    class LoopingCost(Homing):
        def stage_cost(self, x, u):
            return jax.lax.while_loop(lambda cost: cost < 1.0, lambda cost: 2.0 * cost, x @ x)

    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        pa.solve(LoopingCost(), state)
    (told,) = findings(LoopingCost())
    assert told.startswith("LoopingCost.stage_cost has no derivative by its arguments, which every planner asks for.")


def test_what_is_at_the_start():
    class Starting(Homing):
        discount: pa.Array | float = pa.parameter(1.0)

        def initial_cost(self, x):
            return jnp.linalg.norm(x)

        def control_guess(self):
            return jnp.sqrt(self.pull - 1.0)[None]

    assert findings(Starting()) == ["Starting.control_guess: entry 0 is nan at stage 0."]
    assert findings(Starting(pull=jnp.array(1.5)), state=(0.0, 0.0)) == [
        "Starting.initial_cost: the derivative by x[0] is nan at stage 0, where x = [0, 0]."
    ]
    for discount in (np.inf, np.nan):
        learned = eqx.tree_at(lambda problem: problem.discount, Starting(), jnp.array(discount))
        for problem in (learned, Homing(discount=discount)):
            told = f"{type(problem).__name__}.discount is {discount}; a finite number is expected."
            assert findings(problem) == [told]


def test_what_came_in():
    learned = pa.ResidualDynamics(Homing(), (1.0, 1.0), (1.0,), key=jax.random.key(0))
    weight = learned.residual_network.layers[0].weight
    broken = eqx.tree_at(lambda it: it.residual_network.layers[0].weight, learned, weight.at[2, 1].set(np.nan))
    assert findings(broken) == ["ResidualDynamics.residual_network.layers[0].weight is not a number at [2, 1]."]
    assert findings(Homing(), state=(1.0, np.nan)) == ["state is not finite at [1]."]
    guess = pa.Guess(jnp.zeros((5, 2)).at[3, 1].set(jnp.inf), jnp.zeros((4, 1)))
    assert findings(Homing(), guess=guess) == ["guess.states is not finite at [3, 1]."]
    long = eqx.tree_at(lambda problem: problem.limit, Homing(), jnp.zeros(20000).at[12345].set(jnp.nan))
    assert findings(long) == ["Homing.limit is not a number at [12345]."]
    with pytest.raises(ValueError, match=r"state has shape \(3,\)"):
        pa.check_problem(Homing(), jnp.zeros(3))


def test_a_batch():
    states = jnp.ones((3, 2))
    with pytest.raises(ValueError, match=r"state has shape \(3, 2\); .* Use jax.vmap for a batch\.$"):
        pa.check_problem(Homing(), states)
    with pytest.raises(ValueError, match=r"called inside jit, vmap or grad; call it outside, for one lane of a batch"):
        jax.vmap(pa.check_problem, in_axes=(None, 0))(Homing(), states)
    guess = pa.Guess(jnp.zeros((5, 2)), jnp.zeros((4, 1)))
    guesses = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), guess)
    with pytest.raises(ValueError, match=r"guess has states \(3, 5, 2\) .* Use jax.vmap for a batch\."):
        pa.solve(Homing(), states[0], guess=guesses)


def test_a_problem_without_a_cost():
    class Aimless(pa.Problem):
        horizon: int = pa.static(4)
        state_size: int = pa.static(2)
        control_size: int = pa.static(1)

        def dynamics(self, x, u):
            return x + u

    class Priced(Aimless):
        def state_bounds(self):
            return pa.Bounds(upper=1.0, slack=pa.Slack(linear=1.0))

    assert findings(Aimless()) == ["Aimless has no cost: any trajectory that keeps its constraints solves it."]
    assert findings(Priced()) == []


def test_the_hard_constraints_that_an_infeasible_plan_breaks():
    class Fenced(Homing):
        def control_bounds(self):
            return pa.Bounds(-1.0, 1.0)

        def state_bounds(self):
            return pa.Bounds([-np.inf, -np.inf], self.limit)

        def constraints(self, x, u):
            return jnp.stack([x[1] - 3.0, -x[0] - 5.0])

        def constraint_slack(self):
            return pa.Slack([1.0, np.inf])

        def terminal_bounds(self):
            return pa.Bounds(-0.5, 0.5)

    state = jnp.array([2.0, 2.0])
    plan = pa.solve(Fenced(), state)
    assert int(plan.status) == pa.Status.INFEASIBLE and "check_problem(problem, state, plan)" in plan.explain()
    found = findings(Fenced(), state, plan)
    largest = float(plan.states[1:-1, 0].max())
    assert found == [
        f"Fenced.state_bounds: entry 0 is {largest:.4g} at stage {1 + int(plan.states[1:-1, 0].argmax())}, where at "
        f"most 1 is asked for; broken by {largest - 1.0:.2g}, and at 3 of 4 stages.",
        f"Fenced.terminal_bounds: entry 0 is {float(plan.states[-1, 0]):.4g} at stage 4, where at most 0.5 is asked "
        f"for; broken by {float(plan.states[-1, 0]) - 0.5:.2g}, and at 1 of 1 stages.",
    ]
    assert findings(Fenced(), state, plan.guess()) == []  # a guess may break what it likes


def test_constraints_of_one_number_that_an_infeasible_plan_breaks():
    class Ahead(Homing):
        def control_bounds(self):
            return pa.Bounds(-1.0, 1.0)

        def constraints(self, x, u):
            return 3.0 - x[0]

        def terminal_constraints(self, x):
            return 4.0 - x[0]

    state = jnp.zeros(2)
    plan = pa.solve(Ahead(), state)
    assert int(plan.status) == pa.Status.INFEASIBLE
    last = 4.0 - float(plan.states[-1, 0])
    assert findings(Ahead(), (0.0, 0.0), plan) == [
        "Ahead.constraints: entry 0 is 3 at stage 0, where at most 0 is asked for; broken by 3, and at 4 of 4 stages.",
        f"Ahead.terminal_constraints: entry 0 is {last:.4g} at stage 4, where at most 0 is asked for; broken by "
        f"{last:.2g}, and at 1 of 1 stages.",
    ]


def test_a_pinned_control_breaks_no_bounds():
    class Fenced(Homing):
        def control_bounds(self):
            return pa.Bounds(-1.0, 1.0)

        def terminal_bounds(self):
            return pa.Bounds(-0.5, 0.5)

    plan = pa.solve(Fenced(), jnp.array([2.0, 0.0]), control=jnp.array([5.0]))
    assert int(plan.status) == pa.Status.INFEASIBLE and float(plan.controls[0, 0]) == 5.0
    (told,) = findings(Fenced(), (2.0, 0.0), plan)
    assert told.startswith("Fenced.terminal_bounds: entry 0 is ")


@pytest.mark.usefixtures("x64")
def test_a_violation_that_only_float64_tells():
    class Fenced(Homing):
        def terminal_bounds(self):
            return pa.Bounds(upper=[2.0 - 1e-5, np.inf])

        def dynamics(self, x, u):
            return x + 0.0 * u

    state = jnp.array([2.0, 0.0])
    plan = pa.solve(Fenced(), state)
    assert int(plan.status) == pa.Status.INFEASIBLE
    (told,) = findings(Fenced(), (2.0, 0.0), plan)
    assert told.endswith("broken by 1e-05, and at 1 of 1 stages.")
