"""What a policy may write: one value of every learned parameter, or one for every stage at which it moves the plan."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.learning import make_algorithm
from planahead.planning import solve
from planahead.policies import PlannerPolicy
from planahead.problem import ParameterSpace, is_per_stage
from planahead.tasks import make_task, task_names
from planahead.tasks.flight.gates import TRACKS

SIZES = {
    "cartpole": (1, 5),
    "chain": (24, 420),
    "hover": (17, 340),
    "linear": (16, 151),
    "mass-spring-damper": (8, 120),
    "obstacles": (2, 30),
    "pillars": (17, 340),
    **{f"race-{track}": (28, 56) for track in TRACKS},
    "windmaze-easy": (12, 240),
    "windmaze-hard": (12, 240),
    "windmaze-walls": (12, 240),
}
both = pytest.mark.parametrize("interface", ["global", "stage"])


def test_every_task_is_counted():
    assert set(SIZES) == set(task_names())


@pytest.mark.long
@both
@pytest.mark.parametrize("name", SIZES)
def test_a_policy_writes_as_many_numbers_as_the_interface_says(name, interface):
    task = make_task(name, interface=interface)
    space = ParameterSpace(task.problem, task.learned_parameters)
    assert space.size == SIZES[name][interface == "stage"]
    default = make_task(name, interface="global").problem
    # The defaults are the same at all stages, and inside of boxes that are finite.
    for field in task.learned_parameters:
        value = getattr(task.problem, field)
        once = getattr(default, field)
        for row in value.values if is_per_stage(value) else [value]:
            np.testing.assert_array_equal(row, once)
    assert (np.abs(space.to_unit(space.flatten(task.problem))) <= 1 + 1e-6).all()
    assert ParameterSpace(default, task.learned_parameters).names == space.names


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cartpole", "mass-spring-damper"])
def test_every_listed_stage_moves_the_plan_and_no_other_does(name, x64):
    task = make_task(name, interface="stage")
    x = task.planner_state(task.environment.observe(task.environment.reset(jax.random.key(0))))
    names = task.learned_parameters
    # Away from equal stages and from zero references, where derivatives may vanish by symmetry.
    space = ParameterSpace(task.problem, names)
    unit = 0.5 * jax.random.uniform(jax.random.key(1), (space.size,), minval=-1.0)
    problem = space.insert(task.problem, space.from_unit(unit))

    # Small enough a state that hardly any bound is active: there controls do not move at all.
    @eqx.filter_jit
    def slopes(problem):
        weights = jnp.linspace(1.0, 2.0, problem.horizon)
        return eqx.filter_grad(lambda problem: jnp.sum(weights @ solve(problem, 0.1 * x).controls))(problem)

    moved = slopes(problem)
    for field in names:
        value = getattr(moved, field)
        if is_per_stage(value):
            listed = np.zeros(len(value.values), bool)
            listed[list(getattr(problem, field).stages)] = True
            assert np.abs(np.asarray(value.values[listed])).reshape(listed.sum(), -1).max(1).min() > 0
            assert not np.asarray(value.values[~listed]).any()


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "interface"),
    [
        ("windmaze-walls", "stage"),
        *(
            pytest.param(name, interface, marks=pytest.mark.slow)
            for name, interface in (("windmaze-walls", "global"), ("chain", "global"), ("chain", "stage"))
        ),
    ],
)
def test_a_learner_trains_through_the_interface(name, interface):
    """Traced, not compiled."""
    task = make_task(name, interface=interface)
    policy, learner = make_algorithm("sac-zop", task, jax.random.key(0), hidden_units=8, replay_size=32)
    assert isinstance(policy, PlannerPolicy) and policy.space.size == SIZES[name][interface == "stage"]
    state = learner.init(task, policy, jax.random.key(1))
    after, metrics = eqx.filter_eval_shape(learner.advance, state, jax.random.key(2))
    before = eqx.filter_eval_shape(lambda state: state, state)
    assert jax.tree.structure(eqx.filter(before, eqx.is_array)) == jax.tree.structure(eqx.filter(after, eqx.is_array))
    assert "failed_solves" in metrics
