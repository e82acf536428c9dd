r"""A network learns what it costs to compute less: regression on measured regrets (`policies/adaptive.py`).

    in the world, options taken by chance:  ξ_t, u_t,j for all options j,   R_t,j = Q(x_t, u_t,j) - min_i Q(x_t, u_t,i)
    unit = the median of the regrets that are not zero
    min_ψ  Σ_t Σ_j w_t,j (network_ψ(ξ_t)_j - log(1 + R_t,j / unit))²

w leaves out what was not possible, and steps in which a solve failed. Options are taken by chance, so that plans of
every age and state of decay are seen, and so is what a bad choice leads to. One step costs a solve of every problem and
one of the longest for every option's Q.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from planahead.learning.fitting import fit
from planahead.learning.rollout import Lanes, start_lanes, step_lanes
from planahead.planning import Plan, solve
from planahead.policies import plan_failed
from planahead.policies.adaptive import AdaptivePlanner, InUse
from planahead.policies.network import Network
from planahead.policies.stochastic import mask_of
from planahead.tasks import Task


class Measured(eqx.Module):
    """What every option would have cost."""

    features: Float[Array, "*rows features"]
    regrets: Float[Array, "*rows options"]
    usable: Bool[Array, "*rows options"]


class FittedAdaptive(eqx.Module):
    """A policy, and what it was learned from."""

    policy: AdaptivePlanner
    error: Float[Array, ""]
    """Root mean square, in log(1 + R / unit), over rows that were not learned from."""
    spread: Float[Array, ""]
    """The same of the best constant: what is there to be known."""
    measured: Measured


def fit_adaptive_planner(
    task: Task,
    policy: AdaptivePlanner,
    key: PRNGKeyArray,
    *,
    lanes: int = 32,
    steps: int = 60,
    fit_steps: int = 4000,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
) -> FittedAdaptive:
    """Measure regrets over `steps` steps of `lanes` worlds, and fit the policy's network to them. A tenth of the
    worlds, one at least, is kept to judge by. Adam, its step on a cosine that ends at 0.

    **Raises:** `ValueError` for fewer than two worlds, and where all regrets are zero or no solve succeeds, of all
    worlds or of those that are kept.
    """
    if lanes < 2:
        raise ValueError(f"lanes={lanes}; at least two worlds are needed to learn from one and judge by another")
    measuring, fitting, start = jax.random.split(key, 3)
    found, kept = measure(task, policy, measuring, lanes, steps), max(1, lanes // 10)
    return fit_regrets(policy, found, start, fitting, fit_steps, batch_size, learning_rate, kept * steps)


@eqx.filter_jit
def measure(task: Task, policy: AdaptivePlanner, key: PRNGKeyArray, lanes: int, steps: int) -> Measured:
    """Regrets in `lanes` worlds side by side; rows are ordered world by world."""
    begin, walk = jax.random.split(key)
    number = len(policy.problems) + 1

    def ask(observation: Array, memory: InUse, key: PRNGKeyArray):
        state, possible = policy.planner_state(observation), policy.possible(memory)
        plans = [policy.planned(option, state, memory) for option in range(number)]
        together: Plan = jax.tree.map(lambda *leaves: jnp.stack(leaves), *plans)
        row = _row(policy, state, memory, together, possible)
        option = jax.random.categorical(key, jnp.where(possible, 0.0, -jnp.inf))
        return policy.followed(jax.tree.map(lambda leaf: leaf[option], together), option, memory), row

    def step(now: Lanes, key: PRNGKeyArray) -> tuple[Lanes, Measured]:
        choose, world = jax.random.split(key)
        decision, rows = jax.vmap(ask)(now.observation, now.memory, jax.random.split(choose, lanes))
        after, _, _ = step_lanes(
            task.environment,
            now,
            decision.action,
            jnp.asarray(decision.failed),
            decision.memory,
            policy.initial_memory(),
            world,
        )
        return after, rows

    first = start_lanes(task.environment, lanes, policy.initial_memory(), begin)
    _, rows = jax.lax.scan(step, first, jax.random.split(walk, steps))
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1).reshape(lanes * steps, *leaf.shape[2:]), rows)


def _row(
    policy: AdaptivePlanner, state: Float[Array, " nx"], memory: InUse, plans: Plan, possible: Bool[Array, " options"]
) -> Measured:
    """What the options, whose `plans` have them in their leading axis, would cost at one state."""
    longest = policy.problems[-1]
    guess = jax.tree.map(lambda leaf: leaf[-1], plans).guess()
    judged: Plan = jax.vmap(lambda u: solve(longest, state, u, guess=guess, planner=policy.planner))(
        plans.controls[:, 0]
    )
    fresh = jnp.arange(possible.shape[0]) > 0
    good = possible & ~plan_failed(judged, policy.planner) & ~(fresh & plan_failed(plans, policy.planner))
    costs = jnp.where(good, judged.cost, jnp.inf)
    least = jnp.min(costs)
    usable = good & jnp.isfinite(least)
    return Measured(policy.features(state, memory), jnp.where(usable, costs - least, 0.0), usable)


def fit_regrets(
    policy: AdaptivePlanner,
    measured: Measured,
    start: PRNGKeyArray,
    fitting: PRNGKeyArray,
    steps: int,
    batch_size: int,
    learning_rate: float,
    kept: int,
) -> FittedAdaptive:
    """Regression on regrets that are there, all rows but the last `kept`; `start` draws the network, `fitting` its
    batches."""
    positive = measured.regrets[measured.usable & (measured.regrets > 0)]
    if positive.size == 0:
        raise ValueError(
            "no option ever cost more than another (or no solve succeeded), so there is nothing to be decided; compare "
            "other horizons, or a world with disturbances"
        )
    unit, rows = jnp.median(positive), measured.features.shape[0]
    learned = rows - kept
    if not bool(jnp.any(measured.usable[learned:])):
        raise ValueError(
            f"no solve succeeded in the {kept} steps that are kept to judge by; measure more worlds (`lanes`) or steps"
        )
    scale = jnp.maximum(jnp.sqrt(jnp.mean(measured.features**2, axis=0)), 1e-6)
    network = Network(
        [float(value) for value in scale],
        measured.regrets.shape[1],
        hidden=policy.network.hidden,
        last_gain=0.1,
        key=start,
    )
    policy = eqx.tree_at(lambda policy: (policy.network, policy.unit), policy, (network, unit))
    wanted = jnp.log1p(measured.regrets / unit)
    trained, fixed = eqx.partition(policy, mask_of(policy, lambda policy: policy.network))
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    @eqx.filter_jit
    def run(trained: PyTree, measured: Measured, wanted: Array) -> tuple[PyTree, Array, Array]:
        def squares(network: Network, which: Array) -> Array:
            error = jax.vmap(network)(measured.features[which]) - wanted[which]
            return jnp.where(measured.usable[which], error, 0.0) ** 2

        def loss_of(trained: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], None]:
            which = jax.random.randint(key, (batch_size,), 0, learned)
            return jnp.mean(squares(eqx.combine(trained, fixed).network, which)), None

        ended = fit(trained, optimiser.init(trained), optimiser, loss_of, steps, fitting).trained
        judged = jnp.arange(learned, rows)
        known = jnp.sum(measured.usable[judged])
        found = jnp.sum(squares(eqx.combine(ended, fixed).network, judged))
        mean = jnp.sum(jnp.where(measured.usable, wanted, 0.0), axis=0) / jnp.maximum(jnp.sum(measured.usable, 0), 1)
        plain = jnp.sum(jnp.where(measured.usable[judged], wanted[judged] - mean[None], 0.0) ** 2)
        return ended, jnp.sqrt(found / known), jnp.sqrt(plain / known)

    ended, error, spread = run(trained, measured, wanted)
    return FittedAdaptive(eqx.combine(ended, fixed), error, spread, measured)
