r"""
2. Constraints, and what they cost
==================================

Bounds are what sets planning apart from most other ways to control. This page shows hard ones and soft ones, what
happens where they cannot be kept, and the price that every plan puts on them.
"""

# %%
# A speed limit
# -------------
# The cart of the first page, now not to go faster than 0.8 m/s. A bound on a state is hard unless it is given a
# ``Slack``.

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import planahead as pa


class Cart(pa.Problem):
    horizon: int = pa.static(40)
    state_size: int = pa.static(2)  # position (m), velocity (m/s)
    control_size: int = pa.static(1)  # force (N)
    limit: pa.Array = pa.parameter(0.8, low=0.2, high=3.0)  # m/s
    price: float | None = pa.static(None)  # of each m/s beyond the limit in each step; None forbids it

    def dynamics(self, x, u):
        return jnp.array([x[0] + 0.1 * x[1], x[1] + 0.1 * u[0]])

    def stage_residual(self, x, u):
        return jnp.array([x[0], 0.1 * u[0]])

    def control_bounds(self):
        return pa.Bounds(-1.0, 1.0)

    def state_bounds(self):
        slack = None if self.price is None else pa.Slack(linear=self.price)
        return pa.Bounds(jnp.array([-jnp.inf, -self.limit]), jnp.array([jnp.inf, self.limit]), slack=slack)


start = jnp.array([2.0, 0.0])
hard = pa.solve(Cart(), start)
free = pa.solve(Cart(limit=jnp.array(3.0)), start)
print(hard.explain())

# %%
# Every bound has a price
# -----------------------
# The multipliers of a plan say what its bounds cost: by how much the cost would fall if the limit were a little
# wider. They are the derivative that ``jax.grad`` gives, without differentiating anything.

prices = hard.multipliers.state_bounds[:, 0, 1]  # of the lower bound of the velocity, stage by stage
slope = jax.grad(lambda limit: pa.solve(Cart(limit=limit), start).cost)(jnp.array(0.8))
print(f"sum of the multipliers {prices.sum():.4f}, derivative of the cost by the limit {slope:.4f}")

# %%
# Where nothing can be done
# -------------------------
# At 1.5 m/s the cart is above its limit already, and no force of 1 N brings it below in one step. A hard bound has no
# answer to that. The plan comes back all the same, with a status that says so: it never raises, since in a batch of a
# thousand plans one that fails must not stop the others.

fast = jnp.array([2.0, -1.5])
refused = pa.solve(Cart(), fast)
print(refused.explain())

# %%
# A soft bound costs what it is exceeded by. The price need not be guessed: where it is above the multipliers of the
# hard problem, the plan of the soft one is the same wherever the hard one has a plan. This is an *exact penalty*.

for price in (0.1, 1.0, 10.0):
    soft = pa.solve(Cart(price=price), start)
    above = jnp.abs(soft.states[:, 1]).max() - 0.8
    difference = jnp.abs(soft.controls - hard.controls).max()
    print(
        f"price {price:4}: above the limit by {above:7.4f} m/s, forces other than the hard plan's by {difference:.4f} N"
    )
print(f"the largest multiplier of the hard plan: {prices.max():.3f}")

# %%
# And from where there was no plan, there is one: it brakes as hard as it can.

rescued = pa.solve(Cart(price=10.0), fast)
print(rescued.explain())

figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
for plan, label in ((free, "no limit"), (hard, "hard limit"), (rescued, "soft limit, too fast at first")):
    axes.plot(0.1 * jnp.arange(41), plan.states[:, 1], label=label)
axes.axhline(-0.8, color="grey", linestyle=":", zorder=0)
axes.set(xlabel="time [s]", ylabel="velocity [m/s]")
axes.legend()

# %%
# **Which one to take.** Bounds on controls are hard, since an actuator knows no other. Bounds on states are soft,
# with a price above any multiplier that you expect: a disturbance will put the state where no plan keeps the bound,
# sooner or later, and then the softest violation is what you want.
