r"""A network that proposes where the solver starts: it changes which optimum is found, and how soon, and nothing else.

    ẑ^h(x) = z̄ + Σ ∘ ρ_ψ(x)^h,   h = 1…H        trajectories (states and controls of all stages), x_0 = x
    candidates:  ẑ^1 … ẑ^H,   the previous plan shifted by one step,   the cold start
    start:       argmin_i J(x, controls of candidate i)                  by simulation, prices and violations included
    plan:        one solve from there

    symbol   shape          meaning
    z̄, Σ     [trajectory]   mean and spread of the plans that were learned from
    ρ_ψ      [H trajectory] a network
    J        []             what the controls cost when they are followed through the model (`planning.simulated`)

The problem is not convex, and the mean of a way to the left and a way to the right is a way into the wall. So the
network may have several heads: each is drawn to the plans that it is closest to already (A. Guzman-Rivera, D. Batra, P.
Kohli, "Multiple choice learning", NeurIPS 2012), and which of them is meant is found by simulation. A wrong proposal
costs some iterations at most: the cold start and the shifted plan are candidates as well, and what is applied is a
plan of the same problem by the same planner. It fails where simulation misleads: controls of an unstable plant that are
nearly right run away, and the candidate that is right looks dear.

Trained by `learning.fit_guess_guide`. With an actor as guide, and all candidates solved: `AC4MPC`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, final, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from planahead.planning import SQP, Guess, Simulated, cold_start, simulated, solve
from planahead.planning.transcription import control_box
from planahead.policies.ac4mpc import Race, winner
from planahead.policies.acting import first_action
from planahead.policies.failure import CONTENT, plan_failed
from planahead.policies.network import Network
from planahead.policies.policy import Decision, Policy, Setting, flat_settings
from planahead.policies.stochastic import ActionBox
from planahead.problem import Problem

Candidate = Literal["guide", "shift", "cold"]


@final
class GuessGuide(eqx.Module):
    """From the planner's state to trajectories to start from.

    **Arguments:**

    - `scale`: typical magnitudes of the states.
    - `mean`, `spread`: of the plans that are learned from, stage by stage, in the units of states and controls.
    - `heads`: H, how many trajectories are proposed.
    - `hidden`, `key`: of the network, which proposes little more than `mean` until it is fitted.

    **Raises:** `ValueError` for no head.

    >>> import planahead as pa
    >>> problem, state = pa.make_task("mass-spring-damper").problem, jnp.array([1.0, 0.0])
    >>> mean = pa.solve(problem, state).guess()
    >>> guide = GuessGuide((1.0, 1.0), mean, jax.tree.map(jnp.ones_like, mean), heads=2, key=jax.random.key(0))
    >>> guide(problem, state).controls.shape
    (2, 20, 1)
    """

    network: Network
    """Of the planner's state."""
    mean: Guess
    spread: Guess
    heads: int = eqx.field(static=True)

    def __init__(
        self,
        scale: Sequence[float],
        mean: Guess,
        spread: Guess,
        *,
        heads: int = 1,
        hidden: Sequence[int] = (128, 128),
        key: PRNGKeyArray,
    ):
        if heads < 1:
            raise ValueError(f"GuessGuide(heads={heads}); at least one proposal was expected")
        size = mean.states.size + mean.controls.size
        self.network = Network(scale, heads * size, hidden=hidden, last_gain=0.1, key=key)
        self.mean, self.spread, self.heads = mean, spread, heads

    def unit(self, guess: Guess) -> Float[Array, " trajectory"]:
        """A trajectory in units of mean and spread, flat."""
        units = jax.tree.map(lambda z, mean, spread: jnp.ravel((z - mean) / spread), guess, self.mean, self.spread)
        return jnp.concatenate([units.states, units.controls])

    def units(self, state: Float[Array, " nx"]) -> Float[Array, "heads trajectory"]:
        """What is proposed at `state`, as `unit` writes trajectories."""
        return self.network(state).reshape(self.heads, -1)

    def __call__(self, problem: Problem, state: Float[Array, " nx"]) -> Guess:
        """The proposals [heads] for `problem` at `state`: controls inside their bounds, the first state as it is.

        **Raises:** `ValueError` for a problem of other sizes than those that were learned from.
        """
        check_sizes(self, problem)
        low, high = control_box(problem)
        size = self.mean.states.size

        def proposal(unit: Float[Array, " trajectory"]) -> Guess:
            states = self.mean.states + self.spread.states * unit[:size].reshape(self.mean.states.shape)
            controls = self.mean.controls + self.spread.controls * unit[size:].reshape(self.mean.controls.shape)
            return Guess(states.at[0].set(state), jnp.clip(controls, low, high))

        return jax.lax.stop_gradient(jax.vmap(proposal)(self.units(state)))


def check_sizes(guide: GuessGuide, problem: Problem) -> None:
    """**Raises** `ValueError` where `guide` learned from trajectories of other sizes than those of `problem`."""
    learned = (guide.mean.controls.shape[0], guide.mean.states.shape[1], guide.mean.controls.shape[1])
    needed = (problem.horizon, problem.state_size, problem.control_size)
    if learned != needed:
        raise ValueError(
            f"the guide learned from plans with horizon, states and controls {learned}, and {type(problem).__name__} "
            f"has {needed}; fit one to plans of this problem (`fit_guess_guide`)"
        )


