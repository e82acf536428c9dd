r"""Planning before a policy: a planner's trajectory as what another controller follows, replanned at its own rate.

    every `every` steps      (x*, u*) = argmin J(x, u)   from the state of now, begun at the reference before, shifted
    in between               r(t) on the straight lines between the nodes x*_0, x*_1, …, `spacing` steps apart

    symbol      shape      meaning
    x*, u*      [N+1, nx]  states and controls of the last plan that did not fail
    t           []         steps since that plan was made; r stays at x*_N beyond the horizon

The planner's model may be much simpler than what follows it (a point mass for a quadrotor), and its time step longer.
The first bracket of the pipeline in `policy.py`: a world that shows its reference to a policy and rewards it for
following calls `first` and `next` in its own step, in training as when deployed.

A plan that fails is not followed: the reference before goes on, shifted. Of many lanes only those that replan are
computed, see `where_due.py`.

Reference: F. Jenelten, J. He, F. Farshidian, M. Hutter, "DTC: deep tracking control", Science Robotics 2024, where a
planner of footholds runs within the simulation that a policy is trained in.
"""

import dataclasses
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from planahead.planning import SQP, Guess, solve
from planahead.planning.where_due import where_due
from planahead.policies.failure import plan_failed
from planahead.problem import Problem


class Reference(eqx.Module):
    """A trajectory that was planned, and how long ago."""

    trajectory: Guess
    age: Int[Array, ""]
    """Steps since it was planned."""
    due_in: Int[Array, ""]
    """Steps until it is planned anew."""
    failed: Bool[Array, ""]
    """Whether the last solve failed, so that the trajectory is an older one."""


@final
class ReferenceGenerator(eqx.Module):
    """When is planned, how, and what is followed in between.

    **Arguments:**

    - `planner`: how a problem is solved; by default by two full steps from the reference before.
    - `every`: steps of the follower between two plans.
    - `spacing`: steps of the follower per time step of the planner.

    **Raises:** `ValueError` for numbers that are not whole ones of at least 1.

    >>> import planahead as pa
    >>> problem, state = pa.make_task("obstacles").problem, jnp.array([-1.5, 0.0, 0.0, 0.0])
    >>> generator = ReferenceGenerator(every=10, spacing=5)
    >>> reference = generator.first(pa.cold_start(problem, state))
    >>> reference = generator.next(reference, problem, state)  # planned
    >>> later = generator.next(reference, problem, state)
    >>> int(later.age), int(later.due_in), bool((generator.at(later, 0.0) == generator.at(reference, 1.0)).all())
    (1, 9, True)
    """

    planner: SQP = eqx.field(default_factory=lambda: SQP.real_time(iterations=2, arithmetic="float32"))
    every: int = eqx.field(static=True, default=5)
    spacing: int = eqx.field(static=True, default=5)

    def __check_init__(self):
        for name in ("every", "spacing"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"ReferenceGenerator got {name}={value!r}; a whole number of at least 1 was expected.")

    def first(self, guess: Guess) -> Reference:
        """Nothing is planned yet, and is a step later, begun at `guess`: a world that is reset all the time, to be
        there where an episode has ended, solves nothing for it."""
        return Reference(guess, jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32), jnp.array(False))

    def next(self, reference: Reference, problem: Problem, state: Float[Array, " nx"]) -> Reference:
        """The reference a step later, in `state` [nx]: planned anew where it is time."""
        older = self.older(reference)
        return where_due(self._planned, older.due_in <= 0, older, older, problem, state)

    def older(self, reference: Reference) -> Reference:
        """The reference a step later where nothing is planned."""
        return dataclasses.replace(reference, age=reference.age + 1, due_in=reference.due_in - 1)

    def begun(self, trajectory: Guess, failed: Bool[Array, ""] | bool = False) -> Reference:
        """The reference in the step in which `trajectory` is made."""
        return Reference(trajectory, jnp.zeros((), jnp.int32), jnp.int32(self.every), jnp.asarray(failed))

    def at(self, reference: Reference, ahead: Float[Array, ""] | float) -> Float[Array, " nx"]:
        """Its state `ahead` steps from now."""
        states = reference.trajectory.states
        place = jnp.clip((reference.age + ahead) / self.spacing, 0.0, len(states) - 1.0)
        node = jnp.minimum(place.astype(int), len(states) - 2)
        return states[node] + (place - node) * (states[node + 1] - states[node])

    def shifted(self, reference: Reference) -> Guess:
        """The trajectory from now on: it ends where it ended, and its controls are those that last."""
        nodes, controls = len(reference.trajectory.states), reference.trajectory.controls
        states = jax.vmap(lambda ahead: self.at(reference, ahead))(float(self.spacing) * jnp.arange(nodes))
        gone = (reference.age + self.spacing // 2) // self.spacing  # the nearest node
        return Guess(states, controls[jnp.minimum(gone + jnp.arange(nodes - 1), nodes - 2)])

    def _planned(self, reference: Reference, problem: Problem, state: Float[Array, " nx"]) -> Reference:
        guess = self.shifted(reference)
        plan = solve(problem, state, guess=guess, planner=self.planner)
        failed = plan_failed(plan, self.planner) | ~jnp.all(jnp.isfinite(plan.states))
        return self.begun(jax.tree.map(lambda old, new: jnp.where(failed, old, new), guess, plan.guess()), failed)
