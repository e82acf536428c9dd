r"""Continuous actor-critic with trajectory optimisation (CACTO): the actor says where a planner starts, the plans teach
the critic, and the critic teaches the actor.

    start      x_0 = x̄ + η S ξ,     x̄ a first state of the world, or, with probability p, a state that a plan passed
    guess      x_{k+1} = f(x_k, u_k),  u_k = clip μ(o(x_k), k)                                the actor, rolled out
    plan       the problem of `Task.expert` over its whole horizon N, solved from the guess
    critic     V(x_k, k) <- cost to go of the plan at its stage k, and its slope there          `timed_value.py`
    actor      min_μ E[√(2 q) / c],    q = c_k(x, u) + γ V(f(x, u), k + 1),  u = clip μ(o(x), k)
               along stored plans; ∂q/∂u goes through model, cost and critic

    symbol   shape   meaning
    S        [nx]    typical magnitudes of the planner's states; ξ uniform in [-1, 1]^nx, η in [0, `spread`]
    c_k      []      what step k costs, prices of soft limits included (`planning/cost_to_go.py`)
    μ        [nu]    `TimedPolicy`: the time is part of the state, since the horizon is finite

The problem is not convex, and where a solve starts decides which optimum it ends in. The critic is fitted to plans from
everywhere, and the actor goes down the critic rather than after a plan, so that it leaves a basin to which its own
roll-out leads where neighbours know of a cheaper one; the next plan starts there. The root in the actor's loss has the
same minimiser in every state, and keeps expensive states from drowning the others.

Nothing happens in the world: the model is all there is, and one step is one problem solved. Plans that failed, or cost
less than nothing, which no sum of squares does, are left out. What is hard has no price, so that the actor knows of
hard limits on states only by what plans cost.

It fails where the horizon does not show what matters (there is no bootstrapping), and where the starts do not: states
that no plan passed are not known.

Other than in the paper: costs to go are those of whole plans instead of n steps and a target network; starts begin at
stage 0, and states that plans passed are starts again instead of a draw of the time; roots are fitted.

References: G. Grandesso, E. Alboni, G. Rosati Papini, P. Wensing, A. Del Prete, "CACTO: continuous actor-critic with
trajectory optimization - towards global optimality", IEEE RA-L 2023; with slopes: `timed_value.py`.
"""

import dataclasses
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from planahead.learning.fitting import fit
from planahead.learning.learner import Learner, Metrics
from planahead.learning.replay import Replay
from planahead.learning.soft_losses import mean_of_usable
from planahead.learning.terminal_value import observation_of
from planahead.learning.timed_value import TimedValue, ValueLoss, roots_of, scale_of, value_loss
from planahead.learning.windows import state_scale
from planahead.planning import SQP, CostToGo, Guess, Plan, cold_start, cost_to_go, solve, step_costs
from planahead.planning.transcription import control_box
from planahead.policies import HIDDEN, Policy, TimedPolicy, check_observed
from planahead.policies.acting import action_size
from planahead.policies.failure import CONTENT, plan_failed
from planahead.problem import Problem, map_stages, scan_stages
from planahead.tasks import Task


class Solved(eqx.Module):
    """A plan as the replay stores it; a batch has a leading axis on every leaf."""

    states: Float[Array, "*batch nodes nx"]
    costs: CostToGo
    usable: Bool[Array, "*batch"]


@final
class CactoState(eqx.Module):
    """Everything that changes while learning, and what it is about."""

    task: Task
    problem: Problem
    """What is planned."""
    scale: Float[Array, " nx"]
    """S."""
    policy: TimedPolicy
    value: TimedValue
    moments: tuple[PyTree, PyTree]
    """Adam's, of the actor and of the critic."""
    replay: Replay[Solved]
    steps: Int[Array, ""]
    """Problems solved."""


