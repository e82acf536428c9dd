r"""A network learns where a solver should start: regression on the best plans that solves from several guesses find.

    for states x_i ~ U(box):   z_i = the cheapest plan from x_i of the solves from the cold start and R random roll-outs
    min_ψ  mean_i [ (1 - ε) min_h ‖ρ_ψ(x_i)^h - unit z_i‖² + ε mean_h ‖ρ_ψ(x_i)^h - unit z_i‖² ]

With one head that is least squares. With more, each plan teaches the head that is closest to it, and a share ε all of
them, so that none is left behind. A plan counts in units of mean and spread over all plans, stage by stage, so that the
end of a trajectory, of which little is certain, weighs no more than its beginning.

It learns from the better optimum where a cold solve finds the worse one; what is found of the better ones is limited by
R. It fails where plans are no function of the state that the network can represent: beside the line on which two
optima are equally good, and where the box is large for the number of rows.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from planahead.learning.fitting import fit
from planahead.learning.solved_plans import BestPlans, best_plans, cold_and_random
from planahead.planning import SQP, Guess
from planahead.policies import GuessGuide
from planahead.policies.stochastic import mask_of
from planahead.problem import Problem

EPSILON = 0.05
"""ε: a twentieth keeps every head alive."""


class FittedGuide(eqx.Module):
    """A guide, and what it was learned from."""

    guide: GuessGuide
    error: Float[Array, ""]
    """Root mean square of the closest head's error, in units of the spread, over rows that were not learned from."""
    solved: BestPlans


def uniform_states(
    low: Float[Array, " nx"], high: Float[Array, " nx"], rows: int, key: PRNGKeyArray
) -> Float[Array, "rows nx"]:
    """States drawn from a box. **Raises** `ValueError` for a box that is none."""
    low, high = jnp.asarray(low, float), jnp.asarray(high, float)
    if not bool(jnp.all(jnp.isfinite(low) & jnp.isfinite(high) & (low <= high))):
        raise ValueError(f"states are drawn from a box; finite limits were expected, got {low} and {high}")
    return low[None] + (high - low)[None] * jax.random.uniform(key, (rows, low.shape[0]))


def fit_guess_guide(
    problem: Problem,
    low: Float[Array, " nx"],
    high: Float[Array, " nx"],
    key: PRNGKeyArray,
    *,
    planner: SQP = SQP(iterations=30),
    rows: int = 2000,
    random: int = 5,
    heads: int = 2,
    hidden: tuple[int, ...] = (128, 128),
    fit_steps: int = 6000,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
) -> FittedGuide:
    """Solve `problem` from `rows` states between `low` and `high` and 1 + `random` guesses each, and fit a guide.

    A tenth of the rows is kept to judge by. Adam, its step on a cosine that ends at 0.

    **Arguments:**

    - `low`, `high`: the box of the states, in their units.
    - `planner`: what solves.
    - `random`: R, roll-outs of random controls to solve from, beside the cold start.
    - `heads`: H, of the guide.

    **Raises:** `ValueError` for a box that is none, fewer than 20 rows, and where no solve succeeds.
    """
    if rows < 20:
        raise ValueError(f"rows={rows}; at least 20 are needed to learn from some and judge by others")
    drawing, rolling, fitting, start = jax.random.split(key, 4)
    states = uniform_states(low, high, rows, drawing)
    solved = best_plans(problem, states, cold_and_random(problem, states, random, rolling), planner)
    if not bool(jnp.any(solved.usable)):
        raise ValueError(
            f"no solve of {type(problem).__name__} from {rows} states succeeded, so there is no plan to learn from; "
            "allow more iterations, or draw states from a smaller box"
        )
    return fit_guide_to(solved, start, fitting, heads, hidden, fit_steps, batch_size, learning_rate)


def fit_guide_to(
    solved: BestPlans,
    start: PRNGKeyArray,
    fitting: PRNGKeyArray,
    heads: int,
    hidden: tuple[int, ...],
    steps: int,
    batch_size: int,
    learning_rate: float,
) -> FittedGuide:
    """Regression on plans that are there; `start` draws the network, `fitting` its batches."""
    kept = jnp.flatnonzero(solved.usable)
    states, plans = jax.tree.map(lambda leaf: leaf[kept], (solved.states, solved.plans))
    mean: Guess = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), plans)
    spread: Guess = jax.tree.map(lambda leaf: jnp.std(leaf, axis=0) + 1e-3 * (1e-6 + jnp.std(leaf)), plans)
    scale = [float(value) for value in jnp.maximum(jnp.sqrt(jnp.mean(states**2, axis=0)), 1e-3)]
    guide = GuessGuide(scale, mean, spread, heads=heads, hidden=hidden, key=start)
    learned = max(1, (9 * states.shape[0]) // 10)
    trained, fixed = eqx.partition(guide, mask_of(guide, lambda guide: guide.network))
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    @eqx.filter_jit
    def run(trained: PyTree, states: Array, plans: Guess) -> tuple[PyTree, Array]:
        wanted = jax.vmap(guide.unit)(plans)

        def loss_of(trained: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], None]:
            rows = jax.random.randint(key, (batch_size,), 0, learned)
            errors = _errors(eqx.combine(trained, fixed), states[rows], wanted[rows])
            return jnp.mean((1 - EPSILON) * jnp.min(errors, axis=1) + EPSILON * jnp.mean(errors, axis=1)), None

        ended = fit(trained, optimiser.init(trained), optimiser, loss_of, steps, fitting).trained
        judged = jnp.arange(states.shape[0]) >= min(learned, states.shape[0] - 1)
        errors = jnp.min(_errors(eqx.combine(ended, fixed), states, wanted), axis=1)
        return ended, jnp.sqrt(jnp.sum(jnp.where(judged, errors, 0.0)) / jnp.sum(judged))

    ended, error = run(trained, states, plans)
    return FittedGuide(eqx.combine(ended, fixed), error, solved)


def _errors(guide: GuessGuide, states: Array, wanted: Array) -> Float[Array, "rows heads"]:
    """Mean squared errors of all heads."""
    return jnp.mean((jax.vmap(guide.units)(states) - wanted[:, None]) ** 2, axis=2)
