r"""
10. A quadrotor learns to race
==============================

Everything together: a quadrotor, the seven gates of the *Split-S* track, a planner of two steps inside the policy,
and a network that writes the planner's cost anew in every state (*actor–critic MPC*). It is trained by proximal
policy optimisation, right through the plan. This page trains for half a minute, enough to find the first gate; half
an hour flies the whole track at more than 20 m/s (``planahead bench racing``).
"""

# %%
# The policy
# ----------
# For each step of its plan the network writes how much each state and each command weighs, and where they should go;
# the planner turns that into thrust and body rates that the vehicle can follow.

import equinox as eqx
import jax
import matplotlib.pyplot as plt

import planahead as pa
from planahead.experiments.episodes import run_episodes
from planahead.experiments.flight_figure import draw_flight
from planahead.experiments.trajectory import Trajectory

race = pa.make_task("race-split-s")
practice = pa.make_task("race-split-s", starts="anywhere")  # four starts in five are somewhere on the track
key = jax.random.key(0)
policy, learner = pa.make_algorithm("ac-mpc", practice, key, entropy_weight=0.0, environments=128)
written = pa.ParameterSpace(race.problem, race.learned_parameters).size
print(f"the network writes {written} numbers, for {race.problem.horizon} steps of 20 ms and the end of the plan")

# %%
# Half a minute of training
# -------------------------

state = learner.init(practice, policy, key)
advance = eqx.filter_jit(learner.advance)
chunks = 200_000 // learner.steps_per_chunk
for chunk in range(chunks):
    state, metrics = advance(state, jax.random.fold_in(key, chunk))
    if chunk in (0, chunks // 2, chunks - 1):
        print(f"{(chunk + 1) * learner.steps_per_chunk:7,} steps: return {metrics['return']:.1f}")

# %%
# From the grid
# -------------
# Without exploration, from rest, five metres before the first gate.

episodes = run_episodes(race, learner.policy(state), jax.random.key(1), 25)
flights = [Trajectory.of(episodes, episode) for episode in range(25)]
gates = [int(flight.states.passed[-1]) for flight in flights]
best = max(range(25), key=gates.__getitem__)
print(f"gates passed: {sum(gates) / 25:.1f} on average, {gates[best]} at most; a lap has {len(race.environment.gates)}")

figure, axes = plt.subplots(figsize=(6.4, 5.4), layout="constrained")
draw_flight(axes, race.environment, flights[best].flight, (0, 1))
axes.set_title("the longest flight, from above")

# %%
# From here, ``planahead train ac-mpc race-split-s`` goes on for as long as you like, resumes after an interruption,
# and ``planahead view`` shows the plans in flight. The page on racing has the laps, the limit that optimal control
# sets to them, and the same policies in wind and with the wrong mass.
