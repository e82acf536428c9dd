r"""A plant and what controls it, one step at a time, with sliders, pokes and a reset: all of a live page but the page.

    frame_t = (s_t, o_t, decision at o_t),     s_{t+1} = step(world', s_t, a_t),     world', policy' as the sliders have

A `Frame` is numbers (numpy) and what a scene draws. The world and the policy are arguments of two compiled functions,
so a slider that is turned changes the next step, and nothing is compiled for it.
"""

import collections
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from planahead.policies import Decision, Policy
from planahead.problem import Problem
from planahead.qp import Status
from planahead.tasks import Environment, Task
from planahead.viewer.choices import Sliders, Span, problem_path, sliders_of, written_by
from planahead.viewer.planner import LivePlanner
from planahead.viewer.sliders import Slider, at, changes_of, turned

PAST = 4.0
"""s of an episode that are remembered for traces."""


@dataclasses.dataclass(frozen=True)
class Poke:
    """A disturbance from outside: a kick added to the state's `x`, or an action that acts for some time in the place
    of the chosen one."""

    label: str
    kick: tuple[float, ...] | None = None
    action: tuple[float, ...] | None = None
    seconds: float = 0.3


@dataclasses.dataclass(frozen=True)
class Moment:
    """What is remembered of a step."""

    state: Any
    """Of the world."""
    planner_state: np.ndarray
    action: np.ndarray


@dataclasses.dataclass(frozen=True)
class Frame:
    """A moment and what was decided in it (numpy)."""

    time: float
    """s since the start of the episode."""
    episode: int
    """1 is the first."""
    state: Any
    """Of the world."""
    planner_state: np.ndarray
    """[nx], the observation as the planner reads it."""
    action: np.ndarray
    """[action], chosen now."""
    plan_states: np.ndarray | None
    """[N + 1, nx], the horizon ahead; `None` where nothing plans."""
    plan_controls: np.ndarray | None
    """[N, nu]"""
    status: Status | None
    iterations: int
    cost: float
    """Of the plan; NaN where nothing plans."""
    failed: bool
    corrected: bool | None
    """Whether a safety filter changed the action; `None` without one."""
    solve_seconds: float
    """From the observation to the action."""
    total_reward: float
    """Of the episode so far."""
    success: bool
    violation: bool
    terminated: bool
    truncated: bool
    past: tuple[Moment, ...]
    """Earlier moments of the episode, the oldest first."""

    @property
    def ended(self) -> bool:
        return self.terminated or self.truncated

    @property
    def fresh(self) -> bool:
        """Whether an episode begins with it: nothing leads here from the frame before."""
        return not self.past


