r"""An actor in the planner's loop: it says where the planner starts, and a value of it what comes after the horizon.

    guess a    the actor rolled out through the model:     x_{k+1} = f(x_k, u_k),  u_k = π(o(x_k)),  k < N
    guess b    the previous plan, shifted by one step, and closed by the actor
    plan i     the problem solved from guess i, both in one batch
    action     of the cheapest of plan a, plan b, guess a and guess b; what a plan or a guess costs is evaluated by
               simulating its controls from x_0, terminal value V(x_N) included

The problem is not convex, so that where a solve starts decides where it ends. A plan whose solve failed is out of the
race. The guesses themselves are in it: whatever the planner makes of them, what is applied never costs more, by the
model and V, than to follow the actor or the previous plan, and where both solves fail the better of these two acts.
With V the cost to go of the actor, within ε, the closed loop then costs at most 2 γ^N ε / (1 - γ) more than the actor
(see `problem/terminal_value.py` for one step of it); how much less is for the planner to find.

Real time: with `planner=SQP.real_time()` each guess is improved by one full step, which may also spoil it; the race is
run on simulated trajectories all the same.

With `starts` one of the two is left out, or the plan starts cold beside them. Without a value in its problem this is a
planner with a warm-start guide.

Where hard constraints are violated by all, the least violation wins. The actor and the planner see the same: a problem
that plans in other terms than its plant is commanded in is refused.

Other than in the paper: the guesses race too, and a shifted plan starts as it was planned, not as it is simulated, for
that of an unstable plant runs away.

Reference: R. Reiter, A. Ghezzi, K. Baumgärtner, J. Hoffmann, R. McAllister, M. Diehl, "AC4MPC: actor-critic
reinforcement learning for guiding model predictive control", IEEE Transactions on Control Systems Technology.
"""

from collections.abc import Callable
from typing import Any, Literal, final, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from planahead.planning import SQP, Guess, Plan, Simulated, cold_start, simulated, solve
from planahead.planning.transcription import control_box
from planahead.policies.acting import action_size
from planahead.policies.failure import CONTENT, plan_failed
from planahead.policies.policy import Decision, Policy, Setting, flat_settings
from planahead.policies.stochastic import ActionBox
from planahead.problem import Problem, at_stage, scan_stages

Observed = Callable[[Float[Array, " observation"], Float[Array, " nx"]], Float[Array, " observation"] | None]
"""What would be observed in a planner's state, foreseen at an observation: `Task.observed`."""

Start = Literal["actor", "shift", "cold"]


class Race(eqx.Module):
    """The memory of the policy, and how its last decision came about."""

    guess: Guess
    """What was applied, shifted by one step."""
    known: Bool[Array, ""]
    """False before the first decision of an episode, and after one whose states are no numbers."""
    chosen: Int[Array, ""]
    """Which of the candidates was applied: the plan of start i, or with `len(starts)` added its guess itself."""
    costs: Float[Array, " candidates"]
    """Of all candidates, evaluated; infinite where a solve failed."""


