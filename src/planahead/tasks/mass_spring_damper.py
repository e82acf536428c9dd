r"""Bring a mass on a spring to rest: linear, quadratic, and therefore known exactly.

    ẋ = v,   v̇ = (F - b v - k x) / m,   discretised by Euler's rule:   s⁺ = A s + B F,  s = (x, v)

    return   -Σ (sᵀ Q s + R F²),   Q = diag(1, 0.1),  R = 0.01

Where no bound is active the best controller is F = -K s with

    K = (R + Bᵀ P B)⁻¹ Bᵀ P A,    P = Q + Aᵀ P (A - B K),

and -sᵀ P s is the best return that an endless episode can have. A planner with the right model, these
weights and the terminal weight P returns exactly this controller, whatever its horizon: `matched=True`. The default one
has a wrong model and wrong weights; its eight parameters are there to be learned.

Reference: D. P. Bertsekas, "Dynamic Programming and Optimal Control", vol. I, 4th ed., sect. 3.1.
"""

import math
from typing import TYPE_CHECKING, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from planahead.problem import (
    Bounds,
    Problem,
    SafetyProblem,
    Slack,
    euler,
    parameter,
    riccati_solution,
    static,
)
from planahead.tasks.environment import Environment, StepInfo, Transition, check_constants, constant
from planahead.tasks.task import Imagined, Interface, Task, check_choice, with_stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What the world and the planner's model of it agree on.
FORCE_LIMIT = 0.5  # N
STATE_LIMIT = 2.0  # m, m/s
TIME_STEP = 0.1  # s
STATE_NAMES = ("position [m]", "velocity [m/s]")


def mass_spring_damper_ode(
    body: "MassSpringDamper | MassSpringDamperProblem", x: Float[Array, " 2"], u: Float[Array, " 1"]
) -> Float[Array, " 2"]:
    """ẋ of a mass-spring-damper with the constants of `body`."""
    position, velocity = x
    return jnp.stack([velocity, (u[0] - body.damping * velocity - body.stiffness * position) / body.mass])


class MassSpringDamperState(eqx.Module):
    """Position and velocity, and how long the mass has been going."""

    x: Float[Array, " 2"]
    """x [m], v [m/s]."""
    step: Int[Array, ""]
    """Steps since the start."""


