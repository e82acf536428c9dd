r"""
1. A first plan
===============

A cart of 1 kg stands 2 m to the right of where it should be. We may push it with at most 1 N, and would like it at the
origin, at rest, soon and without wasting force. *Model predictive control* answers by planning: of all the ways to push
over the next four seconds, find the best according to a model.
"""

# %%
# The problem is a class
# ----------------------
# What the cart does, what we would like, and what we may do are methods, written for one step in time. Numbers that
# we may want to change later, or to learn, are fields.

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import planahead as pa


class Cart(pa.Problem):
    horizon: int = pa.static(40)
    state_size: int = pa.static(2)  # position (m), velocity (m/s)
    control_size: int = pa.static(1)  # force (N)
    mass: pa.Array = pa.parameter(1.0, low=0.5, high=2.0)  # kg
    effort: pa.Array = pa.parameter(0.1, low=0.01, high=10.0, scale="log")  # what a newton costs, beside a metre

    def dynamics(self, x, u):
        position, velocity = x
        return jnp.array([position + 0.1 * velocity, velocity + 0.1 * u[0] / self.mass])

    def stage_residual(self, x, u):
        return jnp.array([x[0], 0.3 * x[1], self.effort * u[0]])  # half the sum of their squares is the cost

    def control_bounds(self):
        return pa.Bounds(-1.0, 1.0)


# %%
# Solving it
# ----------

start = jnp.array([2.0, 0.0])
plan = pa.solve(Cart(), start)
print(plan.explain())

# %%
# A plan holds everything at once: states, controls, cost, and how it was found. The force is at its bound first one
# way and then the other, as anyone would drive who is in a hurry.


def draw(plans, labels):
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(6.4, 4.4), layout="constrained")
    for shown, label in zip(plans, labels, strict=True):
        seconds = 0.1 * jnp.arange(shown.states.shape[0])
        above.plot(seconds, shown.states[:, 0], label=label)
        below.step(seconds[:-1], shown.controls[:, 0], where="post")
    above.set_ylabel("position [m]")
    below.set_ylabel("force [N]")
    below.set_xlabel("time [s]")
    above.legend()
    return figure


draw([plan], ["planned"])

# %%
# Another problem is another value
# --------------------------------
# A heavier cart, or one whose driver is paid by the newton, is the same class with other numbers.

calm = pa.solve(Cart(effort=jnp.array(2.0)), start)
heavy = pa.solve(Cart(mass=jnp.array(2.0)), start)
draw([plan, calm, heavy], ["planned", "force is dear", "2 kg"])

# %%
# Many at once
# ------------
# ``jax.vmap`` turns one solve into a batch. The batch is not a loop: problems share the lanes of the processor's
# vectors, which is what makes learning with a planner inside affordable.

starts = jnp.stack(jnp.meshgrid(jnp.linspace(-2, 2, 25), jnp.linspace(-1.5, 1.5, 25)), axis=-1).reshape(-1, 2)
plans = jax.vmap(pa.solve, in_axes=(None, 0))(Cart(), starts)
print(plans.explain())

figure, axes = plt.subplots(figsize=(5.4, 4.2), layout="constrained")
filled = axes.contourf(*starts.reshape(25, 25, 2).transpose(2, 0, 1), plans.controls[:, 0, 0].reshape(25, 25), 20)
axes.set(xlabel="position [m]", ylabel="velocity [m/s]", title="the first force of the plan [N]")
figure.colorbar(filled)

# %%
# Closing the loop
# ----------------
# A plan is a promise by a model, and worlds keep no promises. So only its first force is applied, and a tenth of a
# second later one plans anew: that is model predictive control. Here the true cart is 50 % heavier than the model,
# and the floor is not level.


def world(x, u):
    return Cart(mass=jnp.array(1.5)).dynamics(x, u) + jnp.array([0.0, -0.01])


def step(x, _):
    force = pa.solve(Cart(), x).controls[0]
    return world(x, force), x


_, driven = jax.lax.scan(step, start, length=80)
print(f"after 8 s the cart is at {driven[-1, 0]:.3f} m, where its plan of the first moment knew nothing of the slope")

# %%
# It settles a little beside the origin, since nobody told the planner of the slope. Learning such things is what the
# rest of this course is about.
