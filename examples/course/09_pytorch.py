r"""
9. A planner as a layer in PyTorch
==================================

The planner is JAX, your network may be anything. ``PlanLayer`` is an ``nn.Module``: a batch of states and
parameters goes in, a plan comes out, and ``backward`` reaches everything that it depends on. Here a PyTorch network
looks at how a cart was pushed by somebody else and finds out what that driver was after.
"""

# %%
# Somebody drives
# ---------------
# The driver plans as well, with a target and a dislike of effort that we do not know, both different in each of two
# kinds of weather. We see states, forces and the weather.

import jax.numpy as jnp
import matplotlib.pyplot as plt
import torch

import planahead as pa
from planahead.interop.torch import PlanLayer


class Cart(pa.Problem):
    horizon: int = pa.static(20)
    state_size: int = pa.static(2)  # position (m), velocity (m/s)
    control_size: int = pa.static(1)  # force (N)
    target: pa.Array = pa.parameter(0.0, low=-2.0, high=2.0)  # m
    effort: pa.Array = pa.parameter(1.0, low=0.03, high=30.0, scale="log")

    def dynamics(self, x, u):
        return jnp.array([x[0] + 0.1 * x[1], x[1] + 0.1 * u[0]])

    def stage_residual(self, x, u):
        return jnp.array([x[0] - self.target, 0.3 * x[1], self.effort * u[0]])

    def control_bounds(self):
        return pa.Bounds(-1.0, 1.0)


torch.manual_seed(0)
layer = PlanLayer(Cart())
states = torch.empty(256, 2).uniform_(-1.0, 1.0)
sunny = torch.rand(256, 1) < 0.5
secret = torch.where(sunny, torch.tensor([[0.8, 0.5]]), torch.tensor([[-0.5, 3.0]]))  # target, effort
with torch.no_grad():
    forces = layer(states, parameters=secret).control
print(f"forces from {forces.min():.2f} to {forces.max():.2f} N")

# %%
# Inverse optimal control, end to end
# -----------------------------------
# A network writes the planner's parameters from the weather, the planner plans, and what is compared are forces. The
# gradient goes back through the plan. Starts are warm: each plan begins with the last one for the same state.

network = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2), torch.nn.Tanh())
optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
weather, guess, losses = sunny.float(), None, []
for iteration in range(150):
    plan = layer(states, unit=network(weather), guess=guess)  # unit: within [-1, 1] of the parameters' boxes
    loss = ((plan.control - forces) ** 2)[plan.gradient_valid].mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    guess = plan.guess()
    losses.append(loss.item())
    if iteration in (0, 149):
        failed = int(plan.failed.sum())
        print(f"after {iteration + 1:3} steps: error {loss.item() ** 0.5:.4f} N, {failed} plans failed")

figure, axes = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
axes.semilogy(losses)
axes.set(xlabel="step of Adam", ylabel="mean squared error [N²]")

# %%
# What the driver was after
# -------------------------

with torch.no_grad():
    found = layer.space.from_unit(jnp.asarray(network(torch.tensor([[1.0]]))[0].numpy()))
    gloomy = layer.space.from_unit(jnp.asarray(network(torch.tensor([[0.0]]))[0].numpy()))
print(f"sun:  target {found[0]:+.2f} m (+0.80), effort {found[1]:.2f} (0.50)")
print(f"rain: target {gloomy[0]:+.2f} m (-0.50), effort {gloomy[1]:.2f} (3.00)")

# %%
# The same layer takes a pinned first control (its cost is then Q), gives V alone at half the price (``layer.value``),
# and can own its parameters (``PlanLayer(problem, learn=True)``). Who comes from leap-c finds both calls side by side
# on the page about PyTorch, and there, too, the planner inside Stable-Baselines3.
