r"""
7. A network inside the model
=============================

What physics does not say, data may. A field of a problem can be a neural network; the solver linearises it like
everything else, and its weights are leaves like a mass. Here a pendulum's hinge has a friction that its planner has
never heard of. A small network learns it from twenty swings, and the planner plans with it.
"""

# %%
# The world, and the planner's idea of it
# ---------------------------------------

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import planahead as pa

TIME_STEP = 0.05  # s


def pendulum(x, u):
    """Angle [rad] from hanging and rate [rad/s] of 1 kg on a rod of 1 m without friction."""
    return jnp.array([x[1], u[0] - 9.81 * jnp.sin(x[0])])


def world(x, u):
    """Friction that grips at rest, and a draught."""
    friction = 1.5 * jnp.tanh(4 * x[1]) + 0.3 * x[1] - 0.8
    return pa.rk4(lambda x, u: pendulum(x, u) - jnp.array([0.0, friction]), x, u, TIME_STEP)


class Pendulum(pa.Problem):
    correction: eqx.nn.MLP  # what physics leaves out of the angular acceleration
    horizon: int = pa.static(20)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)  # torque (N m)

    def dynamics(self, x, u):
        def flow(x, u):
            return pendulum(x, u) + jnp.array([0.0, 1.0]) * self.correction(jnp.array([x[1] / 5]))

        return pa.rk4(flow, x, u, TIME_STEP)

    def stage_residual(self, x, u):
        return jnp.array([3 * (x[0] - 1.0), 0.1 * x[1], 0.01 * u[0]])  # hold it at 1 rad

    def control_bounds(self):
        return pa.Bounds(-20.0, 20.0)


network = eqx.nn.MLP(1, 1, 16, 2, activation=jnp.tanh, key=jax.random.key(0))
silent = eqx.tree_at(lambda net: net.layers[-1].weight, network, jnp.zeros_like(network.layers[-1].weight))
silent = eqx.tree_at(lambda net: net.layers[-1].bias, silent, jnp.zeros(1))
problem = Pendulum(silent)

# %%
# Twenty swings
# -------------
# With random torques, each of two seconds. What counts is not one step but where ten lead (*multi-step* loss): a
# model for planning is used by composing it with itself.

key = jax.random.key(1)
torques = 8 * jax.random.normal(key, (20, 40, 1))
first = jax.random.uniform(jax.random.fold_in(key, 1), (20, 2), minval=-2.0, maxval=2.0)


def rollout(model, x, controls):
    return jax.lax.scan(lambda x, u: (model(x, u),) * 2, x, controls)[1]


swings = jax.vmap(lambda x, u: rollout(world, x, u))(first, torques)
pieces = swings[:, :-1].reshape(20, 3, 13, 2)
pieces_torques = torques[:, 1:].reshape(20, 3, 13, 1)


def loss(problem):
    def error(states, controls):
        return jnp.mean((rollout(problem.dynamics, states[0], controls[:10]) - states[1:11]) ** 2)

    return jax.vmap(jax.vmap(error))(pieces, pieces_torques).mean()


optimiser = optax.adam(1e-2)
moments = optimiser.init(eqx.filter(problem, eqx.is_inexact_array))


@eqx.filter_jit
def fit(problem, moments):
    value, slope = eqx.filter_value_and_grad(loss)(problem)
    change, moments = optimiser.update(slope, moments)
    return eqx.apply_updates(problem, change), moments, value


learned = problem
for iteration in range(400):
    learned, moments, value = fit(learned, moments)
    if iteration in (0, 399):
        print(f"error over ten steps after {iteration:3} updates: {value:.5f}")

# %%
# What it has learned
# -------------------

rates = jnp.linspace(-4, 4, 161)
figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
axes.plot(rates, -(1.5 * jnp.tanh(4 * rates) + 0.3 * rates - 0.8), label="the hinge and the draught")
axes.plot(rates, jax.vmap(lambda rate: learned.correction(rate[None] / 5)[0])(rates), "--", label="network")
axes.set(xlabel="rate [rad/s]", ylabel="acceleration that physics leaves out [rad/s²]")
axes.legend()

# %%
# Planning with it
# ----------------
# A plan is as good as what it foresees. Here the first plan of each is carried out to its end, without looking; after
# that each of them drives in a loop, planning anew in every step.


def foreseen(problem):
    plan = pa.solve(problem, jnp.zeros(2))
    return jnp.abs(plan.states[1:, 0] - rollout(world, jnp.zeros(2), plan.controls)[:, 0]).max()


def closed_loop(problem):
    def step(x, _):
        return world(x, pa.solve(problem, x).controls[0]), x

    return jax.lax.scan(step, jnp.zeros(2), length=60)[1]


figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
for shown, label in ((problem, "physics alone"), (learned, "physics and network")):
    angles = closed_loop(shown)[:, 0]
    axes.plot(TIME_STEP * jnp.arange(60), angles, label=label)
    left = abs(angles[-1] - 1)
    print(f"{label}: the plan is wrong by up to {foreseen(shown):.3f} rad; in a loop {left:.3f} rad are left")
axes.axhline(1.0, color="grey", linestyle=":")
axes.set(xlabel="time [s]", ylabel="angle [rad]")
axes.legend()

# %%
# Feedback hides most of what a model does not know, which is why model predictive control works at all; what is left
# is the offset that no amount of replanning removes.
