"""Example: push a cart to a mark on a windy track, with a planner that does not know of the wind.

    p⁺ = p + h v,   v⁺ = v + h (F + w) / m,        h = 0.1 s

The world (`Example`) has the wind w; the planner's model (`ExampleProblem`) has none, so by itself it comes to rest
beside the mark. A policy that writes its parameters learns where to aim instead:

    planahead plan example:ExampleTask                               # the planner as it comes, as a picture
    planahead train sac-zop example:ExampleTask --steps 12000        # a network steers it
    python -m pytest test_example.py                                 # pip install pytest

Change one thing at a time, and run the tests after each. What every method may rely on and has to keep is in the
docstrings of `planahead.Environment`, `planahead.Problem` and `planahead.Task`.
"""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

import planahead as pa
from planahead.tasks.environment import StepInfo, check_constants, constant
from planahead.tasks.task import Interface, check_choice, with_stages

TIME_STEP = 0.1  # s
FORCE_LIMIT = 1.0  # N
TRACK = 3.0  # m


class ExampleState(eqx.Module):
    """Everything that a step needs to know: what moves, and the time."""

    x: Float[Array, " 2"]
    """Position [m], velocity [m/s]."""
    step: Int[Array, ""]
    """Steps since the start."""


@final
class Example(pa.Environment[ExampleState]):
    """The world, as it really is.

    Observation: position [m], velocity [m/s].
    Action: force [N] within ±1, clipped.
    Reward: -(p² + 0.1 v² + 0.01 F²) of the state before the step and the force in it.
    Terminates: when the cart leaves the track, |p| > `track`.
    Truncates: after 80 steps (8 s), unless the last one terminates.
    Success: within `tolerance` of the mark, and slower than `tolerance` a second.
    Violation: the cart leaves the track.
    Start: uniform within ±`start_spread` in both states.
    """

    # Constants of the world: array leaves, so that any can be an option (`--task-options wind=0.3`).
    mass: Array = constant(1.0, positive=True)  # kg
    wind: Array = constant(0.3)  # N
    track: Array = constant(TRACK, positive=True)  # m
    tolerance: Array = constant(0.1, positive=True)  # m, m/s
    start_spread: Array = constant(1.0)  # m, m/s

    observation_names: tuple[str, ...] = pa.static(("position [m]", "velocity [m/s]"))
    observation_low: tuple[float, ...] = pa.static((-jnp.inf, -jnp.inf))
    observation_high: tuple[float, ...] = pa.static((jnp.inf, jnp.inf))
    observation_scale: tuple[float, ...] = pa.static((TRACK, 1.0))  # what networks divide observations by
    action_names: tuple[str, ...] = pa.static(("force [N]",))
    action_low: tuple[float, ...] = pa.static((-FORCE_LIMIT,))
    action_high: tuple[float, ...] = pa.static((FORCE_LIMIT,))
    time_step: float = pa.static(TIME_STEP)  # s
    episode_steps: int = pa.static(80)

    def reset(self, key: PRNGKeyArray) -> ExampleState:
        x = self.start_spread * jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        return ExampleState(x=x, step=jnp.array(0))

    def observe(self, state: ExampleState) -> Float[Array, " 2"]:
        return state.x

    def step(self, state: ExampleState, action: Float[Array, " 1"], key: PRNGKeyArray) -> pa.Transition[ExampleState]:
        del key  # for worlds that are not deterministic
        force = jnp.clip(action[0], -FORCE_LIMIT, FORCE_LIMIT)
        position, velocity = state.x
        x = jnp.stack([position + TIME_STEP * velocity, velocity + TIME_STEP * (force + self.wind) / self.mass])
        new = ExampleState(x=x, step=state.step + 1)
        on_track = jnp.abs(x[0]) <= self.track  # false for NaN too
        return pa.Transition(
            state=new,
            observation=self.observe(new),
            reward=-(position**2 + 0.1 * velocity**2 + 0.01 * force**2),
            terminated=~on_track,
            truncated=on_track & (new.step >= self.episode_steps),
            info=StepInfo(violation=~on_track, success=on_track & jnp.all(jnp.abs(x) < self.tolerance)),
        )


@final
class ExampleProblem(pa.Problem):
    """What the planner believes and wants, over 2 s: no wind, and to be near a target without much effort.

    Costs are minimised. What is declared with `pa.parameter` may be written by a policy, within `low` and `high`.
    """

    horizon: int = pa.static(20)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)

    mass: Array = constant(1.0, positive=True)  # kg
    target: Array = pa.parameter(0.0, low=-1.0, high=1.0)  # m
    effort: Array = pa.parameter(1.0, low=0.1, high=10.0, scale="log")  # what a newton costs, beside a metre

    def __check_init__(self):
        check_constants(self)

    def dynamics(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 2"]:
        return jnp.stack([x[0] + TIME_STEP * x[1], x[1] + TIME_STEP * u[0] / self.mass])

    def stage_residual(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 3"]:
        return jnp.stack([x[0] - self.target, 0.3 * x[1], self.effort * u[0]])  # half the sum of squares is the cost

    def terminal_residual(self, x: Float[Array, " 2"]) -> Float[Array, " 2"]:
        return jnp.stack([3.0 * (x[0] - self.target), 3.0 * x[1]])

    def control_bounds(self) -> pa.Bounds:
        return pa.Bounds(-FORCE_LIMIT, FORCE_LIMIT)

    def state_bounds(self) -> pa.Bounds:  # soft, so that no state is without a plan
        limit = jnp.array([TRACK, jnp.inf])
        return pa.Bounds(-limit, limit, slack=pa.Slack(quadratic=1e3))


@final
class ExampleTask(pa.Task[Example, ExampleProblem]):
    """Bring a cart to a mark in wind, with a planner that does not know of it.

    **Arguments:**

    - `environment`, `problem`: replace the defaults.
    - `interface`: `"global"` has one value for each learned parameter, `"stage"` one for each stage of the plan.
    """

    environment: Example
    problem: ExampleProblem
    name: str = pa.static("example:ExampleTask")
    learned_parameters: tuple[str, ...] = pa.static(("target", "effort"))
    state_names: tuple[str, ...] = pa.static(("position [m]", "velocity [m/s]"))

    def __init__(
        self,
        environment: Example | None = None,
        problem: ExampleProblem | None = None,
        *,
        interface: Interface = "global",
    ):
        check_choice(self, "interface", interface, Interface)
        self.environment = Example() if environment is None else environment
        problem = ExampleProblem() if problem is None else problem
        if interface == "stage":  # each parameter at the stages where it can move the plan
            stages = {"target": range(1, problem.horizon + 1), "effort": range(problem.horizon)}
            problem = with_stages(problem, stages)
        self.problem = problem

    def planner_state(self, observation: Float[Array, " 2"]) -> Float[Array, " 2"]:
        return observation  # all that the planner may know
