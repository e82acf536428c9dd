r"""A planner as part of the world: the decision problem one level up, whose actions are the planner's parameters.

    φ = box(z),  z ∈ [-1, 1]ⁿ        a = u₀*(x(o), φ)
    r^Φ(o, φ) = r(o, a),             P^Φ(·|o, φ) = P(·|o, a)

Any algorithm for continuous actions then trains MPC without knowing of it, since Q^Φ(o, φ) = Q(o, u₀*(o, φ)). That
presumes that the planned action is a function of (o, φ): so plans start cold unless `Steering` was told to start them
warm, which saves iterations, and makes the action depend on the previous plan too where there are several local minima.

Of a `Steering` with a correction κ the action is (z, c): behind the parameters it has the correction of the planned
action, a = u₀* + κ c (high - low)/2 (`steering.py`).

Failed plans end no episode: the planned control is inside its bounds whatever the status, and `info` says what it was.
"""

from typing import Any

import equinox as eqx
import gymnasium
import jax
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from planahead.interop.gymnasium import GymnasiumTask, checked_action
from planahead.interop.gymnasium_vector import GymnasiumVectorTask
from planahead.planning import SQP
from planahead.policies import ActionBox, Steering
from planahead.tasks import Task, make_task


def task_steering(task: Task | str, *, planner: SQP | None = None, warm_start: bool = False) -> Steering:
    """The planner of a task, steered by the parameters that its policies write.

    >>> task_steering("cartpole").space.names
    ('angle_reference',)
    """
    task = make_task(task) if isinstance(task, str) else task
    return Steering(
        task.problem,
        task.planner_state,
        task.action_box,
        names=task.learned_parameters,
        planner=planner,
        warm_start=warm_start,
    )


class ParameterMDP(gymnasium.Wrapper[np.ndarray, np.ndarray, np.ndarray, np.ndarray]):
    """`env`, acted on by a planner whose parameters are the action; behind them its correction, where it has one.

    `info` of a step has what `env` says, and `plan_status` (a `Status`), `plan_failed`, `planned_action` (physical, as
    `env` got it) and `parameters` (φ, physical).

    **Arguments:**

    - `env`: with a finite box of actions; or a task, or the name of one.
    - `steering`: the planner, what it sees of an observation, and what of it is written; that of the task unless given.

    **Raises:** `ValueError` where the actions of `env` are not those that the planner plans.

    >>> import numpy as np
    >>> env = ParameterMDP("cartpole")
    >>> env.action_space
    Box(-1.0, 1.0, (1,), float32)
    >>> observation, _ = env.reset(seed=0)
    >>> info = env.step(np.zeros(1))[-1]
    >>> info["plan_failed"], info["parameters"]
    (False, array([0.], dtype=float32))
    """

    def __init__(self, env: gymnasium.Env[np.ndarray, np.ndarray] | Task | str, steering: Steering | None = None):
        if isinstance(env, Task | str):
            env = GymnasiumTask(env)
        super().__init__(env)
        self.steering = _fitting(steering, env, env.action_space)
        self.action_space = _unit_box(self.steering)
        self._memory = self.steering.initial_memory()
        self._observation: np.ndarray | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        self._observation, info = self.env.reset(seed=seed, options=options)
        self._memory = self.steering.initial_memory()
        return self._observation, info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._observation is None:
            raise RuntimeError("step was called before the first reset; call reset first.")
        unit = checked_action(action, (self.steering.size,))
        planned, self._memory = _plan(self.steering, unit, self._observation, self._memory)
        found = {name: np.asarray(value) for name, value in jax.device_get(planned).items()}
        self._observation, reward, terminated, truncated, info = self.env.step(found["planned_action"])
        more = {**found, "plan_status": int(found["plan_status"]), "plan_failed": bool(found["plan_failed"])}
        return self._observation, float(reward), terminated, truncated, {**info, **more}


