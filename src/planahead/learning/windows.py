r"""What happened in a few steps in a row, in a planner's terms: how well its model foresees them, and what they cost.

    x̂_0 = x_0,  x̂_{j+1} = f(x̂_j, u_j)            e_j = (x̂_{j+1} - x_{j+1}) / c,   j < m
    Σ_{j<m} γʲ ℓ_j + γᵐ (1 - terminated) V(x_m) ≈ V(x_0),    V(x) = o + gᵀx + ½ xᵀPx

The first m <= H steps of a window belong to one episode and are stored; after them errors are zero. V is the solution
by least-squares temporal differences of m steps (`lstd.py`), exact for a linear policy on linear dynamics with
quadratic costs. Where the episode ran out of time, V goes on after its last state; where it terminated it ends.

Reference: R. Sutton, A. Barto, "Reinforcement learning: an introduction", 2nd ed. 2018, sect. 7.1 and 9.8.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from planahead.learning.lstd import lstd, monomials
from planahead.learning.planner_learner import Tried
from planahead.policies.tuned import TunedPlanner
from planahead.problem import ParameterSpace, Problem, Quadratic, at_stage, is_per_stage
from planahead.tasks import Task

PROBES = 16
"""States and controls at which dynamics are asked what they depend on."""
RIDGE = 1e-9
"""Of the least squares, relative: features that windows do not tell apart share what they explain."""


class Window(eqx.Module):
    """Steps of one environment in a row; with a leading axis several."""

    states: Float[Array, "*b nodes nx"]
    """One more than steps."""
    controls: Float[Array, "*b H nu"]
    costs: Float[Array, "*b H"]
    """Minus the rewards."""
    terminated: Bool[Array, "*b H"]
    known: Bool[Array, "*b H"]
    """The first m."""
    usable: Bool[Array, "*b"]
    """Whether no solve behind the known steps failed."""


def window_of(policy: TunedPlanner, rows: Tried, stored: Bool[Array, " H"]) -> Window:
    """Rows of one environment, `[H]`, of which the last ones may be of the next episode, or not be stored."""
    state, box = policy.steering.planner_state, policy.steering.box
    ended = rows.terminated | rows.truncated
    goes_on = jnp.concatenate([jnp.ones(1, bool), ~ended[:-1]])
    known = jnp.cumprod(stored & goes_on).astype(bool)
    after = jax.vmap(state)(rows.next_observation)
    return Window(
        states=jnp.concatenate([state(rows.observation[0])[None], after]),
        controls=jax.vmap(box.from_unit)(rows.action),
        costs=rows.cost,
        terminated=rows.terminated,
        known=known,
        usable=jnp.all(rows.usable | ~known),
    )


def prediction_errors(task: Task, problem: Problem, window: Window, scale: Float[Array, " nx"]) -> Float[Array, "H nx"]:
    """e of one window, in units of `scale`; zero after the last known step."""
    model = at_stage(problem, 0)

    def step(x: Float[Array, " nx"], inputs: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        u, after, known = inputs
        foreseen = jnp.where(known, model.dynamics(x, jnp.where(known, u, 0.0)), x)
        return foreseen, jnp.where(known, task.deviation(foreseen, after) / scale, 0.0)

    return jax.lax.scan(step, window.states[0], (window.controls, window.states[1:], window.known))[1]


def quadratic_value(windows: Window, gamma: Float[Array, ""] | float, scale: Float[Array, " nx"]) -> Quadratic:
    """V of the policy that made these windows, `[b]`, as a cost. What has a failed solve in it does not count."""
    length = windows.costs.shape[1]
    steps = jnp.sum(windows.known, axis=1)
    weighed = jnp.where(windows.known, jnp.asarray(gamma) ** jnp.arange(length)[None] * windows.costs, 0.0)
    last = jnp.take_along_axis(windows.states, steps[:, None, None], axis=1)[:, 0]
    ends = jnp.any(windows.terminated & windows.known, axis=1)
    rest = jnp.where(ends, 0.0, jnp.asarray(gamma) ** steps)
    now, after = (monomials(x / scale[None]) for x in (windows.states[:, 0], last))
    after = jnp.where(ends[:, None], 0.0, rest[:, None] * after)
    w = lstd(now, after, jnp.sum(weighed, axis=1), weights=windows.usable.astype(now.dtype), ridge=RIDGE)
    nx = scale.size
    half = jnp.zeros((nx, nx), w.dtype).at[np.triu_indices(nx)].set(w[1 + nx :])
    return Quadratic((half + half.T) / jnp.outer(scale, scale), w[1 : 1 + nx] / scale, w[0])


def state_scale(task: Task) -> Float[Array, " nx"]:
    """Typical magnitudes of the planner's states: what follows, to first order at a start, from those of the
    observations; 1 for a state that does not depend on them.

    **Raises:** `ValueError` where that is not finite.

    >>> import planahead as pa
    >>> state_scale(pa.make_task("mass-spring-damper")).tolist()
    [2.0, 2.0]
    """
    world = task.environment
    with jax.ensure_compile_time_eval():  # where the state of a run is only wanted for its shapes, too
        start = world.observe(world.reset(jax.random.key(0)))
        slopes = jax.jacfwd(task.planner_state)(start)
        scale = np.asarray(jnp.abs(slopes) @ jnp.asarray(world.observation_scale, slopes.dtype))
    if not np.all(np.isfinite(scale)):
        raise ValueError(
            f"the planner's states of task '{task.name}' have the typical magnitudes {scale.tolist()}; finite ones "
            "were expected, from observation_scale and the derivative of planner_state"
        )
    with jax.ensure_compile_time_eval():
        return jnp.asarray(np.where(scale > 0, scale, 1.0), float)


def dynamics_parameters(task: Task, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the parameters `names` of the task's problem that its dynamics depend on, by their derivatives at random
    states and controls.

    **Raises:** `ValueError` for one of them that differs from stage to stage: a world has one model.

    >>> import planahead as pa
    >>> task = pa.make_task("mass-spring-damper")
    >>> dynamics_parameters(task, task.learned_parameters)
    ('mass', 'damping', 'stiffness')
    """
    problem: Problem = task.problem
    box, scale, random = task.action_box, np.asarray(state_scale(task)), np.random.default_rng(0)
    states = scale * random.normal(size=(PROBES, problem.state_size))
    controls = random.uniform(box.low, box.high, size=(PROBES, problem.control_size))

    def depends(name: str) -> bool:
        space = ParameterSpace(problem, name)

        def after(values: Float[Array, " size"]) -> Float[Array, "probes nx"]:
            model, x, u = (
                at_stage(space.insert(problem, values), 0),
                jnp.asarray(states, float),
                jnp.asarray(controls, float),
            )
            return jax.vmap(model.dynamics)(x, u)

        return bool(jnp.any(jax.jacfwd(after)(space.flatten(problem)) != 0))

    with jax.ensure_compile_time_eval():
        found = tuple(name for name in names if depends(name))
    staged = [name for name in found if is_per_stage(getattr(problem, name))]
    if staged:
        raise ValueError(
            f"{', '.join(staged)} of task '{task.name}' differ from stage to stage, and the world that a model is "
            "fitted to does not; use interface='global'"
        )
    return found
