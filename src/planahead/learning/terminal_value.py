r"""What an actor's way of going on costs, as a value that a planner can end in.

    V^π(x) = Σ_{k<T} γ^k (ℓ(x_k, π(o(x_k))) + ½‖r‖² + γ p(x_{k+1}))        x_0 = x, by the problem's own model and costs
    V_ψ(x) = ½ c² ‖ρ_ψ(o(x))‖²                                            fitted: min_ψ E[(‖ρ_ψ‖ - √(2 V^π) / c)²]

    symbol   shape  meaning
    p        []     prices of the limits that a state violates; ½‖r‖² and ℓ: the problem's stage costs
    ρ_ψ      [m]    a network with smooth activations: the value is a sum of squares, so that its Gauss-Newton Hessian
                    is never indefinite, and there are second derivatives where they are asked for
    c        []     root mean square of √(2 V^π): roots, since costs to go span decades from a start to the goal

States of all sorts have to be known, for a planner seeks out those at which V_ψ is too low: half of them come from
episodes in the world in which the actor leaves its way with probability `stray` a step, for a uniform action held for
some steps, half from episodes of such actions alone. From each of them the actor goes on for T steps without noise, by
the model. Those from where that does not cost a finite amount, or a negative one, are left out. Where the actor is lost
costs grow without bound, and a fit to them would know nothing else: roots above `ceiling` medians count as that much,
which is bad enough to be avoided.

A critic of rewards is a value too, where its rewards are the problem's costs: `CriticValue`, with

    V(x) = -min_i Q_i(o, π(o)) / c,        c = `Task.reward_per_cost`

It is for those who train one with that in mind: rewards of most tasks are not what their planners minimise, SAC's
critic counts the entropy too, and networks of rectifiers have no curvature.

Reference: fitted policy evaluation by roll-outs (D. P. Bertsekas, *Reinforcement Learning and Optimal Control*, 2019,
section 4.6); what the value is for: `problem/terminal_value.py`. It fails where the model is wrong for long.
"""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from planahead.learning.critics import TwinCritic
from planahead.learning.fitting import fit
from planahead.learning.rollout import Lanes, start_lanes, step_lanes
from planahead.learning.solved_plans import HELD
from planahead.planning import judged
from planahead.planning.plan import Guess
from planahead.planning.transcription import control_box
from planahead.policies import Network, Policy, StochasticPolicy, check_observed
from planahead.problem import Problem, TerminalValue, stages_only
from planahead.tasks import Task


@final
class SquaredValue(TerminalValue):
    """½ c² ‖ρ_ψ(o(x))‖²."""

    network: Network
    scale: Float[Array, ""]
    """c."""
    task: Task

    @property
    def squares(self) -> bool:
        return True

    def residual(self, x: Float[Array, " nx"]) -> Float[Array, " m"]:
        return self.scale * self.network(observation_of(self.task, x))


@final
class CriticValue(TerminalValue):
    """-min_i Q_i(o, π(o)) / c.

    >>> import planahead as pa
    >>> task = pa.make_task("mass-spring-damper", matched=True)
    >>> policy, _ = pa.make_algorithm("sac", task, jax.random.key(0))
    >>> critic = TwinCritic(task.environment.observation_scale, 1, key=jax.random.key(1))
    >>> bool(jnp.isfinite(CriticValue.of(task, policy, critic)(jnp.zeros(2))))
    True
    """

    actor: StochasticPolicy
    critic: TwinCritic
    task: Task
    reward_per_cost: float = eqx.field(static=True)

    @classmethod
    def of(
        cls, task: Task, actor: StochasticPolicy, critic: TwinCritic, reward_per_cost: float | None = None
    ) -> "CriticValue":
        """**Raises** `ValueError` where nobody says what a unit of cost is worth in reward."""
        check_observed(task)
        declared = task.reward_per_cost() if reward_per_cost is None else reward_per_cost
        if declared is None:
            raise ValueError(
                f"the cost of {type(task.problem).__name__} is no multiple of what task '{task.name}' rewards, as far "
                "as it says (`Task.reward_per_cost`), so a critic of rewards is no cost to go; give reward_per_cost, "
                "or fit the actor's cost to go (`fit_terminal_value`)"
            )
        return cls(actor, critic, task, declared)

    @property
    def squares(self) -> bool:
        return False

    def cost(self, x: Float[Array, " nx"]) -> Float[Array, ""]:
        seen = observation_of(self.task, x)
        point = self.actor.box.to_unit(self.actor.box.clip(self.actor.decide(seen).action))
        return -jnp.min(self.critic(seen[None], point[None])) / self.reward_per_cost