class VectorParameterMDP(VectorWrapper):
    """`ParameterMDP` for environments that step together; their plans are solved in one batch.

    **Arguments:** as for `ParameterMDP`; `num_envs` of a task. Environments have to begin new episodes by themselves.

    >>> import numpy as np
    >>> envs = VectorParameterMDP("cartpole", num_envs=4)
    >>> observations, _ = envs.reset(seed=0)
    >>> envs.step(np.zeros((4, 1)))[-1]["planned_action"].shape
    (4, 1)
    """

    def __init__(self, envs: VectorEnv | Task | str, steering: Steering | None = None, num_envs: int = 1):
        if isinstance(envs, Task | str):
            envs = GymnasiumVectorTask(envs, num_envs)
        super().__init__(envs)
        self._mode = envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        if self._mode == AutoresetMode.DISABLED:
            raise ValueError("the environments reset nothing by themselves; use autoreset_mode NEXT_STEP or SAME_STEP.")
        self.steering = _fitting(steering, envs, envs.single_action_space)
        self.single_action_space = _unit_box(self.steering)
        self.action_space = batch_space(self.single_action_space, envs.num_envs)
        self._memory = self._first_memory()
        self._observations: np.ndarray | None = None
        self._ended = np.zeros(envs.num_envs, bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        observations, info = self.env.reset(seed=seed, options=options)  # pyright: ignore[reportArgumentType]  a list too
        self._observations = observations
        self._memory, self._ended = self._first_memory(), np.zeros(self.num_envs, bool)
        return observations, info

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self._observations is None:
            raise RuntimeError("step was called before the first reset; call reset first.")
        units = checked_action(actions, (self.num_envs, self.steering.size))
        planned, memory = _plan_lanes(self.steering, units, self._observations, self._memory)
        found = {name: np.asarray(value) for name, value in jax.device_get(planned).items()}
        observations, rewards, terminated, truncated, info = self.env.step(found["planned_action"])
        self._observations = observations
        ended = np.asarray(terminated) | np.asarray(truncated)
        # The next plan of these belongs to an episode of its own; in a step that only resets, nothing was planned for.
        resetting = self._ended & (self._mode == AutoresetMode.NEXT_STEP)
        self._memory, self._ended = _forget(memory, ended | resetting), ended
        return observations, rewards, terminated, truncated, {**info, **found, **_masks(found, ~resetting)}

    def _first_memory(self) -> Any:
        memory = self.steering.initial_memory()
        return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (self.num_envs, *np.shape(leaf))), memory)


def _fitting(steering: Steering | None, env: Any, actions: gymnasium.Space[Any]) -> Steering:
    """The planner, that of the task unless given. **Raises** `ValueError` where it does not plan `actions`."""
    if steering is None:
        task = getattr(env, "unwrapped", env)
        if not isinstance(task, GymnasiumTask | GymnasiumVectorTask):
            raise ValueError(
                f"{env} brings no planner; give one: ParameterMDP(env, Steering(problem, planner_state, box))."
            )
        steering = task_steering(task.task)
    if not isinstance(actions, Box) or actions.shape != (steering.box.size,):
        raise ValueError(
            f"the environment's actions are {actions}; the planner plans {steering.box.size} real numbers (a Box)."
        )
    return steering


def action_box(actions: gymnasium.Space[Any]) -> ActionBox:
    """The bounds of a Gymnasium action space, for `Steering`. **Raises** `ValueError` for what is no finite box."""
    if not isinstance(actions, Box) or len(actions.shape) != 1:
        raise ValueError(f"the actions are {actions}; a Box with one axis was expected.")
    return ActionBox(tuple(actions.low.tolist()), tuple(actions.high.tolist()))


def _unit_box(steering: Steering) -> Box:
    return Box(-1.0, 1.0, (steering.size,), np.float32)


def _masks(found: dict[str, np.ndarray], stepped: np.ndarray) -> dict[str, np.ndarray]:
    return {f"_{name}": stepped for name in found}


def _forget(memory: Any, lanes: np.ndarray) -> Any:
    return memory if memory is None else eqx.tree_at(lambda m: m.known, memory, memory.known & ~lanes)


def _decide(steering: Steering, unit: Any, observation: Any, memory: Any) -> tuple[dict[str, Any], Any]:
    decision = steering.decide(unit, observation, memory)
    planned = {
        "planned_action": decision.action,
        "parameters": decision.parameters,
        "plan_status": decision.plan.status,
        "plan_failed": decision.failed,
    }
    return planned, decision.memory


_plan = eqx.filter_jit(_decide)
_plan_lanes = eqx.filter_jit(eqx.filter_vmap(_decide, in_axes=(None, 0, 0, 0)))
