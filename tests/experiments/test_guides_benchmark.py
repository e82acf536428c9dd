"""The benchmark of guides keeps what it has, and measures the problems that it says it does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.experiments.benchmarks import guides as bench
from planahead.experiments.benchmarks.guided_guesses import GuessRow
from planahead.experiments.benchmarks.guided_loop import LoopRow, policies
from planahead.experiments.benchmarks.guided_qps import ActiveSetRow, active_sets, linear_case
from planahead.experiments.benchmarks.rows import csv_text
from planahead.experiments.errors import UserError
from planahead.learning.solved_plans import BestPlans, cold_and_random, in_pieces
from planahead.planning import Guess
from planahead.policies import AdaptivePlanner
from planahead.tasks.obstacles import ObstaclesProblem

GUESSES = [GuessRow("obstacles", "cold", 8, 0.75, 0.1, 6.5, 0.0, None)]
SETS = [ActiveSetRow("table1-u1", "interior point", 256, 0.25, 11.5, 0.0, 2.5, 0.125)]
LOOPS = [LoopRow("obstacles", "always 15 stages", None, 25, None, 0.0, 0.0, 15.0, 1.0, 1.0, 4.5, 0.0, 0.5)]


def test_rows_are_kept_and_not_made_again(tmp_path):
    for name, rows in (("guesses", GUESSES), ("active-sets", SETS), ("loops", LOOPS)):
        (tmp_path / f"{name}.csv").write_text(csv_text(rows))
    found = bench.run(tmp_path, (), 0, 20, 8, 2, 1)
    assert (found.guesses, found.active_sets, found.loops) == (GUESSES, SETS, LOOPS)
    lines = [line for _, lines in bench.tables(found) for line in lines]
    assert lines[0] == ("obstacles", "cold", "75.0 %", "10.0 %", "6.5", "0.0 %", "–")
    assert lines[1][2:4] == ("25.0 %", "11.5") and lines[2][3] == "–"
    assert all(len(headings) == len(lines[0]) for headings, lines in bench.tables(found))


def test_the_quadratic_programs_are_those_of_the_task(x64):
    problem, x = pa.make_task("mass-spring-damper", matched=True).problem, jnp.array([1.5, 1.5])
    plan, found = pa.solve(problem, x), pa.solve_qp(linear_case("mass-spring-damper").qp(x))
    assert int(found.status) == pa.Status.SOLVED and float(jnp.max(jnp.abs(plan.controls))) > 0.499
    np.testing.assert_allclose(found.controls, plan.controls, atol=1e-6)
    np.testing.assert_allclose(linear_case("mass-spring-damper").following(x, plan.controls[0]), plan.states[1])


def test_too_few_loops_are_refused():
    with pytest.raises(UserError, match="--rows 20: 370 or more are needed"):
        active_sets("mass-spring-damper", 0, 20, print)


def test_compared_policies_differ_in_numbers_alone():
    task = pa.make_task("obstacles")
    problems = [ObstaclesProblem(horizon=horizon) for horizon in (5, 15)]
    learned = AdaptivePlanner(problems, task.planner_state, task.action_box, key=jax.random.key(0))
    some = policies(learned)
    assert len({name for name, price, _ in some if price is None}) == 5 and len(some) == 11
    assert len({jax.tree.structure(policy) for _, _, policy in some}) == 1


def test_the_best_of_all_solves_is_told_apart_from_the_others():
    costs = jnp.array([[1.0, 1.005, 2.0], [jnp.inf, 3.0, 3.1], [jnp.inf] * 3])
    blank = jax.vmap(Guess)(jnp.zeros((3, 2, 1)), jnp.zeros((3, 1, 1)))
    found = BestPlans(jnp.zeros((3, 1)), blank, jnp.array([True, True, False]), costs, jnp.ones((3, 3), int))
    np.testing.assert_array_equal(found.reached(0.01), [[True, True, False], [False, True, False], [False] * 3])


def test_pieces_are_filled_up_and_random_roll_outs_stay_in_their_box():
    sizes = []

    def double(x):
        sizes.append(x.shape[0])
        return 2 * x

    np.testing.assert_array_equal(in_pieces(double, 5, jnp.arange(5.0), piece=3), [0.0, 2.0, 4.0, 6.0, 8.0])
    assert sizes == [3, 3]
    problem = pa.make_task("obstacles").problem
    states = jnp.tile(jnp.array([-1.5, 0.0, 0.0, 0.0]), (4, 1))
    guesses = cold_and_random(problem, states, 3, jax.random.key(0))
    assert guesses.controls.shape == (4, 4, 15, 2) and float(jnp.abs(guesses.controls).max()) <= 4.0
    np.testing.assert_array_equal(guesses.controls[:, 0], 0.0)
    rolled = jax.vmap(jax.vmap(problem.dynamics))(guesses.states[:, 1, :-1], guesses.controls[:, 1])
    np.testing.assert_allclose(rolled, guesses.states[:, 1, 1:], atol=1e-5)
    assert float(jnp.std(guesses.controls[:, 1:])) > 1.0