@final
class AC4MPC(Policy):
    """Solves from an actor's roll-out and from the shifted plan side by side; the cheaper one by evaluated cost acts.

    The plan of a decision has the states and controls that were applied, the cost that was evaluated, the iterations of
    all solves together, and the rest as the solve from its start left it.

    **Arguments:**

    - `problem`: what is planned; `EndingInValue(problem, value)` for one that ends in a value of the actor.
    - `actor`: a policy that remembers nothing, `sac`'s for instance. It acts without noise.
    - `planner_state`, `observed`: from the observation to the planner's state and back, the task's.
    - `box`: the actions.
    - `planner`: how it is solved; `SQP.real_time()` for one step.
    - `starts`: where solves start.
    - `race_guesses`: whether the guesses themselves may be applied; without it the first start's plan is what is
      applied where all solves fail.

    **Raises:** `ValueError` for a problem whose controls are not the actions, an actor that remembers, and `starts`
    that are none.

    >>> import planahead as pa
    >>> task = pa.make_task("cartpole")
    >>> actor = pa.make_algorithm("sac", task, jax.random.key(0)).policy
    >>> policy = AC4MPC.of(task, task.problem, actor)
    >>> decision = policy.decide(jnp.array([0.0, 3.0, 0.0, 0.0]), policy.initial_memory())
    >>> bool(decision.memory.costs.min() == decision.memory.costs[decision.memory.chosen])
    True
    """

    problem: Problem
    actor: Policy
    planner_state: Callable[[Float[Array, " observation"]], Float[Array, " nx"]]
    observed: Observed
    box: ActionBox
    planner: SQP
    starts: tuple[Start, ...] = eqx.field(static=True)
    race_guesses: bool = eqx.field(static=True)

    def __init__(
        self,
        problem: Problem,
        actor: Policy,
        planner_state: Callable[[Float[Array, " observation"]], Float[Array, " nx"]],
        observed: Observed,
        box: ActionBox,
        *,
        planner: SQP | None = None,
        starts: tuple[Start, ...] = ("actor", "shift"),
        race_guesses: bool = True,
    ):
        kind = type(problem).__name__
        if not problem.plans_actions or action_size(problem) != box.size:
            raise ValueError(
                f"an actor's actions are {kind}'s controls here, and it plans in other terms than its plant is "
                "commanded in (`action`), or another number of them; plan in the plant's actions"
            )
        if actor.initial_memory() is not None:
            raise ValueError(
                f"{type(actor).__name__} remembers from step to step, and an actor is asked along trajectories that "
                "never happen; use one without a memory (warm_start=False)"
            )
        known = get_args(Start)
        if not starts or len(set(starts)) != len(starts) or not set(starts) <= set(known):
            raise ValueError(f"starts={starts}; some of {', '.join(map(repr, known))} were expected, each once")
        self.problem, self.actor, self.planner_state, self.observed, self.box = (
            problem, actor, planner_state, observed, box,
        )  # fmt: skip
        self.planner = SQP(iterations=30, gradient_tolerance=CONTENT) if planner is None else planner
        self.starts, self.race_guesses = starts, race_guesses

    @classmethod
    def of(cls, task: Any, problem: Problem, actor: Policy, **settings: Any) -> "AC4MPC":
        """For a task (`planahead.Task`) that can tell what is observed in a planner's state. **Raises** `ValueError`
        for one that cannot."""
        check_observed(task)
        return cls(problem, actor, task.planner_state, task.observed, task.action_box, **settings)

    def initial_memory(self) -> Race:
        N, nx, nu = self.problem.horizon, self.problem.state_size, self.problem.control_size
        candidates = len(self.starts) * (2 if self.race_guesses else 1)
        guess = Guess(jnp.zeros((N + 1, nx)), jnp.zeros((N, nu)))
        return Race(guess, jnp.array(False), jnp.array(0), jnp.zeros(candidates))

    def settings(self) -> dict[str, Setting]:
        inner = {f"actor_{name}": setting for name, setting in self.actor.settings().items()}
        starts = ", ".join(self.starts)
        return {"starts": starts, "race_guesses": self.race_guesses, **inner, **flat_settings("planner", self.planner)}

    def decide(
        self, observation: Float[Array, " observation"], memory: Any = None, key: PRNGKeyArray | None = None
    ) -> Decision:
        del key
        problem, number = self.problem, len(self.starts)
        state = self.planner_state(observation)
        guesses = _stacked([self._guess(start, observation, state, memory) for start in self.starts])
        plans: Plan = jax.vmap(lambda guess: solve(problem, state, guess=guess, planner=self.planner))(guesses)
        failed = plan_failed(plans, self.planner)
        found: Simulated = jax.vmap(lambda controls: simulated(problem, state, controls))(plans.controls)
        open_to = jnp.all(failed) if not self.race_guesses else jnp.array(False)
        usable = ~failed | (open_to & (jnp.arange(number) == 0))
        if self.race_guesses:
            low, high = control_box(problem)
            inside = jnp.clip(guesses.controls, low[None], high[None])
            followed = jax.vmap(lambda controls: simulated(problem, state, controls))(inside)
            found = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), found, followed)
            usable = jnp.concatenate([usable, jnp.ones(number, bool)])
        costs = jnp.where(usable, found.cost, jnp.inf)
        chosen = winner(costs, jnp.where(usable, found.violation, jnp.inf), self.planner.largest_violation(costs.dtype))
        trajectory = jax.tree.map(lambda leaf: leaf[chosen], found.trajectory)
        planned = jax.tree.map(lambda leaf: leaf[chosen % number], plans)
        # A plan's own states are the better guess: those of an unstable plant run away in simulation.
        states = jnp.where(chosen < number, planned.states, trajectory.states)
        plan = eqx.tree_at(
            lambda plan: (plan.states, plan.controls, plan.cost, plan.iterations),
            planned,
            (states, trajectory.controls, found.cost[chosen], jnp.sum(plans.iterations)),
        )
        return Decision(
            action=self.box.clip(trajectory.controls[0]),
            log_probability=jnp.zeros((), trajectory.controls.dtype),
            plan=plan,
            memory=Race(plan.shift(), jnp.all(jnp.isfinite(states)), chosen, costs),
            failed=jnp.all(failed),
            gradient_valid=False,
        )

    def rolled_out(self, observation: Float[Array, " observation"], state: Float[Array, " nx"]) -> Guess:
        """The actor from `state` through the model, inside the control bounds."""

        def follow(x: Array, stage_problem: Problem, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
            u = jnp.clip(self._act(observation, x), *bounds)
            return stage_problem.dynamics(x, u), u

        box = control_box(self.problem)
        states, controls = scan_stages(follow, self.problem, state, (box.low, box.high))
        return Guess(states, controls)

    def _act(self, observation: Float[Array, " observation"], state: Float[Array, " nx"]) -> Float[Array, " action"]:
        seen = self.observed(observation, state)
        assert seen is not None  # `check_observed` refuses a task that cannot tell
        return self.box.clip(self.actor.decide(seen).action)

    def _guess(self, start: Start, observation: Array, state: Array, memory: Race | None) -> Guess:
        if start == "cold" or (start == "shift" and memory is None):
            return cold_start(self.problem, state)
        if start == "actor":
            rolled, cold = self.rolled_out(observation, state), cold_start(self.problem, state)
            finite = jnp.all(jnp.isfinite(rolled.states)) & jnp.all(jnp.isfinite(rolled.controls))
            return rolled.where(finite, cold)
        assert memory is not None
        shifted, cold = memory.guess, cold_start(self.problem, state)
        if "actor" in self.starts:
            last = at_stage(self.problem, self.problem.horizon - 1)
            closing = self._act(observation, shifted.states[-2])
            end = last.dynamics(shifted.states[-2], closing)
            closed = Guess(shifted.states.at[-1].set(end), shifted.controls.at[-1].set(closing))
            shifted = closed.where(jnp.all(jnp.isfinite(end)), shifted)
        return shifted.where(memory.known, cold)


def winner(
    costs: Float[Array, " candidates"], violations: Float[Array, " candidates"], feasible: float
) -> Int[Array, ""]:
    """The cheapest of those that violate no hard constraint by more than `feasible`, the first among equals; of none,
    that which violates least.

    >>> int(winner(jnp.array([3.0, 2.0, 1.0]), jnp.array([0.0, 0.0, 0.5]), 1e-6))
    1
    """
    kept = (violations <= feasible) & jnp.isfinite(costs)
    return jnp.where(jnp.any(kept), jnp.argmin(jnp.where(kept, costs, jnp.inf)), jnp.argmin(violations))


def check_observed(task: Any) -> None:
    """**Raises** `ValueError` where `task` cannot tell what is observed in a planner's state."""
    nothing = jnp.zeros(task.environment.observation_size), jnp.zeros(task.problem.state_size)
    if eqx.filter_eval_shape(task.observed, *nothing) is None:
        raise ValueError(
            f"task '{task.name}' cannot tell what its policies would observe in a planner's state (`Task.observed`), "
            "so that no actor or value can be asked along a plan; write that method"
        )


def _stacked(guesses: list[Guess]) -> Guess:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *guesses)