class FittedValue(eqx.Module):
    """A value, and how well it is known."""

    value: SquaredValue
    error: Float[Array, ""]
    """Root mean square of ‖ρ_ψ‖ - √(2 V^π) / c, below the ceiling, over states that were not learned from."""
    left_out: Float[Array, ""]
    """Share of the states from which the actor's cost is no number."""


class Evaluated(eqx.Module):
    """States, and what the actor costs from there."""

    states: Float[Array, "rows nx"]
    costs: Float[Array, " rows"]
    usable: Bool[Array, " rows"]


def fit_terminal_value(
    task: Task,
    problem: Problem,
    actor: Policy,
    key: PRNGKeyArray,
    *,
    states: int = 24_000,
    steps_ahead: int = 150,
    stray: float = 0.05,
    ceiling: float = 10.0,
    fit_steps: int = 12_000,
    hidden: tuple[int, ...] = (128, 128),
    residuals: int = 8,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
) -> FittedValue:
    """The cost to go of `actor` by the model and the costs of `problem`.

    The defaults take half a minute on a core. A planner looks for what is wrong with a value, and the more so the
    longer it looks: how far it can be relied on is to be measured in the closed loop (`bench actor-in-loop`), not by
    the error of the fit alone.

    **Arguments:**

    - `states`: from which the actor goes on, a tenth of them kept to judge by.
    - `steps_ahead`: T; what is paid later does not count.
    - `stray`: how likely an episode leaves the actor's way at a step.
    - `ceiling`: of √(2 V^π), in medians.
    - `fit_steps`, `batch_size`, `learning_rate`: of Adam, with a cosine that ends at 0.
    - `hidden`, `residuals`: sizes of ρ_ψ.

    **Raises:** `ValueError` for a task that cannot tell what is observed in a planner's state, an actor that remembers,
    a problem whose controls are not the actions, numbers out of range, and costs to go that are none (negative, or
    nowhere a number).
    """
    check_observed(task)
    counts = {"states": states, "steps_ahead": steps_ahead, "fit_steps": fit_steps, "batch_size": batch_size}
    for name, number in (counts | {"residuals": residuals}).items():
        if number < (least := 2 if name == "states" else 1):
            raise ValueError(f"{name}={number}; at least {least} was expected")
    if not 0.0 <= stray <= 1.0 or not ceiling > 0.0 or not learning_rate > 0.0:
        raise ValueError(
            f"stray={stray}, ceiling={ceiling}, learning_rate={learning_rate}; a probability and two positive numbers "
            "were expected"
        )
    if actor.initial_memory() is not None:
        raise ValueError(f"{type(actor).__name__} remembers from step to step; a value is of what is observed alone")
    visiting, fitting, start = jax.random.split(key, 3)
    visited = visit(task, actor, visiting, states, stray)
    found = evaluate_actor(task, problem, actor, visited, steps_ahead)
    if not bool(jnp.any(found.usable)):
        raise ValueError(
            f"from none of {states} states does it cost a finite amount, or one that is not negative, to go on with "
            f"{type(actor).__name__} for {steps_ahead} steps; a value of squares has nothing to be fitted to"
        )
    return _fitted(task, found, ceiling, fitting, start, fit_steps, hidden, residuals, batch_size, learning_rate)


