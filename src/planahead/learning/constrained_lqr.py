r"""The control step of guided policy search: the best linear-Gaussian controller that stays near a policy.

    min_p  E_p[ Σ_t ℓ_t(x_t, u_t) + ℓ_N(x_N) ]      s.t.  KL(p(τ) ‖ π(τ)) <= ε

    x_{t+1} ~ N(A_t x_t + B_t u_t + d_t, W),     p: u_t ~ N(K_t x_t + k_t, Σ_t),     π likewise

Both trajectory distributions have the same start and dynamics, so that KL is that of the controllers, in closed form:

    KL(p ‖ π) = Σ_t E_{x_t ~ p} KL(N(K_t x + k_t, Σ_t) ‖ N(K^π_t x + k^π_t, Σ^π_t))

For a multiplier η the Lagrangian, divided by η, is the expectation of c̃ = ℓ/η - log π less the entropy of p. Its
minimiser is the LQR backward pass on c̃ with Σ_t = Q_uu⁻¹. KL falls as η grows, and a bisection over ln η meets ε; where
even the smallest η keeps within ε, nothing is constrained and that one is taken.

    symbol  shape                      meaning
    C, c    [N, nz, nz], [N, nz]       ℓ_t = ½ zᵀ C_t z + c_tᵀ z with z = (x, u), convex in u
    P, p    [nx, nx], [nx]             ℓ_N = ½ xᵀ P x + pᵀ x
    W       [nx, nx]                   covariance of what disturbs the state

Reference: S. Levine, P. Abbeel, "Learning neural network policies with guided policy search under unknown dynamics",
2014; W. Montgomery, S. Levine, "Guided policy search via approximate mirror descent", 2016.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

ETA_RANGE = (1e-6, 1e12)
"""Of the bisection: costs between a millionth and 10¹² of a nat."""
HALVINGS = 60
"""Of ln η: its interval of 41 ends below 1e-16, so what is left is rounding."""


class LinearGaussian(eqx.Module):
    """u_t ~ N(K_t x_t + k_t, Σ_t), at one stage or at all."""

    gain: Float[Array, "*N nu nx"]
    offset: Float[Array, "*N nu"]
    covariance: Float[Array, "*N nu nu"]


class LinearQuadratic(eqx.Module):
    """What is controlled, and at what cost."""

    A: Float[Array, "N nx nx"]
    B: Float[Array, "N nx nu"]
    d: Float[Array, "N nx"]
    C: Float[Array, "N nz nz"]
    c: Float[Array, "N nz"]
    P: Float[Array, "nx nx"]
    p: Float[Array, " nx"]
    mean: Float[Array, " nx"]
    """Of the first state."""
    covariance: Float[Array, "nx nx"]
    """Of the first state."""
    noise: Float[Array, "nx nx"]
    """W"""


class Moments(eqx.Module):
    """Of the states that a controller leads to, stages 0…N."""

    mean: Float[Array, "nodes nx"]
    covariance: Float[Array, "nodes nx nx"]


class ControlStep(eqx.Module):
    """The best controller near a policy."""

    controller: LinearGaussian
    eta: Float[Array, ""]
    divergence: Float[Array, ""]
    """KL(p ‖ π), in nats: ε, or less where nothing had to be constrained."""
    constrained: Bool[Array, ""]


def control_step(world: LinearQuadratic, policy: LinearGaussian, bound: Float[Array, ""]) -> ControlStep:
    """The control step within `bound` = ε of `policy`.

    >>> one = jnp.ones((1, 1, 1))
    >>> world = LinearQuadratic(one, one, one[0], jnp.eye(2)[None], jnp.zeros((1, 2)), one[0], jnp.zeros(1),
    ...                         jnp.ones(1), one[0], one[0])
    >>> found = control_step(world, LinearGaussian(one, one[0], one), jnp.array(0.1))
    >>> print(f"{found.divergence:.4f}", bool(found.constrained))
    0.1000 True
    """
    low, high = jnp.log(jnp.asarray(ETA_RANGE))

    def at(log_eta: Float[Array, ""]) -> tuple[LinearGaussian, Float[Array, ""]]:
        controller = soft_lqr(world, policy, jnp.exp(log_eta))
        return controller, divergence(controller, policy, moments(world, controller))

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        near = at(middle)[1] <= bound
        return jnp.where(near, low, middle), jnp.where(near, middle, high)

    free = at(low)[1] <= bound
    _, end = jax.lax.fori_loop(0, HALVINGS, halve, (low, high))
    log_eta = jnp.where(free, low, end)
    controller, apart = at(log_eta)
    return ControlStep(controller, jnp.exp(log_eta), apart, ~free)


def soft_lqr(world: LinearQuadratic, policy: LinearGaussian, eta: Float[Array, ""]) -> LinearGaussian:
    """The minimiser of E[ℓ/η - log π] - H(p), by one backward pass."""
    nx = world.mean.shape[0]

    def back(value: tuple[Array, Array], stage: tuple[Array, ...]):
        V, v = value
        A, B, d, C, c, gain, offset, covariance = stage
        # -log π = ½ (u - K x - k)ᵀ Σ⁻¹ (u - K x - k) + constant, with u - K x = E z.
        E = jnp.concatenate([-gain, jnp.eye(gain.shape[0], dtype=gain.dtype)], axis=1)
        precise = jnp.linalg.solve(covariance, E)
        F = jnp.concatenate([A, B], axis=1)
        Q = C / eta + E.T @ precise + F.T @ V @ F
        q = c / eta - precise.T @ offset + F.T @ (V @ d + v)
        Q_uu, Q_ux, q_u = Q[nx:, nx:], Q[nx:, :nx], q[nx:]
        K, k = -jnp.linalg.solve(Q_uu, Q_ux), -jnp.linalg.solve(Q_uu, q_u)
        V = Q[:nx, :nx] + Q_ux.T @ K
        v = q[:nx] + Q_ux.T @ k
        return (0.5 * (V + V.T), v), LinearGaussian(K, k, jnp.linalg.inv(0.5 * (Q_uu + Q_uu.T)))

    stages = (world.A, world.B, world.d, world.C, world.c, policy.gain, policy.offset, policy.covariance)
    return jax.lax.scan(back, (world.P / eta, world.p / eta), stages, reverse=True)[1]


def moments(world: LinearQuadratic, controller: LinearGaussian) -> Moments:
    """Of the states under `controller`."""

    def forward(state: tuple[Array, Array], stage: tuple[Array, ...]):
        mean, covariance = state
        A, B, d, gain, offset, spread = stage
        closed = A + B @ gain
        after = closed @ mean + B @ offset + d, closed @ covariance @ closed.T + B @ spread @ B.T + world.noise
        return after, state

    stages = (world.A, world.B, world.d, controller.gain, controller.offset, controller.covariance)
    last, states = jax.lax.scan(forward, (world.mean, world.covariance), stages)
    whole = [jnp.concatenate([first, end[None]]) for first, end in zip(states, last, strict=True)]
    return Moments(*whole)


def divergence(p: LinearGaussian, q: LinearGaussian, states: Moments) -> Float[Array, ""]:
    """KL(p ‖ q) of the trajectories in nats, `states` being those under p."""

    def stage(p: LinearGaussian, q: LinearGaussian, mean: Array, covariance: Array) -> Float[Array, ""]:
        gain, offset = p.gain - q.gain, p.offset - q.offset
        apart = gain @ mean + offset
        second = p.covariance + jnp.outer(apart, apart) + gain @ covariance @ gain.T
        trace = jnp.trace(jnp.linalg.solve(q.covariance, second))
        logs = jnp.linalg.slogdet(q.covariance)[1] - jnp.linalg.slogdet(p.covariance)[1]
        return 0.5 * (trace - apart.shape[0] + logs)

    return jnp.sum(jax.vmap(stage)(p, q, states.mean[:-1], states.covariance[:-1]))


def expected_cost(world: LinearQuadratic, controller: LinearGaussian) -> Float[Array, ""]:
    """E_p[Σ ℓ], to be minimised."""
    states = moments(world, controller)

    def stage(C: Array, c: Array, p: LinearGaussian, mean: Array, covariance: Array) -> Float[Array, ""]:
        z = jnp.concatenate([mean, p.gain @ mean + p.offset])
        E = jnp.concatenate([jnp.eye(mean.shape[0], dtype=mean.dtype), p.gain])
        spread = jax.scipy.linalg.block_diag(jnp.zeros_like(covariance), p.covariance) + E @ covariance @ E.T
        return 0.5 * (z @ C @ z + jnp.trace(C @ spread)) + c @ z

    costs = jax.vmap(stage)(world.C, world.c, controller, states.mean[:-1], states.covariance[:-1])
    mean, covariance = states.mean[-1], states.covariance[-1]
    return jnp.sum(costs) + 0.5 * (mean @ world.P @ mean + jnp.trace(world.P @ covariance)) + world.p @ mean