@final
class Cacto(Learner[CactoState]):
    """The loop. Costs of the problem of `Task.expert` are minimised, rewards are not used.

    **Raises:** `ValueError` for numbers that do not fit together, with the nearest ones that do; `init` raises it for a
    policy that this learner cannot train and a task that it cannot learn on.
    """

    horizon: int | None = eqx.field(default=None, static=True)
    """N: controls of a plan; the expert's own horizon unless told."""
    sobolev_weight: float = eqx.field(default=0.0, static=True)
    """ω, of the slopes in the critic's loss; 0 leaves them out."""
    spread: float = eqx.field(default=0.5, static=True)
    """How far starts are drawn from where they are drawn around, in typical magnitudes of the states."""
    revisits: float = eqx.field(default=0.5, static=True)
    """p: the share of starts at states that earlier plans passed, since these are where the actor gets to."""
    learning_rate: float = eqx.field(default=1e-3, static=True)
    """Adam's, of actor and critic."""
    batch_size: int = eqx.field(default=16, static=True)
    """Plans per gradient step, all their stages counting."""
    gradient_steps: int = eqx.field(default=200, static=True)
    """Per chunk, of the critic and then of the actor (Grandesso et al. 2023)."""
    replay_size: int = eqx.field(default=1_280, static=True)
    """Plans kept: twenty chunks, since plans from guesses of an earlier actor may be of a worse optimum."""
    steps_per_chunk: int = eqx.field(default=64, static=True)
    """Problems solved per call of `advance`, in one batch."""
    expert_iterations: int = eqx.field(default=50, static=True)
    """At most as many SQP iterations per plan."""
    hidden_layers: int = eqx.field(default=len(HIDDEN), static=True)
    """Of the critic."""
    hidden_units: int = eqx.field(default=HIDDEN[0], static=True)

    def __check_init__(self):
        whole = ("batch_size", "gradient_steps", "steps_per_chunk", "expert_iterations", "hidden_layers")
        for name in (*whole, "hidden_units"):
            self._check_range(name, getattr(self, name) >= 1, "at least 1 was expected")
        self._check_range("horizon", self.horizon is None or self.horizon >= 1, "at least 1 was expected, or None")
        self._check_range("sobolev_weight", self.sobolev_weight >= 0, "expected 0 (left out) or more")
        self._check_range("spread", self.spread >= 0, "expected 0 (only where the world starts) or more")
        self._check_range("revisits", 0 <= self.revisits <= 1, "expected 0 (none) to 1")
        self._check_range("learning_rate", self.learning_rate > 0, "a positive number was expected")
        self._check_range("replay_size", self.replay_size >= 1, "at least steps_per_chunk was expected")
        self._check_multiple("replay_size", "steps_per_chunk")

    def check(self, policy: Policy) -> TimedPolicy:
        """The policy, if this learner can train it. **Raises** `ValueError` that says what is missing otherwise."""
        if not isinstance(policy, TimedPolicy):
            raise ValueError(
                f"Cacto trains a TimedPolicy, which knows how much of a plan is over; got {type(policy).__name__}"
            )
        return policy

    def problem(self, task: Task) -> Problem:
        """What is planned: one problem for all starts. **Raises** `ValueError` where the horizon cannot be set."""
        problem = task.expert(jnp.zeros(task.environment.observation_size))
        if self.horizon is None or self.horizon == problem.horizon:
            return problem
        if "horizon" not in {field.name for field in dataclasses.fields(problem) if field.init}:
            raise ValueError(
                f"horizon={self.horizon}, and {type(problem).__name__} has {problem.horizon} of its own that is no "
                "field; leave horizon out, or let `Task.expert` give a problem with that horizon"
            )
        settings: dict[str, Any] = {"horizon": self.horizon}
        return dataclasses.replace(problem, **settings)

    def init(self, task: Task, policy: Policy, key: PRNGKeyArray) -> CactoState:
        actor, problem = self.check(policy), self.problem(task)
        check_observed(task)
        if not problem.plans_actions or action_size(problem) != actor.box.size:
            raise ValueError(
                f"an actor's actions are {type(problem).__name__}'s controls here, and it plans in other terms than "
                "its plant is commanded in (`action`), or another number of them; let `Task.expert` plan in actions"
            )
        if actor.horizon != problem.horizon:
            raise ValueError(
                f"the plans have {problem.horizon} controls and the actor counts {actor.horizon} stages; give it "
                f"horizon={problem.horizon}"
            )
        nodes, nx = problem.horizon + 1, problem.state_size
        example = Solved(
            jnp.zeros((nodes, nx)), CostToGo(jnp.zeros(nodes), jnp.zeros((nodes, nx))), jnp.zeros((), bool)
        )
        value = TimedValue.of(task, problem.horizon, (self.hidden_units,) * self.hidden_layers, key)
        adam = self._adam()
        return CactoState(
            task=task,
            problem=problem,
            scale=state_scale(task),
            policy=actor,
            value=value,
            moments=(adam.init(_weights(actor)), adam.init(_weights(value))),
            replay=Replay(example, self.replay_size, self.steps_per_chunk),
            steps=jnp.zeros((), jnp.int32),
        )

    def policy(self, state: CactoState) -> TimedPolicy:
        return state.policy

    @eqx.filter_jit
    def advance(self, state: CactoState, key: PRNGKeyArray) -> tuple[CactoState, Metrics]:
        start_key, critic_key, actor_key = jax.random.split(key, 3)
        starts = self.starts(state, start_key)
        plans = jax.vmap(lambda x: self.plan(state.problem, state.policy, state.task, x))(starts)
        solved = jax.vmap(lambda plan: self._solved(state.problem, plan))(plans)
        usable, scale = solved.usable, state.value.scale
        scale = jnp.where(scale == 1.0, scale_of(solved.costs, usable), scale)  # 1 until plans have said otherwise
        value = eqx.tree_at(lambda value: value.scale, state.value, scale)
        before = value_loss(value, solved.states, solved.costs, usable, state.scale, sobolev=False).roots
        size = mean_of_usable(jnp.mean(roots_of(solved.costs.values, scale) ** 2, axis=1), usable)
        state = dataclasses.replace(
            state, value=value, replay=state.replay.insert(solved), steps=state.steps + self.steps_per_chunk
        )
        state, terms = self._fit_critic(state, critic_key)
        state, of_actor = self._fit_actor(state, actor_key)
        metrics = {
            "plan_cost": mean_of_usable(solved.costs.values[:, 0], usable),
            "failed_solves": jnp.mean(~usable, dtype=scale.dtype),
            "iterations": jnp.mean(plans.iterations, dtype=scale.dtype),
            "value_error": jnp.sqrt(before / jnp.maximum(size, 1e-12)),
            "critic_loss": jnp.mean(terms.roots),
            "actor_loss": of_actor,
            "steps": state.steps,
        }
        if self.sobolev_weight > 0:
            metrics["sobolev_loss"] = jnp.mean(terms.slopes)
        return state, metrics

    def starts(self, state: CactoState, key: PRNGKeyArray) -> Float[Array, "n nx"]:
        """Where the next plans begin."""
        n, task, world = self.steps_per_chunk, state.task, state.task.environment
        reset, pick, node, again, far, way = jax.random.split(key, 6)
        observations = jax.vmap(lambda key: world.observe(world.reset(key)))(jax.random.split(reset, n))
        first = jax.vmap(task.planner_state)(observations)
        rows = state.replay.sample(pick, n)
        passed = rows.states[jnp.arange(n), jax.random.randint(node, (n,), 0, state.problem.horizon)]
        returns = jax.random.bernoulli(again, self.revisits, (n,)) & rows.usable
        around = jnp.where(returns[:, None], passed, first)
        reach = self.spread * jax.random.uniform(far, (n, 1))
        return around + reach * state.scale[None] * jax.random.uniform(way, around.shape, minval=-1.0, maxval=1.0)

    def plan(self, problem: Problem, actor: TimedPolicy, task: Task, start: Float[Array, " nx"]) -> Plan:
        """The plan from the actor's roll-out, from a cold start where that leaves the numbers."""
        return solve(problem, start, guess=rolled_out(problem, actor, task, start), planner=self.planner)

    @property
    def planner(self) -> SQP:
        """What solves, with the native kernel's float32."""
        return SQP(iterations=self.expert_iterations, gradient_tolerance=CONTENT, arithmetic="float32")

    def _solved(self, problem: Problem, plan: Plan) -> Solved:
        found = cost_to_go(problem, plan)
        finite = jnp.all(jnp.isfinite(found.values)) & jnp.all(jnp.isfinite(found.slopes))
        usable = finite & ~plan_failed(plan, self.planner) & jnp.all(found.values >= 0)
        states, costs = jax.tree.map(lambda leaf: jnp.where(usable, leaf, 0.0), (plan.states, found))
        return Solved(states, costs, usable)

    def _fit_critic(self, state: CactoState, key: PRNGKeyArray) -> tuple[CactoState, ValueLoss]:
        def loss_of(weights: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], ValueLoss]:
            rows, network = state.replay.sample(key, self.batch_size), eqx.combine(weights, state.value.network)
            value = eqx.tree_at(lambda value: value.network, state.value, network)
            sobolev = self.sobolev_weight > 0
            terms = value_loss(value, rows.states, rows.costs, rows.usable, state.scale, sobolev=sobolev)
            return terms.roots + self.sobolev_weight * terms.slopes, terms

        found = fit(_weights(state.value), state.moments[1], self._adam(), loss_of, self.gradient_steps, key)
        network = eqx.combine(found.trained, state.value.network)
        state = eqx.tree_at(lambda s: (s.value.network, s.moments[1]), state, (network, found.moments))
        return state, found.terms

    def _fit_actor(self, state: CactoState, key: PRNGKeyArray) -> tuple[CactoState, Float[Array, ""]]:
        def loss_of(weights: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], None]:
            rows, network = state.replay.sample(key, self.batch_size), eqx.combine(weights, state.policy.network)
            actor = eqx.tree_at(lambda policy: policy.network, state.policy, network)
            costs = jax.vmap(lambda x: one_step(state.problem, state.value, actor, state.task, x))(rows.states)
            roots = jnp.sqrt(2.0 * jnp.maximum(costs, 0.0) / state.value.scale**2 + 1e-12)
            return mean_of_usable(roots, jnp.broadcast_to(rows.usable[:, None], roots.shape)), None

        found = fit(_weights(state.policy), state.moments[0], self._adam(), loss_of, self.gradient_steps, key)
        network = eqx.combine(found.trained, state.policy.network)
        state = eqx.tree_at(lambda s: (s.policy.network, s.moments[0]), state, (network, found.moments))
        return state, jnp.mean(found.losses)

    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)


