"""Tasks by name."""

import dataclasses

import pytest

from planahead.tasks import CartPoleProblem, make_task, task_names


def test_every_name_makes_the_task_of_that_name():
    assert [make_task(name).name for name in task_names()] == list(task_names())
    assert {"cartpole", "mass-spring-damper"} <= set(task_names())


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError,
        match=r"there is no task 'cart-pole' \(did you mean cartpole\?\); the known ones are: cartpole, chain, hover,",
    ):
        make_task("cart-pole")


def test_an_unknown_option_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"task 'cartpole' has no option 'spread'; constants .*start_spread.*problem"):
        make_task("cartpole", spread=0.1)


def test_options_change_the_world_and_not_what_the_planner_believes():
    task = make_task("cartpole", pole_mass=0.2, start_spread=0.1)
    assert (task.environment.pole_mass, task.problem.pole_mass) == pytest.approx((0.2, 0.1))
    assert task.environment.start_spread == pytest.approx(0.1)


def test_a_problem_of_ones_own_replaces_the_default():
    task = make_task("cartpole", problem=CartPoleProblem(horizon=20), start_spread=0.1)
    assert task.problem.horizon == 20 and task.environment.start_spread == pytest.approx(0.1)


def test_an_impossible_constant_is_refused():
    with pytest.raises(ValueError, match=r"CartPole got pole_mass=-1.0; expected a finite number above 0"):
        make_task("cartpole", pole_mass=-1.0)


@pytest.mark.parametrize("name", task_names())
def test_every_learned_parameter_exists(name):
    task = make_task(name)
    fields = {field.name for field in dataclasses.fields(task.problem) if "parameter" in field.metadata}
    assert task.learned_parameters and set(task.learned_parameters) <= fields