@final
class MassSpringDamper(Environment[MassSpringDamperState]):
    """The world: a light spring with hardly any damping.

    Observation: x [m], v [m/s]; unbounded, since the last observation of an episode may lie beyond the limits.
    Action: F [N] within ±0.5, clipped.
    Reward: -(x² + 0.1 v² + 0.01 F²) of the state before the step and the force applied in it.
    Terminates: when |x| or |v| exceeds `state_limit` (2).
    Truncates: after 50 steps (5 s), unless the last one terminates.
    Success: |x| and |v| are below `rest_limit` (0.1).
    Violation: |x| or |v| exceeds `state_limit`.
    Start: uniform within ±`start_spread` in both states; 1 by default, half of the limits.

    >>> import jax, jax.numpy as jnp
    >>> environment = MassSpringDamper()
    >>> state = MassSpringDamperState(x=jnp.array([1.0, 0.0]), step=jnp.array(0))
    >>> transition = environment.step(state, jnp.array([0.5]), jax.random.key(0))
    >>> print(f"the force of 0.5 N balances the spring: {transition.observation}, reward {transition.reward:.4f}")
    the force of 0.5 N balances the spring: [1. 0.], reward -1.0025
    """

    mass: Array = constant(1.0, positive=True)  # kg
    damping: Array = constant(0.1)  # N s/m
    stiffness: Array = constant(0.5)  # N/m
    position_price: Array = constant(1.0)  # 1/m²
    velocity_price: Array = constant(0.1)  # s²/m²
    force_price: Array = constant(0.01, positive=True)  # 1/N²
    state_limit: Array = constant(STATE_LIMIT, positive=True)  # m, m/s
    rest_limit: Array = constant(0.1, positive=True)  # m, m/s
    start_spread: Array = constant(0.5 * STATE_LIMIT)  # m, m/s

    observation_names: tuple[str, ...] = static(STATE_NAMES)
    observation_low: tuple[float, ...] = static((-math.inf, -math.inf))
    observation_high: tuple[float, ...] = static((math.inf, math.inf))
    observation_scale: tuple[float, ...] = static((STATE_LIMIT, STATE_LIMIT))
    action_names: tuple[str, ...] = static(("force [N]",))
    action_low: tuple[float, ...] = static((-FORCE_LIMIT,))
    action_high: tuple[float, ...] = static((FORCE_LIMIT,))
    time_step: float = static(TIME_STEP)  # s
    episode_steps: int = static(50)

    def ode(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 2"]:
        return mass_spring_damper_ode(self, x, u)

    def reset(self, key: PRNGKeyArray) -> MassSpringDamperState:
        x = self.start_spread * jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        return MassSpringDamperState(x=x, step=jnp.array(0))

    def observe(self, state: MassSpringDamperState) -> Float[Array, " 2"]:
        return state.x

    def step(
        self, state: MassSpringDamperState, action: Float[Array, " 1"], key: PRNGKeyArray
    ) -> Transition[MassSpringDamperState]:
        del key  # The world is deterministic.
        force = jnp.clip(action, jnp.asarray(self.action_low), jnp.asarray(self.action_high))
        x = euler(self.ode, state.x, force, self.time_step)
        new = MassSpringDamperState(x=x, step=state.step + 1)
        inside = self.inside(x)
        return Transition(
            state=new,
            observation=self.observe(new),
            reward=self.reward(state.x, force),
            terminated=~inside,
            truncated=inside & (new.step >= self.episode_steps),
            info=StepInfo(violation=~inside, success=jnp.all(jnp.abs(x) < self.rest_limit)),
        )

    def reward(self, x: Float[Array, " 2"], force: Float[Array, " 1"]) -> Float[Array, ""]:
        """Of a step from `x`."""
        position, velocity = x
        return -(
            self.position_price * position**2 + self.velocity_price * velocity**2 + self.force_price * force[0] ** 2
        )

    def inside(self, x: Float[Array, " 2"]) -> Bool[Array, ""]:
        """Whether a state keeps the limits; a NaN does not."""
        return jnp.all(jnp.abs(x) <= self.state_limit)

    def draw(self, axes: "Axes", state: MassSpringDamperState, *, alpha: float = 1.0) -> None:
        from matplotlib.patches import Rectangle

        position, limit = float(state.x[0]), float(self.state_limit)
        wall = -1.5 * limit
        windings = np.linspace(0.0, 1.0, 25)
        coil = 0.12 * limit * np.resize([0.0, 1.0, 0.0, -1.0], windings.size)
        axes.vlines([wall], -0.4 * limit, 0.4 * limit, color="0.4", linewidth=3.0)
        axes.vlines([0.0], -0.3 * limit, 0.3 * limit, color="0.6", linewidth=1.0, linestyle=":")
        axes.plot(wall + windings * (position - 0.15 * limit - wall), coil, color="0.5", linewidth=1.0, alpha=alpha)
        corner = position - 0.15 * limit, -0.2 * limit
        axes.add_patch(Rectangle(corner, 0.3 * limit, 0.4 * limit, color="tab:blue", alpha=alpha, linewidth=0))
        axes.set(xlim=(wall, 1.5 * limit), ylim=(-0.6 * limit, 0.6 * limit), aspect="equal")
        axes.set_axis_off()


@final
class MassSpringDamperProblem(Problem):
    """What the planner believes and wants: ½ (sᵀ Q s + R F²) at every stage and ½ sᵀ P s at the end, over 2 s.

    The defaults describe a heavier, stiffer and better damped body than the world's. The weights are learned as square
    roots: Q = diag(`state_weight_root`)², R = `force_weight_root`², and P = Lᵀ L with L = [[p₁, c], [0, p₂]], where p
    is `terminal_weight_root` and c is `terminal_coupling`, which no policy learns.
    """

    horizon: int = static(20)
    state_size: int = static(2)
    control_size: int = static(1)
    time_step: float = static(TIME_STEP)  # s

    mass: Array = parameter(1.5, low=0.1, high=10.0)  # kg
    damping: Array = parameter(0.7, low=0.0, high=2.0)  # N s/m
    stiffness: Array = parameter(2.0, low=0.0, high=5.0)  # N/m
    state_weight_root: Array = parameter(np.sqrt([5.0, 0.2]), low=np.sqrt([0.1, 0.01]), high=np.sqrt([10.0, 1.0]))
    force_weight_root: Array = parameter(math.sqrt(0.08), low=math.sqrt(0.001), high=math.sqrt(0.1))
    terminal_weight_root: Array = parameter(np.sqrt([5.0, 0.5]), low=np.sqrt([1.0, 0.1]), high=np.sqrt([10.0, 1.0]))
    terminal_coupling: Array = constant(0.0)
    limit_weight: Array = constant(1e3)  # for exceeding the state limits

    def __check_init__(self):
        check_constants(self)

    @classmethod
    def matched(
        cls, environment: MassSpringDamper, horizon: int = 20, discount: float = 1.0
    ) -> "MassSpringDamperProblem":
        """The problem whose plan is the best policy of `environment` wherever no bound is active, of returns that count
        step k by `discount`ᵏ.

        Its cost is half of minus the return: `value(problem, s)` = ½ sᵀ P s, and without a discount all weights lie
        inside their boxes.
        """

        def after(x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 2"]:
            return euler(environment.ode, x, u, environment.time_step)

        slopes = jax.jacobian(after, (0, 1))(jnp.zeros(2), jnp.zeros(1))
        A, B = (discount**0.5 * np.asarray(slope, float) for slope in slopes)
        Q = np.diag([float(environment.position_price), float(environment.velocity_price)])
        R = np.array([[float(environment.force_price)]])
        L = np.linalg.cholesky(riccati_solution(A, B, Q, R)).T
        return cls(
            horizon=horizon,
            discount=discount,
            time_step=environment.time_step,
            mass=environment.mass,
            damping=environment.damping,
            stiffness=environment.stiffness,
            state_weight_root=jnp.sqrt(jnp.diag(Q)),
            force_weight_root=jnp.sqrt(environment.force_price),
            terminal_weight_root=jnp.diag(L),
            terminal_coupling=jnp.asarray(L[0, 1]),
        )

    def ode(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 2"]:
        return mass_spring_damper_ode(self, x, u)

    def dynamics(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 2"]:
        return euler(self.ode, x, u, self.time_step)

    def stage_residual(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 3"]:
        return jnp.concatenate([self.state_weight_root * x, self.force_weight_root * u])

    def terminal_residual(self, x: Float[Array, " 2"]) -> Float[Array, " 2"]:
        p1, p2 = self.terminal_weight_root
        return jnp.stack([p1 * x[0] + self.terminal_coupling * x[1], p2 * x[1]])

    def control_bounds(self) -> Bounds:
        return Bounds(-FORCE_LIMIT, FORCE_LIMIT)

    def state_bounds(self) -> Bounds:
        return Bounds(-STATE_LIMIT, STATE_LIMIT, slack=Slack(quadratic=self.limit_weight))


@final
class MassSpringDamperTask(Task[MassSpringDamper, MassSpringDamperProblem]):
    """Rest at the origin, with a planner whose eight parameters are wrong by default and exact with `matched=True`.

    As published, and nothing in it asked for a correction, so there is no `definition`.

    **Arguments:**

    - `environment`, `problem`: replace the defaults.
    - `matched`: the planner believes in the world as it is; excludes `problem`.
    - `stiffness_factor`: with `matched`, the spring is believed to be that many times as stiff as it is, which is then
        the planner's only mistake.
    - `discount`: with `matched`, what the planner weighs each step by, relative to the one before.
    - `interface`: `"global"` has 8 learned parameters, `"stage"` 120: the model and the weight of the force at the
        stages 0…19, the weights of the states at 1…19, and at stage 20 the terminal ones.
    """

    environment: MassSpringDamper
    problem: MassSpringDamperProblem
    name: str = static("mass-spring-damper")
    learned_parameters: tuple[str, ...] = static(
        ("mass", "damping", "stiffness", "state_weight_root", "force_weight_root", "terminal_weight_root")
    )
    state_names: tuple[str, ...] = static(STATE_NAMES)
    matched: bool = static(False)

    def __init__(
        self,
        environment: MassSpringDamper | None = None,
        problem: MassSpringDamperProblem | None = None,
        *,
        matched: bool = False,
        stiffness_factor: float | int = 1.0,
        discount: float | int = 1.0,
        interface: Interface = "global",
    ):
        check_choice(self, "interface", interface, Interface)
        if matched and problem is not None:
            raise ValueError("MassSpringDamperTask got matched=True and a problem; leave one of them out.")
        if not matched and (stiffness_factor, discount) != (1.0, 1.0):
            raise ValueError(
                f"MassSpringDamperTask got stiffness_factor={stiffness_factor} and discount={discount}, which are of "
                "the planner with the world's own prices; add matched=True, or leave them out."
            )
        if not (stiffness_factor > 0 and 0 < discount <= 1):
            raise ValueError(
                f"MassSpringDamperTask got stiffness_factor={stiffness_factor} and discount={discount}; a positive "
                "factor and a discount above 0 and up to 1 were expected."
            )
        self.environment = MassSpringDamper() if environment is None else environment
        self.matched = matched
        if matched:
            believed = eqx.tree_at(
                lambda e: e.stiffness, self.environment, stiffness_factor * self.environment.stiffness
            )
            problem = MassSpringDamperProblem.matched(believed, discount=float(discount))
        problem = problem or MassSpringDamperProblem()
        if interface == "stage":
            controls = range(problem.horizon)
            model = dict.fromkeys(("mass", "damping", "stiffness", "force_weight_root"), controls)
            problem = with_stages(problem, {**model, "state_weight_root": range(1, problem.horizon)})
        self.problem = problem

    def safety_problem(self) -> SafetyProblem:
        """For the world's body, whatever the planner believes."""
        from planahead.tasks.mass_spring_damper_safety import mass_spring_damper_safety  # which needs the world above

        return mass_spring_damper_safety(self.environment)

    def planner_state(self, observation: Float[Array, " 2"]) -> Float[Array, " 2"]:
        return observation

    def observed(self, observation: Float[Array, " 2"], state: Float[Array, " 2"]) -> Float[Array, " 2"]:
        del observation
        return state

    def reward_per_cost(self) -> float | None:
        """Two for a matched planner, whose cost is half of what the world charges."""
        return 2.0 if self.matched else None

    def imagined(
        self, observation: Float[Array, " 2"], states: Float[Array, "nodes 2"], controls: Float[Array, "N 1"]
    ) -> Imagined:
        """Up to the state limits, where the world ends."""
        del observation
        world = self.environment
        return Imagined.of_observed(states, controls, world.reward, world.inside)
