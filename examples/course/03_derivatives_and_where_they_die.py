r"""
3. Derivatives, and where they die
==================================

A plan is a function of everything that the problem holds: the state, the weights, the model, the bounds. planahead
differentiates through it, exactly and without unrolling the solver. This page shows how, and where the derivative of a
perfectly good plan is zero, which is the first thing to know when a planner sits inside a network.
"""

# %%
# Of everything, by ``jax.grad``
# ------------------------------

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import planahead as pa

jax.config.update("jax_enable_x64", True)  # so that finite differences can be believed


class Cart(pa.Problem):
    horizon: int = pa.static(20)
    state_size: int = pa.static(2)  # position (m), velocity (m/s)
    control_size: int = pa.static(1)  # force (N)
    mass: pa.Array = pa.parameter(1.0, low=0.5, high=2.0)  # kg
    target: pa.Array = pa.parameter(0.0, low=-2.0, high=2.0)  # m
    effort: pa.Array = pa.parameter(0.3, low=0.01, high=10.0, scale="log")

    def dynamics(self, x, u):
        return jnp.array([x[0] + 0.1 * x[1], x[1] + 0.1 * u[0] / self.mass])

    def stage_residual(self, x, u):
        return jnp.array([x[0] - self.target, 0.3 * x[1], self.effort * u[0]])

    def control_bounds(self):
        return pa.Bounds(-1.0, 1.0)


def first_force(cart, x):
    return pa.solve(cart, x).controls[0, 0]


start = jnp.array([0.3, 0.0])
slopes, slope_by_state = jax.grad(first_force, argnums=(0, 1))(Cart(), start)
print(f"by mass {slopes.mass:+.4f} N/kg, by target {slopes.target:+.4f} N/m, by effort {slopes.effort:+.4f} N")
print(f"by position {slope_by_state[0]:+.4f} N/m, by velocity {slope_by_state[1]:+.4f} N s/m")

# %%
# The gradient with respect to the problem is a problem: the same class, with a slope in the place of each number. By
# target and by position the slopes are opposite, as they must be, since only their difference matters.
#
# Never believe a derivative that you have not checked, on *your* problem:

print(pa.check_gradient(Cart(), start))

# %%
# Where they die
# --------------
# Move the start away from the target and the first force reaches its bound. From there on it answers to nothing: the
# plan is right, its derivative is zero, and a network that writes the target learns nothing from it.

positions = jnp.linspace(0.0, 1.2, 121)
states = jnp.stack([positions, jnp.zeros_like(positions)], axis=1)


def force_and_slope(planner):
    def force(target, x):
        return pa.solve(Cart(target=target), x, planner=planner).controls[0, 0]

    return jax.vmap(jax.value_and_grad(force), in_axes=(None, 0))(jnp.array(0.0), states)


figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(6.4, 4.6), layout="constrained")
for tau in (None, 1e-3, 1e-2):
    forces, by_target = force_and_slope(pa.SQP(tau=tau))
    above.plot(positions, forces, label="exact" if tau is None else f"tau = {tau:g}")
    below.plot(positions, by_target)
    dead = float((jnp.abs(by_target) < 1e-3).mean())
    print(f"tau = {tau}: the slope is below 0.001 at {100 * dead:.0f} % of the starts")
above.set_ylabel("first force [N]")
below.set(xlabel="start [m]", ylabel="slope by target [N/m]")
above.legend()

# %%
# The interior-point method inside can stop early, at a barrier ``tau`` of your choice, in the plan and in its
# derivative alike. The corner at the bound becomes round, and the slope beyond it is small rather than zero. The
# price is a plan that stays away from its bounds; ``tau`` is in units of cost, and 1e-3 or so is a beginning.

# %%
# Where there is none
# -------------------
# A solve that failed has no derivative. It contributes zero, and the plan says so, so that a learner can count it.

nowhere = jnp.array([jnp.nan, 0.0])
failed = pa.solve(Cart(), nowhere)
print(failed.explain())
print("gradient:", jax.grad(first_force)(Cart(), nowhere).target, " valid:", bool(failed.gradient_valid))

# %%
# For a policy that steers a planner, ``planahead diagnose RUN`` draws where its plans still answer to what the
# network writes, and warns where most of them do not.
