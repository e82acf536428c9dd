r"""A warm start: before it learns from rewards, a network learns to do what the default planner does.

    min_θ  E_o[ mean_i (z_i(o; θ) - z⁰_i(o))² ],     z in unit coordinates

    policy that plans    z⁰ = unit φ⁰, the problem's own parameters: the same everywhere, nothing is planned for it
    policy that acts     z⁰ = unit u₀*(x(o), φ⁰), the default planner's action; rows whose plan failed are left out

Targets are held inside of the box, since a network behind tanh says its ends only where it no longer learns. z is the
policy's deterministic proposal, so the width of its noise is left to the learner. The observations are those of warming
up, where half of the environments were driven by the default planner and half by uniform proposals: the first are the
states that a good imitation visits, the others those it has to come back from (S. Ross et al. 2011, "A reduction of
imitation learning and structured prediction to no-regret online learning"), and without them a critic would have seen
one proposal only. For imitation each is planned for once.

The critics know nothing yet, and a policy that follows them forgets: SAC on the chain, at -69 by imitation, was at -662
2,000 environment steps later (seed 100). So a learner goes on with the policy as it is for some time, while the critics
learn what it is worth (`OffPolicy.imitation_hold_steps`). With 10,000 steps of that, the best of 100,000 return -59,
the planner's own; let go at once -96, no better than without imitation, -89 (seeds 0 to 2). The noise stays as wide as
it began: critics that saw less beside the way, σ of 0.1 or 0.018 in place of 1, judged worse when the policy was let go
(-86 to -189 after 32,000 steps in place of -80 and -119; seeds 100 and 101).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from planahead.learning.fitting import fit
from planahead.learning.imitation_losses import distance
from planahead.learning.soft_losses import mean_of_usable
from planahead.planning import SQP, solve
from planahead.policies import StochasticPolicy, plan_failed
from planahead.policies.acting import action_size, first_action
from planahead.policies.stochastic import held_inside
from planahead.tasks import Task

PLANNED_AT_ONCE = 1_024  # a batch that fills every vector of the planner's kernel, in little memory


class Demonstration(eqx.Module):
    """What the default planner proposes."""

    unit: Float[Array, " proposal"]
    """z⁰."""
    usable: Bool[Array, ""]


class Imitated(eqx.Module):
    """A policy after imitation."""

    policy: StochasticPolicy
    loss: Float[Array, ""]
    """Mean squared distance to the demonstrations over the last tenth of the steps, in unit coordinates; NaN where
    there was no imitation."""


def check_demonstrator(policy: StochasticPolicy, task: Task) -> None:
    """**Raises** `ValueError` where nothing demonstrates what `policy` proposes."""
    kind = type(policy).__name__
    if policy.plans and policy.default_unit() is None:
        raise ValueError(
            f"imitation needs the proposal that stands for the default planner, and {kind} names none; give it a "
            "`default_unit()`, or use imitation_steps=0"
        )
    if not policy.plans and (size := action_size(task.problem)) != policy.box.size:
        raise ValueError(
            f"imitation makes the planned action the policy's; a plan of {type(task.problem).__name__} stands for "
            f"{size} actions and {kind} takes {policy.box.size}; use imitation_steps=0"
        )


def demonstrate(policy: StochasticPolicy, task: Task, observation: Float[Array, " observation"]) -> Demonstration:
    """z⁰ at one observation."""
    default = policy.default_unit()
    if default is not None:
        return Demonstration(default, jnp.array(True))
    planner = SQP()
    plan = solve(task.problem, task.planner_state(observation), planner=planner)
    action = policy.box.clip(first_action(task.problem, plan))
    return Demonstration(policy.box.to_unit(action), ~plan_failed(plan, planner))


def half_demonstrated(
    policy: StochasticPolicy,
    task: Task,
    observation: Float[Array, "n observation"],
    uniform: Float[Array, "n proposal"],
) -> Float[Array, "n proposal"]:
    """The default planner's proposals in the first half of the environments, the uniform ones in the others."""
    half = len(observation) // 2
    shown = jax.vmap(lambda seen: demonstrate(policy, task, seen).unit)(observation[:half])
    return uniform.at[:half].set(shown)


def imitate(
    policy: StochasticPolicy,
    task: Task,
    observations: Float[Array, "n observation"],
    optimiser: optax.GradientTransformation,
    steps: int,
    batch_size: int,
    key: PRNGKeyArray,
) -> Imitated:
    """Take `steps` gradient steps towards the default planner. The optimiser's moments are forgotten afterwards."""
    trained, fixed = eqx.partition(policy, policy.trainable())
    demonstrations = jax.lax.map(
        lambda seen: demonstrate(policy, task, seen), observations, batch_size=min(PLANNED_AT_ONCE, len(observations))
    )

    def loss_of(trained: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], None]:
        rows = jax.random.randint(key, (batch_size,), 0, len(observations))
        shown = jax.tree.map(lambda leaf: leaf[rows], demonstrations)
        found = jax.vmap(eqx.combine(trained, fixed).propose)(observations[rows]).unit
        return mean_of_usable(distance(found, held_inside(shown.unit)), shown.usable), None

    fitted = fit(trained, optimiser.init(trained), optimiser, loss_of, steps, key)
    return Imitated(eqx.combine(fitted.trained, fixed), jnp.mean(fitted.losses[-max(1, steps // 10) :]))


def imitate_once(
    due: Bool[Array, ""],
    policy: StochasticPolicy,
    task: Task,
    observations: Float[Array, "n observation"],
    optimiser: optax.GradientTransformation,
    steps: int,
    batch_size: int,
    key: PRNGKeyArray,
) -> Imitated:
    """`imitate` where it is `due`, the policy as it is where not."""
    arrays, rest = eqx.partition(policy, eqx.is_array)

    def imitated() -> tuple[PyTree, Float[Array, ""]]:
        found = imitate(policy, task, observations, optimiser, steps, batch_size, key)
        return eqx.filter(found.policy, eqx.is_array), found.loss

    def untouched() -> tuple[PyTree, Float[Array, ""]]:
        return arrays, jnp.full((), jnp.nan, observations.dtype)

    found, loss = jax.lax.cond(due, imitated, untouched)
    return Imitated(eqx.combine(found, rest), loss)