def cheapest(
    problem: Problem, state: Float[Array, " nx"], guesses: Guess, feasible: float, allowed: Array | None = None
) -> Race:
    """Which of the `guesses` [candidates] costs least when its controls are followed from `state`; those that are not
    `allowed` cost infinitely much. The answer's `guess` is that candidate.

    >>> import planahead as pa
    >>> problem, state = pa.make_task("obstacles").problem, jnp.array([-1.5, 0.0, 0.0, 0.0])
    >>> cold, plan = cold_start(problem, state), pa.solve(problem, state)
    >>> both = jax.tree.map(lambda a, b: jnp.stack([a, b]), cold, plan.guess())
    >>> int(cheapest(problem, state, both, 1e-3).chosen)
    1
    """
    found: Simulated = jax.vmap(lambda controls: simulated(problem, state, controls))(guesses.controls)
    costs = found.cost if allowed is None else jnp.where(allowed, found.cost, jnp.inf)
    violations = found.violation if allowed is None else jnp.where(allowed, found.violation, jnp.inf)
    chosen = winner(costs, violations, feasible)
    return Race(jax.tree.map(lambda leaf: leaf[chosen], guesses), jnp.array(True), chosen, costs)


@final
class GuidedPlanner(Policy):
    """Plans from the best of what a network, the previous plan and the cold start propose; one solve per decision.

    **Arguments:**

    - `problem`: what is planned.
    - `guide`: the network, learned from plans of the same horizon.
    - `planner_state`: the planner's initial state, computed from the observation.
    - `box`: the actions.
    - `planner`: how it is solved.
    - `candidates`: which guesses are compared; `("guide",)` trusts the network.

    **Raises:** `ValueError` for a guide of other sizes, and candidates that are none.
    """

    problem: Problem
    guide: GuessGuide
    planner_state: Callable[[Float[Array, " observation"]], Float[Array, " nx"]]
    box: ActionBox
    planner: SQP
    candidates: tuple[Candidate, ...] = eqx.field(static=True)

    def __init__(
        self,
        problem: Problem,
        guide: GuessGuide,
        planner_state: Callable[[Float[Array, " observation"]], Float[Array, " nx"]],
        box: ActionBox,
        *,
        planner: SQP | None = None,
        candidates: tuple[Candidate, ...] = ("guide", "shift", "cold"),
    ):
        check_sizes(guide, problem)
        known = get_args(Candidate)
        if not candidates or len(set(candidates)) != len(candidates) or not set(candidates) <= set(known):
            raise ValueError(f"candidates={candidates}; some of {', '.join(map(repr, known))} were expected, each once")
        self.problem, self.guide, self.planner_state, self.box = problem, guide, planner_state, box
        self.planner = SQP(iterations=30, gradient_tolerance=CONTENT) if planner is None else planner
        self.candidates = candidates

    @classmethod
    def of(cls, task: Any, guide: GuessGuide, **settings: Any) -> "GuidedPlanner":
        """With the problem, the planner's state and the actions of a task (`planahead.Task`)."""
        return cls(task.problem, guide, task.planner_state, task.action_box, **settings)

    def initial_memory(self) -> Race:
        N, nx, nu = self.problem.horizon, self.problem.state_size, self.problem.control_size
        number = sum(self.guide.heads if candidate == "guide" else 1 for candidate in self.candidates)
        guess = Guess(jnp.zeros((N + 1, nx)), jnp.zeros((N, nu)))
        return Race(guess, jnp.array(False), jnp.array(0), jnp.zeros(number))

    def settings(self) -> dict[str, Setting]:
        own: dict[str, Setting] = {
            "candidates": ", ".join(self.candidates),
            "heads": self.guide.heads,
            "hidden": str(self.guide.network.hidden),
        }
        return own | flat_settings("planner", self.planner)

    def decide(
        self, observation: Float[Array, " observation"], memory: Race | None = None, key: PRNGKeyArray | None = None
    ) -> Decision:
        del key
        memory = self.initial_memory() if memory is None else memory
        problem, state = self.problem, self.planner_state(observation)
        cold = cold_start(problem, state)
        one = {"shift": memory.guess.where(memory.known, cold), "cold": cold}
        parts = [
            self.guide(problem, state) if name == "guide" else jax.tree.map(lambda leaf: leaf[None], one[name])
            for name in self.candidates
        ]
        guesses: Guess = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
        race = cheapest(problem, state, guesses, self.planner.largest_violation(state.dtype))
        plan = solve(problem, state, guess=race.guess, planner=self.planner)
        failed = plan_failed(plan, self.planner)
        return Decision(
            action=self.box.clip(first_action(problem, plan)),
            log_probability=jnp.zeros((), state.dtype),
            plan=plan,
            memory=Race(plan.shift(), ~failed, race.chosen, race.costs),
            failed=failed,
            gradient_valid=plan.gradient_valid,
        )
