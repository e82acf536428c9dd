r"""
4. A network that imitates a planner
====================================

A plan takes a millisecond; a small network takes microseconds and runs on anything. So let the planner teach it.
The obvious way, *behaviour cloning*, shows the network what the planner does along the planner's own path. The network
errs a little, gets to where the planner never was, and errs more. *DAgger* asks the planner about the places to which
the network itself gets. This page counts what that is worth, per question asked.
"""

# %%
# A task is a world and a planner
# -------------------------------
# In the wind maze a point has to get past a zone of wind that the planner does not know of.

import equinox as eqx
import jax
import matplotlib.pyplot as plt

import planahead as pa
from planahead.experiments.episodes import run_episodes
from planahead.learning import Expert

task = pa.make_task("windmaze-easy")


def success(policy, seed=1):
    """Share of 25 episodes, without exploration, that reach the goal."""
    steps = run_episodes(task, policy, jax.random.key(seed), 25).steps
    return float((steps.success & steps.alive).any(axis=0).mean())


expert = Expert.of(task, iterations=10)
print(f"the planner itself reaches the goal in {100 * success(expert):.0f} % of the episodes")

# %%
# Teaching
# --------
# A learner is two pure functions: ``init`` makes its state, ``advance`` takes a chunk of steps and the updates that
# belong to them. Everything else (progress bars, files, resuming) is the work of ``planahead train``.


def taught(name, questions=4000, seed=0):
    key = jax.random.key(seed)
    policy, learner = pa.make_algorithm(name, task, key)
    state = learner.init(task, policy, key)
    advance = eqx.filter_jit(learner.advance)
    asked, reached = [], []
    for chunk in range(-(-questions // learner.steps_per_chunk)):
        state, _ = advance(state, jax.random.fold_in(key, chunk))
        if (chunk + 1) * learner.steps_per_chunk % 400 < learner.steps_per_chunk:
            asked.append((chunk + 1) * learner.steps_per_chunk)
            reached.append(success(learner.policy(state)))
    return asked, reached


figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for name, label in (("bc", "behaviour cloning"), ("dagger", "DAgger")):
    asked, reached = taught(name)
    axes.plot(asked, reached, marker="o", label=label)
    print(f"{label}: {100 * reached[-1]:.0f} % after {asked[-1]} questions, {100 * max(reached):.0f} % at its best")
axes.set(xlabel="questions asked", ylabel="success", ylim=(-0.03, 1.03))
axes.legend()

# %%
# One seed is an anecdote; ``planahead bench expert`` asks three on three tasks, and the page of its results says what
# they show. There, too, is imitation with the planner's own sensitivities (``bc-sobolev``), and imitation that counts
# an error by what it costs (``q-loss``), rather than by its size.
