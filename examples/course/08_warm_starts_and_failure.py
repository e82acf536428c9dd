r"""
8. Warm starts, local optima, and failure
=========================================

A planner that runs in a loop solves nearly the same problem again and again, and should not begin from nothing each
time. But where it begins also decides *which* plan it finds, and sometimes whether it finds any.
"""

# %%
# A warm start is data
# --------------------
# ``plan.shift()`` is the last plan one step later. Nothing is remembered between calls; give it, or do not.

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

import planahead as pa


class Pendulum(pa.Problem):
    """Upright is an angle of zero; the torque is too weak to lift the pole without a swing."""

    horizon: int = pa.static(40)
    state_size: int = pa.static(2)  # angle (rad), rate (rad/s)
    control_size: int = pa.static(1)  # torque (N m)

    def dynamics(self, x, u):
        return pa.rk4(lambda x, u: jnp.array([x[1], 9.81 * jnp.sin(x[0]) + u[0]]), x, u, 0.05)

    def stage_residual(self, x, u):
        return jnp.array([jnp.sin(x[0] / 2) * 2, 0.1 * x[1], 0.05 * u[0]])

    def terminal_residual(self, x):
        return jnp.array([jnp.sin(x[0] / 2) * 20, 2 * x[1]])

    def control_bounds(self):
        return pa.Bounds(-5.0, 5.0)


def drive(first, next_guess, planner, steps=60):
    """The closed loop, and how many iterations each plan took."""
    problem, x, guess = Pendulum(), jnp.array([jnp.pi, 0.0]), first
    solve = jax.jit(lambda x, guess: pa.solve(problem, x, guess=guess, planner=planner))
    angles, iterations = [], []
    for _ in range(steps):
        plan = solve(x, guess)
        x, guess = problem.dynamics(x, plan.controls[0]), next_guess(plan)
        angles.append(float(x[0]))
        iterations.append(int(plan.iterations))
    return angles, iterations


problem, hanging = Pendulum(), jnp.array([jnp.pi, 0.0])
plan = pa.solve(problem, hanging)
print(plan.explain())
again = plan.guess()
cold, many = drive(again, lambda plan: again, pa.SQP())
warm, few = drive(again, lambda plan: plan.shift(), pa.SQP())
print(f"iterations a plan: {sum(many) / 60:.1f} from the first plan, {sum(few) / 60:.1f} from the last one, shifted")

# %%
# One iteration each
# ------------------
# With a good guess a single iteration is enough: the *real-time iteration* follows the optimum as the state moves, at
# a cost that is known beforehand.

real_time, ones = drive(again, lambda plan: plan.shift(), pa.SQP.real_time())
print(f"{sum(ones) / 60:.1f} iterations a plan; at the end {abs(jnp.sin(real_time[-1] / 2)) * 2:.4f} rad from upright")

figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
for angles, label, style in ((warm, "solved, from the shifted plan", "-"), (real_time, "one iteration each", "--")):
    axes.plot(0.05 * jnp.arange(60), angles, style, label=label)
axes.set(xlabel="time [s]", ylabel="angle [rad]")
axes.legend()

# %%
# Which optimum
# -------------
# A pole can be swung up on either side, and both are optima. A guess that leans one way finds that one; no solver
# knows of the other.


def leaning(torque):
    controls = jnp.full((40, 1), torque)
    _, states = jax.lax.scan(lambda x, u: (problem.dynamics(x, u),) * 2, hanging, controls)
    return pa.Guess(states=jnp.concatenate([hanging[None], states]), controls=controls)


for torque in (-3.0, -1.0, 1.0, 3.0):
    found = pa.solve(problem, hanging, guess=leaning(torque))
    name, end = pa.Status(int(found.status)).name, found.states[-1, 0]
    print(f"from {torque:+.0f} N m: {name}, cost {found.cost:.3f}, ends at {end:+.2f} rad")

# %%
# How a solve can end
# -------------------

for status in pa.Status:
    print(f"{status.name}: {status.sentence}\n")

# %%
# A status is a value, one for each lane of a batch. A controller should look at it. ``plan.controls`` is inside its
# bounds whatever happened, so that acting on a failed plan is at least admissible; a learner masks such samples and
# counts them, in the metric ``failed_solves``.

hurried = pa.solve(problem, hanging, planner=pa.SQP(iterations=3))
print(hurried.explain())
print("controls inside their bounds:", bool((jnp.abs(hurried.controls) <= 5.0).all()))