def rolled_out(problem: Problem, actor: TimedPolicy, task: Task, start: Float[Array, " nx"]) -> Guess:
    """The actor from `start` through the model, inside the control bounds; a cold start where it leaves the numbers."""

    def follow(x: Array, stage_problem: Problem, inputs: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        stage, low, high = inputs
        u = jnp.clip(actor.act(observation_of(task, x), stage), low, high)
        return stage_problem.dynamics(x, u), u

    box = control_box(problem)
    states, controls = scan_stages(follow, problem, start, (jnp.arange(problem.horizon), box.low, box.high))
    finite = jnp.all(jnp.isfinite(states)) & jnp.all(jnp.isfinite(controls))
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), Guess(states, controls), cold_start(problem, start))


def one_step(
    problem: Problem, value: TimedValue, actor: TimedPolicy, task: Task, states: Float[Array, "nodes nx"]
) -> Float[Array, " N"]:
    """q at the stages 0 … N-1 of a trajectory, differentiable by the actor and the critic."""
    stages, box = jnp.arange(problem.horizon), control_box(problem)
    actions = jax.vmap(lambda x, k: actor.act(observation_of(task, x), k))(states[:-1], stages)
    controls = jnp.clip(actions, box.low, box.high)
    after = map_stages(lambda stage, x, u: stage.dynamics(x, u), problem, states[:-1], controls)
    left = jax.vmap(lambda x, k: value.at(k + 1)(x))(after, stages)
    return step_costs(problem, states, controls, after) + jnp.asarray(problem.discount, left.dtype) * left


def _weights(owner: TimedPolicy | TimedValue) -> PyTree:
    """Of its network."""
    return eqx.filter(owner.network, eqx.is_inexact_array)
