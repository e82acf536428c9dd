"""How far to go along a step: full steps, or backtracking on an exact penalty along a rollout that closes the gaps.

A trial of length α follows the planned step, corrected by the feedback gains K of the QP's last factorisation, through
the true dynamics:

    u_k(α) = ū_k + α d_{u,k} + K_k (x_k(α) - x̄_k - α d_{x,k})
    x_{k+1}(α) = f(x_k(α), u_k(α)) - (1 - α) (f(x̄_k, ū_k) - x̄_{k+1})

so gaps in the dynamics shrink exactly by 1 - α, full steps end on a true trajectory, and no penalty on the dynamics
holds steps back where they curve. The merit of a trajectory z is

    Φ(z) = φ(z) + prices(h(z)) + μ ‖f(z_k) - x_{k+1}‖₁

with the prices of soft rows as they are, hard rows priced at ρ per unit (the same ρ as in the QP, so the QP's step is a
direction of descent), and μ above the largest costate. A step α d is accepted when

    Φ(z + α d) <= Φ(z) + η α D,     D = ∇φᵀd + prices(h + G d) - prices(h) - μ ‖defects‖₁

D bounds the directional derivative, prices being convex. References: C. Mastalli et al., *Crocoddyl*, ICRA 2020
(gap-closing rollouts); D. Leineweber, PhD thesis, Heidelberg 1999, §3; J. Nocedal, S. Wright, *Numerical Optimization*,
2nd ed., §18.3.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from planahead.qp.lanes import choose
from planahead.qp.newton import row_values, sides
from planahead.qp.types import LaneQP, price_of_violations


class Evaluation(eqx.Module):
    """A trajectory's cost without prices, its defects and its row values, for all lanes."""

    cost: Float[Array, "*B"]
    defects: Float[Array, "N nx *B"]
    rows: Float[Array, "nodes m *B"]


class FullStep(eqx.Module):
    """Always take the whole step: for real-time iterations that start close to the solution."""


class LineSearch(eqx.Module):
    """Full steps as long as they lead home; lanes that they do not bring home start again from the guess, with
    backtracking on the merit above, and where that finds no decrease, full steps are tried from there.

    Full steps between states that need not be connected converge in few iterations where they converge, and pass local
    optima that a sequence of true trajectories would stop at.
    """

    full_steps: int = eqx.field(static=True, default=12)
    """Full steps without progress before a lane starts again; 0 backtracks from the beginning."""
    reduction: float = eqx.field(static=True, default=0.5)
    sufficient_decrease: float = eqx.field(static=True, default=1e-4)
    trials: int = eqx.field(static=True, default=16)
    """Step lengths that are tried; the shortest is `reduction ** (trials - 1)`."""

    def __check_init__(self):
        if not 0 < self.reduction < 1:
            raise ValueError(f"LineSearch(reduction={self.reduction}): the step shrinks by a factor between 0 and 1.")
        if not 0 < self.sufficient_decrease < 1:
            raise ValueError(
                f"LineSearch(sufficient_decrease={self.sufficient_decrease}): a fraction of the predicted decrease, "
                "between 0 and 1, is expected."
            )
        if self.full_steps < 0:
            raise ValueError(f"LineSearch(full_steps={self.full_steps}): at least 0 is expected.")
        if self.trials < 1:
            raise ValueError(f"LineSearch(trials={self.trials}): at least 1 is expected.")


Globalisation = FullStep | LineSearch


def violations(bound: Float[Array, "nodes 2 m B"], rows: Float[Array, "nodes m B"]) -> Float[Array, "nodes 2 m B"]:
    """max(0, b - σ h)."""
    return jnp.maximum(jnp.where(jnp.isfinite(bound), bound, -jnp.inf) - sides(rows), 0.0)


def search(
    settings: LineSearch,
    evaluate: Callable[[Float[Array, "nodes nz B"]], Evaluation],
    advance: Callable[[Float[Array, " B"]], Float[Array, "nodes nz B"]],
    bound: Float[Array, "nodes 2 m B"],
    qp: LaneQP,
    z: Float[Array, "nodes nz B"],
    step: Float[Array, "nodes nz B"],
    weight: Float[Array, " B"],
    searching: Bool[Array, " B"],
) -> tuple[Float[Array, "nodes nz B"], Float[Array, " B"], Bool[Array, " B"]]:
    """The trajectory and step length of every lane, and whether it was accepted.

    `advance(α)` makes the trial, `weight` is μ, and `bound` that of the rows themselves. A lane without an accepted
    trial stays where it is.
    """

    def merit(z):
        value = evaluate(z)
        price = price_of_violations(qp.linear, qp.quadratic, violations(bound, value.rows))
        return value.cost + price + weight * jnp.sum(jnp.abs(value.defects), (0, 1))

    now = merit(z)
    no_rows = jnp.zeros_like(qp.linear)
    price_now = price_of_violations(qp.linear, qp.quadratic, violations(qp.bound, no_rows))
    price_model = price_of_violations(qp.linear, qp.quadratic, violations(qp.bound, row_values(qp, step)))
    slope = jnp.sum(qp.g * step, (0, 1)) + price_model - price_now - weight * jnp.sum(jnp.abs(qp.c), (0, 1))
    # Close to the solution the decrease drowns in rounding; there the full step is the better one.
    rounding = 10 * jnp.finfo(z.dtype).eps * (1 + jnp.abs(now))

    def trial(carry):
        alpha, accepted, reached, k = carry
        candidate = advance(alpha)
        value = merit(candidate)
        fine = value <= now + settings.sufficient_decrease * alpha * jnp.minimum(slope, 0.0) + rounding
        reached = choose(fine & ~accepted, candidate, reached)
        accepted = accepted | fine
        return jnp.where(accepted, alpha, settings.reduction * alpha), accepted, reached, k + 1

    def unfinished(carry):
        return jnp.any(~carry[1]) & (carry[-1] < settings.trials)

    carry = (jnp.ones_like(now), ~searching, z, jnp.zeros((), int))
    alpha, accepted, reached, _ = jax.lax.while_loop(unfinished, trial, carry)
    return reached, jnp.where(accepted, alpha, 0.0), accepted
