"""What a diagnosis says of a planner whose reach and whose blind states are known."""

import csv
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.experiments.command import main
from planahead.experiments.diagnosis import Diagnosis, _reach, diagnose
from planahead.experiments.diagnosis_figure import diagnosis_figure
from planahead.experiments.errors import UserError
from planahead.learning.critics import TwinCritic
from planahead.policies import PlannerPolicy
from planahead.policies.sensitivity import VANISHING
from tests.learning.probes import ProbeTask, SteeredProblem, direct_policy, probe
from tests.policies.test_planned import planner_policy

TASK = ProbeTask(environment=probe(sign=1.0))
LIMIT = 0.5


def aiming(slope: float) -> PlannerPolicy:
    """u₀* = clip(φ, ±1/2) with φ = tanh(slope · o), o = ±1."""
    policy = planner_policy(problem=SteeredProblem(limit=LIMIT))
    network = policy.network
    first = jnp.zeros_like(network.layers[0].weight).at[0, 0].set(1.0).at[0, 1].set(-1.0)
    last = jnp.zeros_like(network.layers[1].weight).at[0, 0].set(slope).at[1, 0].set(-slope)
    return eqx.tree_at(lambda p: (p.network.layers[0].weight, p.network.layers[1].weight), policy, (first, last))


pytestmark = pytest.mark.xdist_group("diagnosis")  # one process makes what all of them look at


@pytest.fixture(scope="module")
def found() -> dict[float, Diagnosis]:
    with_critic = TwinCritic((1.0,), 1, hidden=(8,), key=jax.random.key(0))
    return {
        slope: diagnose(TASK, aiming(slope), jax.random.key(1), states=20, samples=200, critic=with_critic)
        for slope in (0.2, 1.5)
    }


@pytest.mark.long
def test_reach_is_what_the_bound_leaves(found: dict[float, Diagnosis]):
    for diagnosis in found.values():
        np.testing.assert_allclose(diagnosis.reach, LIMIT, atol=0.01)  # an interval of length 1 in a box of length 2
        assert np.abs(diagnosis.box_actions).max() <= LIMIT + 1e-6


def test_a_plan_is_blind_beyond_its_bound(found: dict[float, Diagnosis]):
    inside, beyond = found[0.2], found[1.5]
    np.testing.assert_allclose(inside.smallest, 1.0, rtol=1e-3)
    assert not inside.blind.any() and not inside.spurious.any()
    assert beyond.blind.all() and (beyond.smallest < VANISHING).all()
    # φ is uniform on [-1, 1] and the bound is active for half of it; near it the interior point rounds the corner
    far = np.abs(inside.box_smallest - 0.5) > 0.49
    assert far.mean() > 0.7 and np.mean(inside.box_smallest < 0.5) == pytest.approx(0.5, abs=0.05)


@pytest.mark.long
def test_the_critic_says_where_a_blind_state_is_spurious(found: dict[float, Diagnosis]):
    diagnosis = found[1.5]
    assert diagnosis.gain is not None and (diagnosis.gain > -1e-3).all()  # the policy's action is itself within reach
    np.testing.assert_array_equal(diagnosis.spurious, diagnosis.gain > 0.01)
    blindly = diagnose(TASK, aiming(1.5), jax.random.key(1), states=20, samples=200)
    assert blindly.gain is None and blindly.spurious.all()
    assert any("Spurious stationary points: at 100 %" in warning for warning in blindly.warnings())
    assert not any("Spurious" in warning for warning in found[0.2].warnings())


def test_reach_of_two_controls_is_a_share_of_cells():
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-1, 1, 30)), axis=-1).reshape(-1, 2)
    assert _reach(grid) == 1.0
    assert _reach(grid[grid[:, 0] < 0]) == pytest.approx(0.5, abs=0.07)
    assert _reach(np.zeros((50, 2))) == 1 / 9 and _reach(np.zeros((0, 1))) == 0.0


def test_the_figure_has_three_panels(found: dict[float, Diagnosis]):
    figure = diagnosis_figure(found[1.5], "probe", TASK.environment.action_names, "the policy's")
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Smallest singular value of ∂u₀/∂φ",
        "First actions",
        "Share of the action box in reach",
    ]


def test_a_policy_without_a_plan_is_refused_in_words():
    with pytest.raises(UserError, match="DirectPolicy has no planner with a derivative, so no ∂u₀/∂φ to diagnose"):
        diagnose(TASK, direct_policy(), jax.random.key(0))


@pytest.mark.long
def test_the_command_writes_a_table_and_a_picture(tmp_path, capsys):
    arguments = ["diagnose", "mass-spring-damper", "--states", "10", "--samples", "8"]
    assert main([*arguments, "--out", str(tmp_path / "d"), "--json", str(tmp_path / "d.json")]) == 0
    with open(tmp_path / "d" / "diagnosis.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and {"smallest_singular_value", "reach", "spurious"} <= set(rows[0])
    assert (tmp_path / "d" / "diagnosis.png").stat().st_size > 10_000
    result = json.loads((tmp_path / "d.json").read_text())
    assert result["states"] == 10 and "σ_min" in capsys.readouterr().out
    assert main(["diagnose", "nowhere"]) == 2


@pytest.mark.long
def test_a_task_is_diagnosed_with_its_options_and_a_run_has_its_own(tmp_path, capsys):
    few = ["--states", "4", "--samples", "4", "--out", str(tmp_path), "--json", str(tmp_path / "d.json")]
    parameters = []
    for options in ([], ["--task-options", "interface=stage"]):
        assert main(["diagnose", "mass-spring-damper", *options, *few]) == 0
        parameters.append(json.loads((tmp_path / "d.json").read_text())["parameters"])
    assert parameters[1] > parameters[0]
    assert "mass-spring-damper+interface=stage" in capsys.readouterr().out
    assert main(["diagnose", str(tmp_path), "--task-options", "interface=stage"]) == 2
    assert "is a run, which has its own; leave them out" in capsys.readouterr().err
