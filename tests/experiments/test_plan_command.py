"""`planahead plan` says why solves fail."""

import pathlib

import numpy as np
import pytest

from planahead.experiments.command import main
from planahead.experiments.commands.plan import _why_it_failed
from planahead.experiments.trajectory import Trajectory
from planahead.tasks import make_task

OWN = """
import jax.numpy as jnp
import planahead as pa
from planahead.tasks import MassSpringDamperTask
from planahead.tasks.mass_spring_damper import MassSpringDamperProblem

class Rooted(MassSpringDamperProblem):
    def stage_cost(self, x, u):
        return jnp.sqrt(jnp.abs(u[0]))

class RootedTask(MassSpringDamperTask):
    def __init__(self):
        super().__init__(problem=Rooted())

class Fenced(MassSpringDamperProblem):
    def terminal_bounds(self):
        return pa.Bounds(5.0, 5.5)

class FencedTask(MassSpringDamperTask):
    def __init__(self):
        super().__init__(problem=Fenced())
"""


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("Rooted", "- Rooted.stage_cost: the derivative by u[0] is inf at stage 0, where x = ["),
        ("Fenced", "- Fenced.terminal_bounds: entry 1 is "),
    ],
)
def test_plan_says_what_a_planner_cannot_work_with(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: str,
    said: str,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    pathlib.Path("own_tasks.py").write_text(OWN)
    assert main(["plan", f"own_tasks:{task}Task", "--episodes", "2"]) == 0
    told = capsys.readouterr().out
    assert said in told and "the first solve of the episode that failed is that of step 0" in told


def test_an_episode_without_a_failed_solve_explains_none():
    task = make_task("mass-spring-damper")
    trajectory = Trajectory(
        time_step=0.1,
        states=None,
        observations=np.zeros((3, 2)),
        actions=np.zeros((2, 1)),
        rewards=np.zeros(2),
        success=True,
        terminated=False,
        failed=np.zeros(2, bool),
        parameters=None,
        planner_states=np.zeros((3, 2), np.float32),
        planned_states=None,
        planned_actions=None,
    )
    said = "a solve of another episode failed, none of that in the picture, and nothing is found at its start."
    assert list(_why_it_failed(task, trajectory)) == [said]
