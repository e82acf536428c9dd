r"""
6. Gradients through the closed loop
====================================

If both the world and the planner can be differentiated, so can a whole episode: the return is a function of the
planner's parameters, through every plan along the way, and its gradient says how to change them. This is *first-order
policy search*. It needs few episodes, and it finds out what the planner should believe rather than what is true.
"""

# %%
# A planner that is wrong about everything
# ----------------------------------------
# The task is to bring a mass on a spring to rest. Its planner believes in a heavier, stiffer and better damped body,
# and weighs its states otherwise than the task's reward does.

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import planahead as pa

task = pa.make_task("mass-spring-damper")
best = pa.make_task("mass-spring-damper", matched=True)  # a planner that knows everything
space = pa.ParameterSpace(task.problem, task.learned_parameters)
for name in ("mass", "damping", "stiffness"):
    print(
        f"{name:9} of the planner {getattr(task.problem, name):.2f}, of the world {getattr(task.environment, name):.2f}"
    )

# %%
# The return, as a function of the planner's parameters
# -----------------------------------------------------

starts = jax.vmap(task.environment.reset)(jax.random.split(jax.random.key(0), 16))
test_starts = jax.vmap(task.environment.reset)(jax.random.split(jax.random.key(1), 100))


def mean_return(problem, starts):
    def step(state, _):
        plan = pa.solve(problem, task.planner_state(task.environment.observe(state)))
        transition = task.environment.step(state, plan.controls[0], jax.random.key(0))
        return transition.state, transition.reward

    def episode(state):
        return jax.lax.scan(step, state, length=task.environment.episode_steps)[1].sum()

    return jax.vmap(episode)(starts).mean()


evaluate = jax.jit(lambda problem: mean_return(problem, test_starts))
print(f"as it comes {evaluate(task.problem):.3f}, with the right model and weights {evaluate(best.problem):.3f}")

# %%
# Thirty steps of Adam
# --------------------
# The parameters move in the unit box that their declarations give, so that a mass and a weight take steps of a like
# size.


@jax.jit
def improve(unit, moments):
    def loss(unit):
        return -mean_return(space.insert(task.problem, space.from_unit(jnp.clip(unit, -1, 1))), starts)

    value, slope = jax.value_and_grad(loss)(unit)
    change, moments = optimiser.update(slope, moments)
    return unit + change, moments, -value


optimiser = optax.adam(0.05)
unit = space.to_unit(space.flatten(task.problem))
moments, history = optimiser.init(unit), []
for _ in range(30):
    unit, moments, value = improve(unit, moments)
    history.append(value)
learned = space.insert(task.problem, space.from_unit(jnp.clip(unit, -1, 1)))
gained = (evaluate(learned) - evaluate(task.problem)) / (evaluate(best.problem) - evaluate(task.problem))
print(f"after {30 * 16} episodes: {evaluate(learned):.3f}, {100 * gained:.0f} % of what was to be gained")

figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
axes.plot(history, label="while learning")
axes.axhline(evaluate(best.problem), color="grey", linestyle=":", label="right model and weights")
axes.set(xlabel="step of Adam", ylabel="return")
axes.legend()

# %%
# What it believes now
# --------------------

for name in ("mass", "damping", "stiffness"):
    print(f"{name:9} of the planner {getattr(learned, name):.2f}, of the world {getattr(task.environment, name):.2f}")

# %%
# Not the truth: what makes for good decisions. Weights and model have many combinations with the same plans, and
# nothing asks for the one that predicts best. Where predictions matter, fit them (next page); where a gradient
# through the world is not to be had, ``mpc-dpg`` and ``mpc-q`` learn the same parameters from experience, and
# ``ac-mpc`` and ``sac-fop`` let a network write them anew in every state.
