r"""
5. A network that steers a planner
==================================

A planner with a wrong model, or one that looks only a little ahead, need not be thrown away: it can be steered. A
network sees the state and writes the planner's parameters :math:`\varphi`, the planner plans with them, and its first
control acts. To any learning algorithm the pair of world and planner is then just another world, in which the action is
called :math:`\varphi`: a *parameter MDP*. No derivative of the plan is needed, and whatever the network writes, what
reaches the world is a plan that keeps its bounds.
"""

# %%
# A cart-pole whose planner sees a quarter of a second
# ----------------------------------------------------
# That is too short to swing a pole up: the planner by itself pushes the cart against the end of its track. What may
# be written is the angle that it aims at.

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import planahead as pa
from planahead.experiments.episodes import run_episodes

task = pa.make_task("cartpole")
space = pa.ParameterSpace(task.problem, task.learned_parameters)
print(f"{space.size} parameter: {', '.join(space.names)} within [{space.low[0]:.2f}, {space.high[0]:.2f}] rad")

# %%
# Hanging at rest, the same planner pushes left or right, hard or gently, as it is told. One parameter reaches all
# forces that the world takes.

hanging = jnp.array([0.0, jnp.pi, 0.0, 0.0])
angles = jnp.linspace(space.low[0], space.high[0], 201)


@jax.vmap
def force(angle):
    return pa.solve(space.insert(task.problem, angle[None]), hanging).controls[0, 0]


figure, axes = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
axes.plot(angles, force(angles))
axes.set(xlabel="angle that the planner aims at [rad]", ylabel="first force [N]", title="hanging at rest")

# %%
# Learning to steer
# -----------------
# ``sac-zop`` is soft actor–critic on the parameter MDP: *zeroth order*, since nothing is differentiated through the
# planner. Its policy explores in the parameters, and its critic judges parameters. Twelve thousand steps are ten
# minutes of the cart's life, too few to master the swing-up; ``planahead demo`` takes the time that it needs.

key = jax.random.key(0)
policy, learner = pa.make_algorithm("sac-zop", task, key, batch_size=128)
state = learner.init(task, policy, key)
advance = eqx.filter_jit(learner.advance)


def upright(policy):
    """Mean return of 25 episodes, and the longest that a pole stood, in steps of 50 ms."""
    steps = run_episodes(task, policy, jax.random.key(1), 25).steps
    stands = jnp.abs(jnp.arctan2(jnp.sin(steps.state.x[..., 1]), jnp.cos(steps.state.x[..., 1]))) < 0.2
    return (steps.reward * steps.alive).sum(axis=0).mean(), (stands & steps.alive).sum(axis=0).max()


seen, returns = [0], [upright(policy)[0]]
print(f"before: return {returns[0]:.2f}")
while seen[-1] < 12_000:
    state, metrics = advance(state, jax.random.fold_in(key, len(seen)))
    seen.append(seen[-1] + learner.steps_per_chunk)
    if seen[-1] % 2000 == 0:
        value, standing = upright(learner.policy(state))
        print(f"{seen[-1]:6} steps: return {value:5.2f}, upright for at most {standing} of 200 steps")

# %%
# The same world for other libraries
# ----------------------------------
# ``planahead.interop`` offers the parameter MDP as a Gymnasium environment, so that an algorithm that has never heard
# of planning trains one. ``sac-fop`` and ``sac-foa``, which do differentiate through the plan, differ from
# ``sac-zop`` in two switches; the next page shows what a derivative is good for.