@eqx.filter_jit
def visit(task: Task, actor: Policy, key: PRNGKeyArray, states: int, stray: float) -> Float[Array, "states nx"]:
    """States of episodes in the world, in every second of which all actions are uniform."""
    world, box = task.environment, task.action_box
    lanes = max(2, -(-2 * states // world.episode_steps))
    begin, walk, pick = jax.random.split(key, 3)
    uniform = jnp.arange(lanes) % 2 == 1

    def act(observation: Array, held: Array, left: Array, key: PRNGKeyArray) -> Array:
        fresh = box.from_unit(jax.random.uniform(key, (box.size,), minval=-1.0, maxval=1.0))
        return jnp.where(left == HELD, fresh, jnp.where(left > 0, held, box.clip(actor.decide(observation).action)))

    def step(carry: tuple[Lanes, Array, Array], key: PRNGKeyArray):
        around, held, left = carry
        draw, leave, move = jax.random.split(key, 3)
        strays = uniform | (jax.random.uniform(leave, (lanes,)) < stray)
        left = jnp.where((left <= 0) & strays, HELD, left)
        action = jax.vmap(act)(around.observation, held, left, jax.random.split(draw, lanes))
        after = step_lanes(world, around, action, jnp.zeros(lanes, bool), None, None, move)
        return (after.lanes, action, left - 1), after.transition.observation

    first = start_lanes(world, lanes, None, begin)
    carry = first, jnp.zeros((lanes, box.size)), jnp.zeros(lanes, int)
    seen = jax.lax.scan(step, carry, jax.random.split(walk, world.episode_steps))[1]
    seen = jnp.reshape(jnp.concatenate([first.observation[None], seen]), (-1, world.observation_size))
    return jax.vmap(task.planner_state)(seen[jax.random.permutation(pick, len(seen))[:states]])


@eqx.filter_jit
def evaluate_actor(
    task: Task, problem: Problem, actor: Policy, states: Float[Array, "rows nx"], steps_ahead: int
) -> Evaluated:
    """V^π from each of the states.

    **Raises:** `ValueError` for a problem that plans in other terms than its plant is commanded in, and for one with
    parameters per stage.
    """
    if not problem.plans_actions:
        raise ValueError(
            f"an actor's actions are the controls of {type(problem).__name__} here, and it plans in other terms than "
            "its plant is commanded in (`action`), so that its model cannot follow the actor; plan in the plant's "
            "actions"
        )
    ahead = stages_only(problem, steps_ahead)
    box, reach = task.action_box, control_box(problem)

    def one(state: Array) -> Array:
        def follow(x: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
            u = jnp.clip(box.clip(actor.decide(observation_of(task, x)).action), reach.low[0], reach.high[0])
            return problem.dynamics(x, u), (x, u)

        last, (before, controls) = jax.lax.scan(follow, state, None, length=steps_ahead)
        paid = judged(ahead, Guess(jnp.concatenate([before, last[None]]), controls)).cost
        return paid - problem.initial_cost(state)  # of the state in which a plan starts, not of that in which it ends

    costs = jax.lax.map(one, states, batch_size=1024)
    usable = jnp.isfinite(costs) & (costs >= 0)
    return Evaluated(states, jnp.where(usable, costs, 0.0), usable)


@eqx.filter_jit
def _fitted(
    task: Task,
    found: Evaluated,
    ceiling: float,
    key: PRNGKeyArray,
    start: PRNGKeyArray,
    steps: int,
    hidden: tuple[int, ...],
    residuals: int,
    batch_size: int,
    learning_rate: float,
) -> FittedValue:
    roots = jnp.sqrt(2.0 * found.costs)
    middle = jnp.nanmedian(jnp.where(found.usable & (roots > 0), roots, jnp.nan))
    roots = jnp.minimum(roots, jnp.where(jnp.isfinite(middle), ceiling * middle, jnp.inf))
    weights = found.usable.astype(roots.dtype)
    scale = jnp.sqrt(jnp.sum(weights * roots**2) / jnp.maximum(jnp.sum(weights), 1.0))
    scale = jnp.where(scale > 0, scale, 1.0)
    targets, observations = roots / scale, jax.vmap(lambda x: observation_of(task, x))(found.states)
    kept = max(1, len(targets) // 10)
    sizes = task.environment.observation_scale
    network = Network(sizes, residuals, hidden=hidden, last_gain=1.0, activation="tanh", key=start)
    trained, fixed = eqx.partition(network, eqx.is_inexact_array)

    def misses(trained: PyTree, observations: Array, targets: Array, weights: Array) -> Float[Array, ""]:
        outputs = jax.vmap(eqx.combine(trained, fixed))(observations)
        lengths = jnp.sqrt(jnp.sum(outputs**2, axis=1) + 1e-12)  # with a slope at 0 too
        return jnp.sum(weights * (lengths - targets) ** 2) / jnp.maximum(jnp.sum(weights), 1.0)

    def loss_of(trained: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], Any]:
        rows = jax.random.randint(key, (batch_size,), kept, len(targets))
        return misses(trained, observations[rows], targets[rows], weights[rows]), None

    adam = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    fitted = fit(trained, adam.init(trained), adam, loss_of, steps, key)
    error = jnp.sqrt(misses(fitted.trained, observations[:kept], targets[:kept], weights[:kept]))
    value = SquaredValue(eqx.combine(fitted.trained, fixed), scale, task)
    return FittedValue(value, error, jnp.mean(~found.usable, dtype=roots.dtype))


def observation_of(task: Task, x: Float[Array, " nx"]) -> Float[Array, " observation"]:
    """What is observed in a planner's state, wherever it was foreseen."""
    seen = task.observed(jnp.zeros(task.environment.observation_size), x)
    assert seen is not None  # `check_observed` refuses a task that cannot tell
    return seen
