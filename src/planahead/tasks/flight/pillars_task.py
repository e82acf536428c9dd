"""A quadrotor between pillars with a planner that comes to the reference, as a task; the world is `pillars.py`."""

from typing import final

import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.policies.reference import ReferenceGenerator
from planahead.problem import static
from planahead.problem.rotation import from_matrix
from planahead.tasks.flight.hover import STATE_NAMES, HoverProblem
from planahead.tasks.flight.pillars import AHEAD, Pillars, Source, referenced
from planahead.tasks.flight.quadrotor import PLANTS, TIME_STEP, Plant
from planahead.tasks.task import Interface, Task, check_choice, with_stages

AIMED = 2
"""At which of the observed moments the planner comes to the reference."""


@final
class PillarsTask(Task[Pillars, HoverProblem]):
    """Between pillars to a goal with a quadrotor, after a point mass's plan that is renewed ten times a second.

    The planner of the task itself is what follows the reference: a nominal quadrotor that comes to the reference 0.2 s
    ahead, in coordinates that move with it.

    **Arguments:**

    - `environment`, `problem`: replace the defaults; the other arguments but `interface` are for a world that is not
      given.
    - `plant`: `"realistic"` has rotors with a lag, a rate loop, drag, delay; `"nominal"` is an ideal quadrotor.
    - `reference`: `"planned"`, `"drawn"`, or `"goal"` for none but the goal.
    - `replan_steps`: steps of 20 ms between two plans.
    - `interface`: `"global"` has 17 learned parameters, `"stage"` those of every stage.

    >>> PillarsTask(reference="goal", replan_steps=10).environment.generator.every
    10
    """

    environment: Pillars
    problem: HoverProblem
    name: str = static("pillars")
    learned_parameters: tuple[str, ...] = static(("state_weight", "control_weight", "point"))
    state_names: tuple[str, ...] = static(STATE_NAMES)

    def __init__(
        self,
        environment: Pillars | None = None,
        problem: HoverProblem | None = None,
        *,
        plant: Plant = "realistic",
        reference: Source = "planned",
        replan_steps: int = 5,
        interface: Interface = "global",
    ):
        check_choice(self, "plant", plant, Plant)
        check_choice(self, "reference", reference, Source)
        check_choice(self, "interface", interface, Interface)
        generator = ReferenceGenerator(every=replan_steps)
        world = Pillars(vehicle=PLANTS[plant](), generator=generator, reference=reference)
        self.environment = world if environment is None else environment
        problem = HoverProblem() if problem is None else problem
        if interface == "stage":
            states, controls = range(1, problem.horizon + 1), range(problem.horizon)
            problem = with_stages(problem, {"state_weight": states, "control_weight": controls, "point": states})
        self.problem = problem

    def planner_state(self, observation: Float[Array, " 55"]) -> Float[Array, " 10"]:
        """Relative to the reference 0.2 s ahead, moved back by as long at its velocity; with w >= 0."""
        off, slower = referenced(observation)[AIMED]
        back = AHEAD[AIMED] * TIME_STEP * (observation[12:15] + slower)
        attitude = from_matrix(observation[:9].reshape(3, 3))
        return jnp.concatenate([back - off, attitude, -slower])
