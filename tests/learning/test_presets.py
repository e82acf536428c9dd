"""The named algorithms: their switches, what they refuse, and that each learns through a real planner."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.learning import (
    PPO,
    SAC,
    TD3,
    AlignedLearning,
    Cacto,
    GuidedPolicySearch,
    Imitation,
    MPCPolicyGradient,
    MPCQLearning,
    algorithm_names,
    make_algorithm,
)
from planahead.learning.presets import SKIP_LENGTH, SOBOLEV_WEIGHT
from planahead.learning.settings import check_settings
from planahead.policies import DirectPolicy, GaussianPolicy, PlannerPolicy, TimedPolicy, TunedPlanner
from planahead.problem.parameter_space import Scale
from planahead.tasks import make_task
from tests.learning.probes import AIM_AT_HALF, LEARNERS, ProbeTask, actions

SWITCHES = {
    "sac": (SAC, "action", "action", DirectPolicy),
    "sac-zop": (SAC, "parameters", "parameters", PlannerPolicy),
    "sac-fop": (SAC, "action", "parameters", PlannerPolicy),
    "sac-foa": (SAC, "action", "action", PlannerPolicy),
    "sac-blended": (SAC, "action", "action", DirectPolicy),
    "sac-mpq": (SAC, "action", "action", DirectPolicy),
    "sac-skip": (SAC, "action", "action", DirectPolicy),
    "td3": (TD3, "action", "action", DirectPolicy),
    "td3-zop": (TD3, "parameters", "parameters", PlannerPolicy),
    "td3-fop": (TD3, "action", "parameters", PlannerPolicy),
    "bc": (Imitation, None, "action", DirectPolicy),
    "bc-sobolev": (Imitation, None, "action", DirectPolicy),
    "dagger": (Imitation, None, "action", DirectPolicy),
    "q-loss": (Imitation, None, "action", DirectPolicy),
    "q-loss-gn": (Imitation, None, "action", DirectPolicy),
    "trajectory-loss": (Imitation, None, "parameters", DirectPolicy),
    "gps": (GuidedPolicySearch, None, "action", GaussianPolicy),
    "ac-mlp": (PPO, None, "action", GaussianPolicy),
    "ac-mpc": (PPO, None, "action", GaussianPolicy),
    "ppo-zop": (PPO, None, "parameters", GaussianPolicy),
}
OWN_PARAMETERS = {"mpc-dpg": MPCPolicyGradient, "mpc-q": MPCQLearning}
ALIGNED = {"mpc-model": False, "mpc-model-value": True}
"""Whether a terminal value is learned."""


PRICED: dict[str, Any] = {"matched": True, "discount": 0.99}
"""A planner whose values compare with rewards."""


@pytest.mark.parametrize("name", SWITCHES)
def test_presets_are_switch_settings(name):
    blended = name in ("sac-blended", "sac-mpq")
    task = make_task("mass-spring-damper", **PRICED) if blended else make_task("cartpole")
    policy, learner = make_algorithm(name, task, jax.random.key(0), batch_size=32)
    assert isinstance(policy, DirectPolicy | PlannerPolicy | GaussianPolicy)
    assert isinstance(learner, SAC | TD3 | PPO | Imitation | GuidedPolicySearch) and learner.batch_size == 32
    assert (type(learner), getattr(learner, "critic", None), policy.noise, type(policy)) == SWITCHES[name]


@pytest.mark.parametrize(("name", "believes"), [("sac-blended", "value"), ("sac-mpq", "steps")])
def test_what_a_critic_believes_is_a_switch(name: str, believes: str):
    task = make_task("mass-spring-damper", **PRICED)
    _, learner = make_algorithm(name, task, jax.random.key(0), hidden_units=8, blend_steps=0)
    assert isinstance(learner, SAC)
    assert (learner.blend, learner.blend_steps, learner.believes) == (1.0, 0, believes)


IMITATIONS = {
    "bc": ("action", 0.0, 1.0),
    "bc-sobolev": ("action", SOBOLEV_WEIGHT, 1.0),
    "dagger": ("action", 0.0, 0.0),
    "q-loss": ("q", 0.0, 0.0),
    "q-loss-gn": ("gauss-newton", 0.0, 0.0),
    "trajectory-loss": ("trajectory", 0.0, 0.0),
}


@pytest.mark.parametrize("name", IMITATIONS)
def test_imitations_differ_by_switches(name: str):
    policy, learner = make_algorithm(name, make_task("cartpole"), jax.random.key(0), hidden_units=8)
    assert isinstance(learner, Imitation) and isinstance(policy, DirectPolicy)
    assert (learner.loss, learner.sobolev_weight, learner.expert_decay) == IMITATIONS[name]
    assert policy.horizon == (20 if name == "trajectory-loss" else 1)
    again = make_algorithm(name, make_task("cartpole"), jax.random.key(0), expert_decay=0.5).learner
    assert isinstance(again, Imitation) and again.expert_decay == 0.5


@pytest.mark.parametrize(("name", "kind"), OWN_PARAMETERS.items())
def test_presets_without_a_network_train_the_planner_itself(name, kind):
    task = make_task("windmaze-hard")
    policy, learner = make_algorithm(name, task, jax.random.key(0), planner_tau=1e-3)
    assert type(learner) is kind and isinstance(policy, TunedPlanner)
    assert policy.steering.space.names == task.learned_parameters
    assert policy.settings()["planner_tau"] == 1e-3


@pytest.mark.parametrize("name", ALIGNED)
def test_aligned_presets_train_what_the_dynamics_depend_on(name: str):
    task = make_task("mass-spring-damper", **PRICED)
    policy, learner = make_algorithm(name, task, jax.random.key(0), planner_tau=1e-3)
    assert isinstance(learner, AlignedLearning) and isinstance(policy, TunedPlanner)
    assert (learner.fits, learner.terminal_value, learner.closed_loop_weight) == ("model", ALIGNED[name], 0.0)
    assert policy.steering.space.names == ("mass", "damping", "stiffness")
    assert policy.settings()["planner_tau"] == 1e-3


def test_what_needs_no_world_trains_a_policy_that_knows_the_time():
    policy, learner = make_algorithm("cacto", make_task("obstacles"), jax.random.key(0), hidden_units=8)
    assert isinstance(learner, Cacto) and isinstance(policy, TimedPolicy)
    assert (policy.horizon, learner.hidden_units, learner.sobolev_weight) == (15, 8, 0.0)
    assert policy.settings() == {"hidden": "(8, 8)", "horizon": 15}


def test_a_skip_policy_is_a_switch():
    policy, learner = make_algorithm("sac-skip", make_task("cartpole"), jax.random.key(0), hidden_units=8)
    assert isinstance(learner, SAC) and isinstance(policy, DirectPolicy)
    assert (learner.skip_length, learner.skip_until) == (SKIP_LENGTH, 10_000)
    again = make_algorithm("td3", make_task("cartpole"), jax.random.key(0), skip_length=2, hidden_units=8).learner
    assert isinstance(again, TD3) and again.skip_length == 2


def test_every_preset_is_tested():
    assert set(algorithm_names()) == {*SWITCHES, *OWN_PARAMETERS, *ALIGNED, "cacto"}


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "ddpg",
            {},
            "there is no algorithm 'ddpg'; the known ones are: ac-mlp, ac-mpc, bc, bc-sobolev, cacto, dagger,",
        ),
        (
            "sac",
            {"batchsize": 3},
            "algorithm 'sac' has no setting 'batchsize' .*batch_size.*; the known ones are: .*batch_size, believes,",
        ),
        (
            "sac",
            {"residual": True},
            "algorithm 'sac' has no planner in its policy, so no setting 'residual'; leave it out, or use sac-zop",
        ),
        (
            "td3",
            {"prior_weight": 0.1},
            "algorithm 'td3' has no planner in .*, so no setting 'prior_weight'; .* use td3-zop",
        ),
        ("mpc-q", {"residual": True}, "algorithm 'mpc-q' has no network, so no setting 'residual'; leave it out"),
        ("sac-zop", {"entropy": "action"}, "entropy='action' is for plans that noise at the parameters moves"),
    ],
)
def test_unknown_names_list_the_known_ones(name, settings, message):
    with pytest.raises(ValueError, match=message):
        make_algorithm(name, make_task("cartpole"), jax.random.key(0), **settings)


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "sac-zop",
        "sac-fop",
        "td3-zop",
        pytest.param("sac-foa", marks=pytest.mark.slow),
        pytest.param("td3-fop", marks=pytest.mark.slow),
    ],
)
def test_learns_through_a_planner(name):
    """The planner does what its parameter says, and the reward asks for half of what is observed."""
    settings: dict[str, Any] = {
        field.name: getattr(LEARNERS[name[:3]], field.name)
        for field in dataclasses.fields(LEARNERS[name[:3]])
        if field.name != "critic"
    }
    policy, learner = make_algorithm(name, ProbeTask(environment=AIM_AT_HALF), jax.random.key(0), **settings)
    state, metrics = learner.init(ProbeTask(environment=AIM_AT_HALF), policy, jax.random.key(1)), {}
    for chunk in range(6):
        state, metrics = learner.advance(state, jax.random.key(chunk))
    np.testing.assert_allclose(actions(state, [-1.0, 1.0]), [-0.5, 0.5], atol=0.1)
    assert metrics["return"] > 0.98
    assert metrics["failed_solves"] == metrics["failed_updates"] == metrics["vanishing_gradients"] == 0.0
    np.testing.assert_allclose(metrics["smallest_singular_value"], 1.0, rtol=1e-2)


@pytest.mark.long
def test_a_warm_start_travels_with_every_transition():
    """The guesses at both ends are stored, so that an update plans from where the decision did. Traced, not
    compiled."""
    task = make_task("cartpole")
    policy, learner = make_algorithm(
        "sac-fop", task, jax.random.key(0), warm_start=True, residual=True, hidden_units=8, replay_size=32
    )
    state = learner.init(task, policy, jax.random.key(1))
    plan_size = (5 + 1) * 4 + 5 * 1 + 1
    assert state.replay.rows.shape == (32, 4 + 1 + 1 + 4 + 1 + 1 + 2 * plan_size)
    after, metrics = eqx.filter_eval_shape(learner.advance, state, jax.random.key(2))
    before = eqx.filter_eval_shape(lambda state: state, state)
    assert jax.tree.leaves(eqx.filter(before, _is_shape)) == jax.tree.leaves(eqx.filter(after, _is_shape))
    assert {"smallest_singular_value", "vanishing_gradients"} <= set(metrics)


def _is_shape(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def test_a_plan_that_ran_out_of_iterations_is_judged_by_its_residual():
    policy, _ = make_algorithm("sac-fop", make_task("cartpole"), jax.random.key(0))
    assert isinstance(policy, PlannerPolicy)
    assert (policy.steering.planner.iterations, policy.steering.planner.gradient_tolerance) == (10, 1e-2)


@pytest.mark.parametrize("arithmetic, riccati", [("float32", "square-root"), ("float64", "classic")])
def test_policies_plan_in_the_arithmetic_that_was_asked_for(arithmetic, riccati):
    chosen = {} if arithmetic == "float32" else {"planner_arithmetic": arithmetic}
    policy, _ = make_algorithm("sac-zop", make_task("windmaze-hard"), jax.random.key(0), hidden_units=8, **chosen)
    assert isinstance(policy, PlannerPolicy)
    inner = policy.steering.planner.inner(jnp.float32)
    assert (inner.arithmetic, inner.riccati) == (arithmetic, riccati)
    assert policy.steering.planner.inner(jnp.float64).riccati == "classic"


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("warm_start", "no", "warm_start='no': true or false was expected, e.g. warm_start=False"),
        ("tune_temperature", 1, "tune_temperature=1: true or false was expected, e.g. tune_temperature=True"),
        (
            "planner_iterations",
            2.5,
            "planner_iterations=2.5: a whole number, at least 1 was expected, e.g. planner_iterations=1",
        ),
        ("planner_iterations", 0, "planner_iterations=0: a whole number, at least 1 was expected"),
        ("hidden_units", True, "hidden_units=True: a whole number, at least 1 was expected, e.g. hidden_units=256"),
        ("planner_tau", -1, "planner_tau=-1: a finite number above 0 was expected, e.g. planner_tau=0.001"),
        ("planner_tau", "soft", "planner_tau='soft': a finite number above 0 was expected"),
        ("discount", "nan", "discount='nan': a finite number was expected, e.g. discount=0.99"),
        ("discount", float("nan"), "discount=nan: a finite number was expected, e.g. discount=0.99"),
        ("entropy", "both", "entropy='both': 'drawn' or 'action' was expected, e.g. entropy=drawn"),
        ("planner_arithmetic", "half", "planner_arithmetic='half': 'float64' or 'float32' was expected, e.g. "),
        ("policy_delay", 2, "algorithm 'sac-zop' has no setting 'policy_delay'; the known ones are"),
        ("key", 3, "algorithm 'sac-zop' has no setting 'key'; the known ones are: action_noise_floor, batch_size,"),
        ("critic", "action", "algorithm 'sac-zop' has no setting 'critic'; the known ones are"),
    ],
)
def test_settings_are_of_their_type(setting: str, value: Any, expected: str):
    with pytest.raises(ValueError) as error:
        check_settings("sac-zop", {setting: value})
    assert str(error.value).startswith(expected)


def test_parameters_can_be_written_on_a_linear_scale():
    """Half of the box of a weight, and not the geometric mean of its ends, is where an untrained network starts."""
    task = make_task("race-circle", interface="global")
    scales: tuple[tuple[Scale, float], ...] = (("declared", 1.0), ("linear", 50.0))
    for scale, middle in scales:
        policy, _ = make_algorithm("ac-mpc", task, jax.random.key(0), parameter_scale=scale, hidden_units=8)
        assert isinstance(policy, GaussianPolicy) and policy.steering is not None
        space = policy.steering.space
        np.testing.assert_allclose(space.from_unit(jnp.zeros(space.size))[0], middle, rtol=1e-3)
        assert policy.settings().get("parameter_scale", "declared") == scale


def test_a_network_that_acts_starts_with_hovering_whatever_the_planner_plans():
    task = make_task("race-circle", model="rotors")
    policy, _ = make_algorithm("ac-mlp", task, jax.random.key(0), hidden_units=8)
    action = policy.decide(task.environment.observe(task.environment.reset(jax.random.key(1)))).action
    np.testing.assert_allclose(action, [0.752 * 9.8066, 0.0, 0.0, 0.0], atol=1.0)


def test_every_default_is_a_setting():
    policy, learner = make_algorithm("sac-zop", make_task("cartpole"), jax.random.key(0), hidden_units=8)
    check_settings(
        "sac-zop", {f.name: getattr(learner, f.name) for f in dataclasses.fields(learner) if f.name != "critic"}
    )
    check_settings("sac-zop", {"planner_tau": None, "planner_iterations": 3, "residual": True, "warm_start": False})
    assert isinstance(policy, PlannerPolicy)


@pytest.mark.parametrize("name", ["sac", "sac-zop", "gps", "cacto"])
def test_a_network_may_be_shown_a_part_of_what_is_observed(name: str):
    """By names without units; the order is that of the setting."""
    policy, _ = make_algorithm(
        name, make_task("cartpole"), jax.random.key(0), hidden_units=8, sees="pole angle, cart position"
    )
    entries = (1, 0, 4) if name == "cacto" else (1, 0)  # whose fifth input is the time
    assert isinstance(policy, DirectPolicy | PlannerPolicy | GaussianPolicy | TimedPolicy)
    assert policy.network.sees == entries and policy.settings()["sees"] == str(entries)
    assert policy.network.layers[0].weight.shape == (len(entries), 8)


@pytest.mark.parametrize(
    ("sees", "message"),
    [
        (
            "pole angel",
            r"'pole angel' \(did you mean pole angle\?\) is not observed; what is: cart position, pole angle",
        ),
        ("pole angle, pole angle", r"names 'pole angle' twice; leave one out"),
    ],
)
def test_what_is_not_observed_cannot_be_shown(sees: str, message: str):
    with pytest.raises(ValueError, match=message):
        make_algorithm("sac", make_task("cartpole"), jax.random.key(0), sees=sees)


def test_a_policy_says_what_decides_it():
    policy, _ = make_algorithm(
        "sac-foa", make_task("cartpole"), jax.random.key(0), hidden_units=8, planner_tau=1e-3, warm_start=True
    )
    expected = {
        "hidden": "(8, 8)", "parameters": "angle_reference", "noise": "action", "residual": False, "warm_start": True,
        "planner": "SQP", "planner_iterations": 10, "planner_tau": 1e-3, "planner_gradient_tolerance": 1e-2,
        "planner_hessian": "GaussNewton", "planner_globalisation": "LineSearch", "planner_globalisation_full_steps": 12,
    }  # fmt: skip
    assert {name: policy.settings()[name] for name in expected} == expected
    network, _ = make_algorithm("sac", make_task("cartpole"), jax.random.key(0), hidden_units=8, hidden_layers=3)
    assert network.settings() == {"hidden": "(8, 8, 8)"}