class Session:
    """A closed loop that can be watched and disturbed.

    **Arguments:**

    - `task`: the world, and the planning problem where no policy is given.
    - `policy`: what acts; a `LivePlanner` unless given.
    - `spans`: which constants of the world have sliders, see `choices.py`.
    - `seed`: of starts and of the world's chance.
    - `clock`: seconds, for solve times.

    >>> import planahead as pa
    >>> session = Session(pa.make_task("mass-spring-damper"))
    >>> first, second = session.frame, session.step()
    >>> round(second.time - first.time, 3), second.status.name, second.plan_states.shape
    (0.1, 'SOLVED', (21, 2))
    """

    def __init__(
        self,
        task: Task,
        policy: Policy | None = None,
        *,
        spans: tuple[Span, ...] | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.task = task
        self.policy = LivePlanner(task) if policy is None else policy
        self._clock = clock
        self._path = problem_path(self.policy)
        self._problem = self._shown_problem()
        self.sliders: Sliders = sliders_of(task.environment, self._problem, spans, written_by(self.policy))
        self.values = [slider.start for slider in self._all()]
        self.world: Environment[Any] = task.environment
        self._acting = self.policy
        self._key = jax.random.key(seed)
        self._pushing: tuple[np.ndarray, int] | None = None
        self._past: collections.deque[Moment] = collections.deque(
            maxlen=max(2, round(PAST / task.environment.time_step))
        )
        self._episode = 0
        self._turn_all()
        self.reset()
        self.replan()  # compiled by now, so that its time is that of a solve

    def reset(self) -> Frame:
        """A new episode."""
        self._episode += 1
        self._steps, self._total, self._pushing = 0, 0.0, None
        self._flags = (False, False, False, False)
        self._past.clear()
        self._state, self._observation = _start(self.world, self._next_key())
        self._memory = self.policy.initial_memory()
        return self._decide()

    def step(self) -> Frame:
        """One time step of the world; after the end of an episode the next one begins."""
        if self.frame.ended:
            return self.reset()
        action = self._decision.action
        if self._pushing is not None:
            action, left = jnp.asarray(self._pushing[0], action.dtype), self._pushing[1] - 1
            self._pushing = (self._pushing[0], left) if left > 0 else None
        self._past.append(Moment(self.frame.state, self.frame.planner_state, np.asarray(action)))
        transition = _advance(self.world, self._state, action, self._next_key())
        self._state, self._observation = transition.state, transition.observation
        self._memory = self._decision.memory
        self._steps += 1
        self._total += float(transition.reward)
        ends = transition.info.success, transition.info.violation, transition.terminated, transition.truncated
        self._flags = tuple(bool(flag) for flag in ends)
        return self._decide()

    def replan(self) -> Frame:
        """The decision of this moment once more, with the sliders as they are now."""
        return self._decide()

    def turn(self, slider: Slider, value: float) -> None:
        """Set a slider; it acts from the next decision and the next step on."""
        self.values[self._all().index(slider)] = float(value)
        self._turn_all()

    def turn_back(self) -> None:
        """All sliders as they were."""
        self.values = [slider.start for slider in self._all()]
        self._turn_all()

    def poke(self, poke: Poke) -> Frame:
        """Disturb the plant now."""
        if poke.kick is not None:
            x = self._state.x
            self._state = eqx.tree_at(lambda state: state.x, self._state, x + jnp.asarray(poke.kick, x.dtype))
            self._observation = _observe(self.world, self._state)
        if poke.action is not None:
            steps = max(1, round(poke.seconds / self.world.time_step))
            self._pushing = (np.asarray(poke.action, float), steps)
        return self._decide()

    def _all(self) -> tuple[Slider, ...]:
        return (*self.sliders.world, *self.sliders.aims, *self.sliders.beliefs)

    def _turn_all(self) -> None:
        count = len(self.sliders.world)
        everything = self._all()
        world = changes_of(everything[:count], self.values[:count], self.task.environment)
        self.world = turned(self.task.environment, world)
        if self._problem is None:
            return
        changes = changes_of(everything[count:], self.values[count:], self._problem)
        if isinstance(self.policy, LivePlanner):
            self._acting = dataclasses.replace(self.policy, changes=changes)
        else:
            problem = turned(at(self.policy, self._path or ()), changes)
            self._acting = eqx.tree_at(lambda policy: at(policy, self._path or ()), self.policy, problem)

    def _shown_problem(self) -> Problem | None:
        """Whose numbers the sliders show."""
        if isinstance(self.policy, LivePlanner):
            world = self.task.environment
            return self.policy.problem(world.observe(world.reset(jax.random.key(0))))
        return None if self._path is None else at(self.policy, self._path)

    def _next_key(self) -> jax.Array:
        self._key, key = jax.random.split(self._key)
        return key

    def _decide(self) -> Frame:
        begin = self._clock()
        decision: Decision = jax.block_until_ready(_decision(self._acting, self._observation, self._memory))
        seconds = self._clock() - begin
        self._decision = decision
        filtered = decision.filtered
        plan = filtered.plan if decision.plan is None and filtered is not None else decision.plan
        success, violation, terminated, truncated = self._flags
        self.frame = Frame(
            time=self._steps * self.world.time_step,
            episode=self._episode,
            state=jax.tree.map(np.asarray, self._state),
            planner_state=np.asarray(_planner_state(self.task, self._observation)),
            action=np.asarray(decision.action),
            plan_states=None if plan is None else np.asarray(plan.states),
            plan_controls=None if plan is None else np.asarray(plan.controls),
            status=None if plan is None else Status(int(plan.status)),
            iterations=0 if plan is None else int(plan.iterations),
            cost=float("nan") if plan is None else float(plan.cost),
            failed=bool(decision.failed),
            corrected=None if filtered is None else bool(jnp.any(jnp.abs(filtered.action - filtered.proposal) > 1e-4)),
            solve_seconds=seconds,
            total_reward=self._total,
            success=success,
            violation=violation,
            terminated=terminated,
            truncated=truncated,
            past=tuple(self._past),
        )
        return self.frame


@eqx.filter_jit
def _start(world: Environment[Any], key: jax.Array) -> tuple[Any, jax.Array]:
    state = world.reset(key)
    return state, world.observe(state)


@eqx.filter_jit
def _observe(world: Environment[Any], state: Any) -> jax.Array:
    return world.observe(state)


@eqx.filter_jit
def _planner_state(task: Task, observation: jax.Array) -> jax.Array:
    return task.planner_state(observation)


@eqx.filter_jit
def _advance(world: Environment[Any], state: Any, action: jax.Array, key: jax.Array) -> Any:
    return world.step(state, action, key)


@eqx.filter_jit
def _decision(policy: Policy, observation: jax.Array, memory: Any) -> Decision:
    return policy.decide(observation, memory)
