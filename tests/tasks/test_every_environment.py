"""What holds for the world of every task."""

import inspect
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import planahead.tasks as tasks
from planahead.problem import static
from planahead.tasks.environment import DOCUMENTED

every_task = pytest.mark.parametrize("name", tasks.task_names())


def rollout(environment, key, steps=100):
    """`steps` transitions under random actions, up to twice too large, going on past the end of an episode."""
    start_key, action_key = jax.random.split(key)

    def step(state, key):
        low, high = jnp.asarray(environment.action_low), jnp.asarray(environment.action_high)
        transition = environment.step(state, 2 * jax.random.uniform(key, low.shape, minval=low, maxval=high), key)
        return transition.state, transition

    return jax.lax.scan(step, environment.reset(start_key), jax.random.split(action_key, steps))[1]


@eqx.filter_jit
def rollouts(environment, keys):
    return jax.vmap(lambda key: rollout(environment, key))(keys)


@every_task
def test_random_actions_give_finite_numbers_in_bounds(name):
    environment = tasks.make_task(name).environment
    transitions = rollouts(environment, jax.random.split(jax.random.key(0), 100))
    for leaf in jax.tree.leaves(transitions):
        assert np.isfinite(leaf).all()
    observation = np.asarray(transitions.observation)
    assert (observation >= np.asarray(environment.observation_low, np.float32)).all()
    assert (observation <= np.asarray(environment.observation_high, np.float32)).all()
    assert not np.any(transitions.terminated & transitions.truncated)


@every_task
def test_the_key_decides_everything(name):
    environment = tasks.make_task(name, start_spread=0.1).environment
    keys = jax.random.split(jax.random.key(1), 100)
    first, second = rollouts(environment, keys), rollouts(environment, keys)
    assert eqx.tree_equal(first, second)
    assert not np.array_equal(first.observation[0], first.observation[1])


@every_task
def test_an_action_beyond_the_bounds_acts_like_the_bound(name):
    environment = tasks.make_task(name).environment
    key = jax.random.key(2)
    state = environment.reset(key)
    high = jnp.asarray(environment.action_high)
    assert eqx.tree_equal(environment.step(state, 3 * high, key), environment.step(state, high, key))


@every_task
def test_worlds_with_different_constants_make_a_batch(name):
    # The constants of obstacles leave an undisturbed step alone; a delay of a whole step cannot grow.
    moving = {"obstacles": {"gust": 0.5}, "pillars": {"delay": 0.01}}
    world = tasks.make_task(name, **moving.get(name, {})).environment
    scale = jnp.linspace(0.8, 1.2, 4)
    worlds = jax.tree.map(lambda leaf: jnp.multiply.outer(scale, leaf), world)
    key = jax.random.key(3)
    state = world.reset(key)
    batch = jax.vmap(lambda world: world.step(state, jnp.asarray(world.action_high), key))(worlds)
    alone = jax.tree.map(lambda leaf: leaf[2], worlds).step(state, jnp.asarray(world.action_high), key)
    np.testing.assert_allclose(batch.observation[2], alone.observation, rtol=1e-5)
    assert len(np.unique(np.asarray(batch.observation), axis=0)) == 4


@every_task
def test_double_precision_reaches_every_number(name, x64):
    environment = tasks.make_task(name).environment
    transitions = rollout(environment, jax.random.key(0), 3)
    assert transitions.observation.dtype == transitions.reward.dtype == jnp.float64


@every_task
def test_names_scales_and_bounds_fit_the_sizes(name):
    task = tasks.make_task(name)
    world = task.environment
    for field in ("names", "low", "high", "scale"):
        assert len(getattr(world, f"observation_{field}")) == world.observation_size
    for field in ("names", "low", "high"):
        assert len(getattr(world, f"action_{field}")) == world.action_size
    assert np.isfinite(world.action_low + world.action_high).all()
    assert all(label.endswith("]") for label in world.observation_names + world.action_names + task.state_names)
    state = task.planner_state(world.observe(world.reset(jax.random.key(0))))
    assert state.shape == (task.problem.state_size,) == (len(task.state_names),)


@every_task
def test_the_docstring_tells_all_of_the_contract_in_order(name):
    lines = (inspect.getdoc(type(tasks.make_task(name).environment)) or "").splitlines()
    headings = [line.split(":")[0] for line in lines if line.split(":")[0] in DOCUMENTED]
    assert tuple(headings) == DOCUMENTED


@every_task
def test_a_constant_that_is_no_number_is_refused(name):
    world = tasks.make_task(name).environment
    for constant in world.constants:
        with pytest.raises(ValueError, match=rf"[A-Z]\w+ got {constant}=nan; expected a finite number"):
            tasks.make_task(name, **{constant: math.nan})


@every_task
def test_the_world_can_be_drawn(name):
    world = tasks.make_task(name).environment
    image = tasks.render(world, world.reset(jax.random.key(0)), width=300, height=200)
    assert image.shape == (200, 300, 3) and image.dtype == np.uint8
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 3


class Thermometer(tasks.Environment):
    """The smallest environment, to see what it gets for free."""

    start_spread: jax.Array = tasks.constant(0.0)
    observation_names: tuple[str, ...] = static(("room [K]", "wall [K]"))
    observation_low: tuple[float, ...] = static((0.0, 0.0))
    observation_high: tuple[float, ...] = static((400.0, 400.0))
    observation_scale: tuple[float, ...] = static((300.0, 300.0))
    action_names: tuple[str, ...] = static(("heat [W]",))
    action_low: tuple[float, ...] = static((0.0,))
    action_high: tuple[float, ...] = static((1.0,))
    time_step: float = static(1.0)
    episode_steps: int = static(1)

    def reset(self, key):
        return jnp.array([150.0, 300.0])

    def observe(self, state):
        return state

    def step(self, state, action, key):
        raise NotImplementedError


def test_without_a_drawing_of_its_own_a_world_shows_its_observations():
    axes = Figure().subplots()
    world = Thermometer()
    world.draw(axes, world.reset(jax.random.key(0)))
    assert [patch.get_bbox().width for patch in axes.patches if isinstance(patch, Rectangle)] == [0.5, 1.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(world.observation_names)


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in tasks.task_names()] + [("race-split-s", {"plant": "realistic"})],
    ids=str,
)
def test_shapes_of_a_first_observation_are_known_without_numbers(name, options):
    # What is built within a trace still compares its own constants, which are numbers there.
    environment = tasks.make_task(name, **options).environment
    shape = jax.eval_shape(lambda: environment.observe(environment.reset(jax.random.key(0)))).shape
    assert shape == (environment.observation_size,)
