"""What is true of the task, in numbers worked out by hand."""

import jax
import jax.numpy as jnp
import pytest
from example import Example, ExampleProblem, ExampleState, ExampleTask
from gymnasium.utils.env_checker import check_env

import planahead as pa
from planahead.interop.gymnasium import GymnasiumTask


def test_one_step_by_hand():
    state = ExampleState(x=jnp.array([1.0, -0.5]), step=jnp.array(0))
    transition = Example().step(state, jnp.array([0.7]), jax.random.key(0))
    assert transition.observation == pytest.approx([0.95, -0.4])  # 1 - 0.1 * 0.5; -0.5 + 0.1 * (0.7 + 0.3)
    assert float(transition.reward) == pytest.approx(-(1.0 + 0.025 + 0.0049))
    assert not transition.terminated and not transition.truncated and not transition.info.success


def test_an_episode_ends_off_the_track_or_when_time_is_up():
    def step(x: list[float], number: int) -> pa.Transition[ExampleState]:
        return Example().step(ExampleState(jnp.array(x), jnp.array(number)), jnp.zeros(1), jax.random.key(0))

    lost = step([2.95, 1.0], 0)
    assert lost.terminated and lost.info.violation and not lost.truncated
    late = step([0.0, 0.0], 79)
    assert late.truncated and late.info.success and not late.terminated


def test_its_parts_fit_each_other():
    pa.check_task(ExampleTask())


def test_the_planner_solves_its_problem_from_everywhere():
    states = jax.random.uniform(jax.random.key(0), (64, 2), minval=-2.0, maxval=2.0)
    plans = jax.vmap(pa.solve, in_axes=(None, 0))(ExampleProblem(), states)
    assert (plans.status == pa.Status.SOLVED).all(), plans.explain()


def test_gymnasium_accepts_it():
    check_env(GymnasiumTask(ExampleTask()), skip_render_check=True)
