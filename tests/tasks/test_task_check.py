"""What does not fit in a task of one's own is told before anything is learned with it."""

import dataclasses
import operator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import planahead as pa
from planahead.tasks.environment import StepInfo, constant


class CartState(eqx.Module):
    x: jax.Array
    step: jax.Array


class Cart(pa.Environment[CartState]):
    start_spread: jax.Array = constant(1.0)
    observation_names: tuple[str, ...] = pa.static(("position [m]", "velocity [m/s]"))
    observation_low: tuple[float, ...] = pa.static((-jnp.inf, -jnp.inf))
    observation_high: tuple[float, ...] = pa.static((jnp.inf, jnp.inf))
    observation_scale: tuple[float, ...] = pa.static((1.0, 1.0))
    action_names: tuple[str, ...] = pa.static(("force [N]",))
    action_low: tuple[float, ...] = pa.static((-1.0,))
    action_high: tuple[float, ...] = pa.static((1.0,))
    time_step: float = pa.static(0.1)
    episode_steps: int = pa.static(20)

    def reset(self, key):
        return CartState(self.start_spread * jax.random.uniform(key, (2,), minval=-1.0), jnp.array(0))

    def observe(self, state):
        return state.x

    def moved(self, x, u):
        return jnp.stack([x[0] + 0.1 * x[1], x[1] + 0.1 * u])

    def reward(self, x):
        return -jnp.sum(x**2)

    def ended(self, step):
        return step >= self.episode_steps

    def step(self, state, action, key):
        new = CartState(self.moved(state.x, action[0]), state.step + 1)
        info = StepInfo(violation=jnp.array(False), success=jnp.array(True))
        return pa.Transition(new, self.observe(new), self.reward(new.x), jnp.array(False), self.ended(new.step), info)


class CartProblem(pa.Problem):
    horizon: int = pa.static(5)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    target: jax.Array = pa.parameter(0.0, low=-1.0, high=1.0)

    def dynamics(self, x, u):
        return jnp.stack([x[0] + 0.1 * x[1], x[1] + 0.1 * u[0]])

    def stage_residual(self, x, u):
        return jnp.stack([x[0] - self.target, u[0]])


class CartTask(pa.Task[Cart, CartProblem]):
    environment: Any = dataclasses.field(default_factory=Cart)
    problem: Any = dataclasses.field(default_factory=CartProblem)
    name: str = pa.static("cart")
    learned_parameters: tuple[str, ...] = pa.static(("target",))
    state_names: tuple[str, ...] = pa.static(("position [m]", "velocity [m/s]"))

    def planner_state(self, observation):
        return observation


def complaint(task: pa.Task[Any, Any]) -> str:
    with pytest.raises(ValueError) as raised:
        pa.check_task(task)
    return str(raised.value)


def test_a_task_that_fits():
    pa.check_task(CartTask())


@pytest.mark.parametrize("name", ["mass-spring-damper", "chain", "windmaze-walls", "pillars", "race-split-s+plant"])
def test_our_own_fit(name):
    pa.check_task(pa.make_task("race-split-s", plant="realistic") if "+" in name else pa.make_task(name))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"observation_scale": (1.0,)}, "Cart.observation_scale has 1 entries and observation_names has 2; one for"),
        ({"observation_names": ("x",)}, "Cart.observation_low has 2 entries and observation_names has 1; one for each"),
        ({"observation_scale": (1.0, 0.0)}, "observation_scale of «velocity [m/s]» is 0.0; a finite number above 0"),
        ({"action_low": (2.0,)}, "Cart: the action «force [N]» is between 2.0 and 1.0; finite bounds, low < high,"),
        (
            {"observation_low": (-jnp.inf, float("nan"))},
            "Cart: the observation «velocity [m/s]» is between nan and inf; low <= high is expected.",
        ),
        ({"time_step": -0.1}, "Cart.time_step is -0.1; a finite number above 0, in s, is expected."),
        ({"time_step": jnp.inf}, "Cart.time_step is inf; a finite number above 0, in s, is expected."),
        ({"episode_steps": 0}, "Cart.episode_steps is 0; a whole number of at least 1 is expected."),
        ({"episode_steps": 20.0}, "Cart.episode_steps is 20.0; a whole number of at least 1 is expected."),
        (
            {"action_names": ("a", "b"), "action_low": (0.0, 0.0), "action_high": (1.0, 1.0)},
            "CartProblem.action, which Cart is told, is float32 of shape (1,); floating-point numbers of shape (2,)",
        ),
    ],
)
def test_names_and_boxes(changes, said):
    assert said in complaint(CartTask(environment=Cart(**changes)))


def test_what_the_task_says_of_its_problem():
    assert "state_names has 1 entries; CartProblem has state_size = 2." in complaint(CartTask(state_names=("x",)))
    assert (
        "CartTask.learned_parameters has 'effort'; the parameters of CartProblem are: target."
        in complaint(CartTask(learned_parameters=("effort",)))
    )  # fmt: skip


def test_shapes_and_types():
    class Longer(Cart):
        def moved(self, x, u):
            return jnp.stack([x[0], x[1], u])

        def observe(self, state):
            return state.x[:2]

    class Column(Cart):
        def step(self, state, action, key):
            return eqx.tree_at(lambda outcome: outcome.reward, super().step(state, action, key), replace_fn=jnp.ravel)

    class Number(Cart):
        def step(self, state, action, key):
            outcome = super().step(state, action, key)
            return eqx.tree_at(lambda outcome: outcome.truncated, outcome, replace_fn=lambda flag: flag * 1.0)

    class Short(CartTask):
        def planner_state(self, observation):
            return observation[:1]

    class Blind(Cart):
        def observe(self, state):
            return state.x[:1]

    assert (
        "the state.x is float32 of shape (2,) from Longer.reset and float32 of shape (3,) from Longer.step; they must"
        in complaint(CartTask(environment=Longer()))
    )  # fmt: skip
    assert "the reward of Column.step is float32 of shape (1,);" in complaint(CartTask(environment=Column()))
    assert "truncated of Number.step is float32 of shape (); a bool" in complaint(CartTask(environment=Number()))
    assert "Short.planner_state is float32 of shape (1,);" in complaint(Short())
    assert "Blind.observe is float32 of shape (1,);" in complaint(CartTask(environment=Blind()))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("terminated", False, "terminated of Plain.step is a bool, no array; jnp.array(False) is expected."),
        ("info.success", True, "info.success of Plain.step is a bool, no array; jnp.array(True) is expected."),
        ("info", {"success": True}, "the info of Plain.step is a dict; a StepInfo(violation, success) is expected."),
        ("reward", 1.0, "the reward of Plain.step is a float; an array of shape () is expected."),
        ("state.step", 3, "the state.step is a int from Plain.step; an array is expected."),
    ],
)
def test_what_is_no_array(place: str, value: Any, said: str):
    class Plain(Cart):
        def step(self, state, action, key):
            return eqx.tree_at(operator.attrgetter(place), super().step(state, action, key), value)

    assert complaint(CartTask(environment=Plain())) == said


def test_an_episode():
    class Rooted(Cart):
        def reward(self, x):
            return -jnp.sqrt(x[0] - 5.0)

    class Endless(Cart):
        def ended(self, step):
            return step < 0

    assert "gives the reward nan and the observation [" in complaint(CartTask(environment=Rooted()))
    assert (
        "an episode of Endless with random actions has not ended after episode_steps = 20 steps; `truncated` must be"
        in complaint(CartTask(environment=Endless()))
    )  # fmt: skip
