r"""Swing a pole up by pushing its cart, looking only a quarter of a second ahead.

A point mass m on a massless rod of length l hangs on a cart of mass M that the force F pushes. With the angle θ counted
counter-clockwise from upright, the mass sits at (p - l sin θ, l cos θ), and Lagrange's equations give

    d   = M + m sin²θ
    p̈  = (F - m l sin θ θ̇² + m g cos θ sin θ) / d
    θ̈  = (F cos θ - m l cos θ sin θ θ̇² + (M + m) g sin θ) / (l d).

    symbol        shape  meaning
    x             [4]    p [m], θ [rad], ṗ [m/s], θ̇ [rad/s]
    u             [1]    F [N]

The world and the model of it share this equation and its integrator. What the planner lacks is foresight: 0.25 s are
too short to find the swing-up, and what a policy learns is the angle to aim at, `angle_reference`.

Reference: R. V. Florian, "Correct equations for the dynamics of the cart-pole system", 2007; here without friction and
with the mass of the pole at its tip.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from planahead.problem import Bounds, Problem, SafetyProblem, Slack, angle_difference, parameter, rk4, static
from planahead.tasks.environment import Environment, StepInfo, Transition, check_constants, constant
from planahead.tasks.task import Definition, Interface, Task, check_choice, with_stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What the world and the planner's model of it agree on.
GRAVITY = 9.81  # m/s²
CART_MASS = 1.0  # kg
POLE_MASS = 0.1  # kg
POLE_LENGTH = 0.8  # m
FORCE_LIMIT = 80.0  # N
POSITION_LIMIT = 2.4  # m
TIME_STEP = 0.05  # s
EXPERT_HORIZON = 20  # steps: of 25 perturbed starts all swing up; with 10 steps half of them, with 15 all
STATE_NAMES = ("cart position [m]", "pole angle [rad]", "cart velocity [m/s]", "pole angular velocity [rad/s]")


def cart_pole_ode(
    body: "CartPole | CartPoleProblem", x: Float[Array, " 4"], u: Float[Array, " 1"]
) -> Float[Array, " 4"]:
    """ẋ of a cart-pole with the constants of `body`."""
    _, angle, velocity, rate = x
    g, M, m, l = body.gravity, body.cart_mass, body.pole_mass, body.pole_length
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    d = M + m * sin**2
    push = u[0] - m * l * sin * rate**2
    acceleration = (push + m * g * cos * sin) / d
    angular_acceleration = (push * cos + (M + m) * g * sin) / (l * d)
    return jnp.stack([velocity, rate, acceleration, angular_acceleration])


class CartPoleState(eqx.Module):
    """Where the cart-pole is, and how long it has been going and standing."""

    x: Float[Array, " 4"]
    """p [m], θ [rad] within ±2π, ṗ [m/s], θ̇ [rad/s]."""
    step: Int[Array, ""]
    """Steps since the start."""
    upright_steps: Int[Array, ""]
    """Number of latest states, in a row, in which the pole stood."""


@final
class CartPole(Environment[CartPoleState]):
    """The world: a cart on a track of ±2.4 m with a pole that hangs.

    Observation: p [m], θ [rad] within ±2π (whole turns are dropped towards zero, so that hanging, ±π, lies where θ is
        continuous), ṗ [m/s], θ̇ [rad/s]. Only θ is bounded: the last observation of an episode may lie off the track.
    Action: F [N] within ±80, clipped.
    Reward: |π - |θ|| / (10 π) of the new state, in [0, 0.1]: 0 hanging, 0.1 upright; 20 is above every return.
    Terminates: when the cart leaves the track, |p| > `position_limit`.
    Truncates: after 200 steps (10 s), unless the last one terminates.
    Success: in each of the last `success_steps` (10) states the pole stood, within `upright_angle` of a multiple of 2π,
        and the cart is on the track.
    Violation: |p| > `position_limit`.
    Start: hanging at rest, (0, π, 0, 0), plus a uniform draw within ±`start_spread` in every state; 0 by default, which
        makes every deterministic episode the same.

    >>> import jax, jax.numpy as jnp
    >>> environment = CartPole(start_spread=0.1)
    >>> state = environment.reset(jax.random.key(0))
    >>> transition = environment.step(state, jnp.array([500.0]), jax.random.key(1))
    >>> print(f"{transition.observation[2] - state.x[2]:.1f} m/s gained: 80 N, not 500, on 1 kg for 0.05 s")
    4.0 m/s gained: 80 N, not 500, on 1 kg for 0.05 s
    """

    gravity: Array = constant(GRAVITY)  # m/s²
    cart_mass: Array = constant(CART_MASS, positive=True)  # kg
    pole_mass: Array = constant(POLE_MASS, positive=True)  # kg
    pole_length: Array = constant(POLE_LENGTH, positive=True)  # m
    position_limit: Array = constant(POSITION_LIMIT, positive=True)  # m
    upright_angle: Array = constant(0.1, positive=True)  # rad
    start_spread: Array = constant(0.0)  # m, rad, m/s, rad/s

    observation_names: tuple[str, ...] = static(STATE_NAMES)
    observation_low: tuple[float, ...] = static((-math.inf, -2 * math.pi, -math.inf, -math.inf))
    observation_high: tuple[float, ...] = static((math.inf, 2 * math.pi, math.inf, math.inf))
    observation_scale: tuple[float, ...] = static((POSITION_LIMIT, 2 * math.pi, 10.0, 10.0))
    action_names: tuple[str, ...] = static(("force [N]",))
    action_low: tuple[float, ...] = static((-FORCE_LIMIT,))
    action_high: tuple[float, ...] = static((FORCE_LIMIT,))
    time_step: float = static(TIME_STEP)  # s
    episode_steps: int = static(200)
    success_steps: int = static(10)
    published: bool = static(False)
    """The world with the mistakes of the published one: actions are not clipped, and an angle θ beyond ±2π becomes
    π (θ mod 2), where θ mod 2π was meant. The pole jumps then."""

    def ode(self, x: Float[Array, " 4"], u: Float[Array, " 1"]) -> Float[Array, " 4"]:
        return cart_pole_ode(self, x, u)

    def reset(self, key: PRNGKeyArray) -> CartPoleState:
        hanging = jnp.array([0.0, math.pi, 0.0, 0.0])
        spread = self.start_spread * jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)
        x = self.wrapped(hanging + spread)
        return CartPoleState(x=x, step=jnp.array(0), upright_steps=self._stands(x).astype(int))

    def observe(self, state: CartPoleState) -> Float[Array, " 4"]:
        return state.x

    def step(self, state: CartPoleState, action: Float[Array, " 1"], key: PRNGKeyArray) -> Transition[CartPoleState]:
        del key  # The world is deterministic.
        low, high = jnp.asarray(self.action_low), jnp.asarray(self.action_high)
        force = action if self.published else jnp.clip(action, low, high)
        x = self.wrapped(rk4(self.ode, state.x, force, self.time_step))
        stands = self._stands(x)
        new = CartPoleState(x=x, step=state.step + 1, upright_steps=jnp.where(stands, state.upright_steps + 1, 0))
        on_track = jnp.abs(x[0]) <= self.position_limit  # False for NaN too
        return Transition(
            state=new,
            observation=self.observe(new),
            reward=jnp.abs(math.pi - jnp.abs(x[1])) / (10 * math.pi),
            terminated=~on_track,
            truncated=on_track & (new.step >= self.episode_steps),
            info=StepInfo(violation=~on_track, success=on_track & (new.upright_steps >= self.success_steps)),
        )

    def wrapped(self, x: Float[Array, " 4"]) -> Float[Array, " 4"]:
        """Drop whole turns of the angle towards zero: 6.5 becomes 0.217, and π stays π."""
        if self.published:  # 6.5 becomes 1.571
            return x.at[1].set(jnp.where(jnp.abs(x[1]) > 2 * math.pi, math.pi * jnp.mod(x[1], 2), x[1]))
        return x.at[1].set(jnp.fmod(x[1], 2 * math.pi))

    def _stands(self, x: Float[Array, " 4"]) -> Bool[Array, ""]:
        return jnp.abs(angle_difference(x[1], 0.0)) < self.upright_angle

    def draw(self, axes: "Axes", state: CartPoleState, *, alpha: float = 1.0) -> None:
        from matplotlib.patches import Rectangle

        position, angle, limit, length = (
            float(v) for v in (state.x[0], state.x[1], self.position_limit, self.pole_length)
        )
        tip = position - length * math.sin(angle), length * math.cos(angle)
        axes.plot([-limit, limit], [0.0, 0.0], color="0.6", linewidth=1.0, zorder=0)
        axes.vlines([-limit, limit], -0.15, 0.15, color="0.6", linewidth=1.0, zorder=0)
        axes.add_patch(Rectangle((position - 0.2, -0.1), 0.4, 0.2, color="tab:blue", alpha=alpha, linewidth=0))
        axes.plot([position, tip[0]], [0.0, tip[1]], color="tab:orange", linewidth=3.0, alpha=alpha)
        axes.plot(*tip, "o", color="tab:orange", markersize=7.0, alpha=alpha)
        axes.set(xlim=(-1.35 * limit, 1.35 * limit), ylim=(-1.25 * length, 1.25 * length), aspect="equal")
        axes.set_axis_off()


@final
class CartPoleProblem(Problem):
    """What the planner believes and wants: the same body, and ½ (y - y_ref)ᵀ W (y - y_ref) with y = (x, u) over 0.25 s.

    The last stage has the same weights without the force. The force is bounded hard, the track softly. The angle is
    compared with its reference as it is, not modulo 2π: from hanging, a reference of 0 and one of 2π ask for swings to
    different sides, and a wrapped difference would jump between them.

    With `either_side` it is compared by the chord, 2 sin(½ (θ - reference)): a swing to either side is then as good,
    near upright the cost is the same, and hanging it is level, so that a planner has to find out by itself that there
    is something to be gained.
    """

    horizon: int = static(5)
    state_size: int = static(4)
    control_size: int = static(1)
    time_step: float = static(TIME_STEP)  # s
    either_side: bool = static(False)

    angle_reference: Array = parameter(0.0, low=-2 * math.pi, high=2 * math.pi)  # rad
    position_reference: Array = constant(0.0)  # m
    position_weight: Array = constant(2e3)  # 1/m²
    angle_weight: Array = constant(2e3)  # 1/rad²
    velocity_weight: Array = constant(1e-2)  # s²/m²
    rate_weight: Array = constant(1e-2)  # s²/rad²
    force_weight: Array = constant(2e-1)  # 1/N²
    track_weight: Array = constant(1e3)  # 1/m², for leaving the track
    gravity: Array = constant(GRAVITY)  # m/s²
    cart_mass: Array = constant(CART_MASS, positive=True)  # kg
    pole_mass: Array = constant(POLE_MASS, positive=True)  # kg
    pole_length: Array = constant(POLE_LENGTH, positive=True)  # m

    def __check_init__(self):
        check_constants(self)

    def ode(self, x: Float[Array, " 4"], u: Float[Array, " 1"]) -> Float[Array, " 4"]:
        return cart_pole_ode(self, x, u)

    def dynamics(self, x: Float[Array, " 4"], u: Float[Array, " 1"]) -> Float[Array, " 4"]:
        return rk4(self.ode, x, u, self.time_step)

    def stage_residual(self, x: Float[Array, " 4"], u: Float[Array, " 1"]) -> Float[Array, " 5"]:
        return jnp.concatenate([self.terminal_residual(x), jnp.sqrt(self.force_weight) * u])

    def terminal_residual(self, x: Float[Array, " 4"]) -> Float[Array, " 4"]:
        weight = jnp.stack([self.position_weight, self.angle_weight, self.velocity_weight, self.rate_weight])
        reference = jnp.stack([self.position_reference, self.angle_reference, *jnp.zeros(2)])
        difference = x - reference
        if self.either_side:
            difference = difference.at[1].set(2.0 * jnp.sin(0.5 * difference[1]))
        return jnp.sqrt(weight) * difference

    def control_bounds(self) -> Bounds:
        return Bounds(-FORCE_LIMIT, FORCE_LIMIT)

    def state_bounds(self) -> Bounds:
        limit = jnp.array([POSITION_LIMIT, math.inf, math.inf, math.inf])
        return Bounds(-limit, limit, slack=Slack(quadratic=self.track_weight))


@final
class CartPoleTask(Task[CartPole, CartPoleProblem]):
    """Swing-up with a planner that sees 0.25 s ahead and a policy that tells it which angle to aim at.

    **Arguments:**

    - `environment`, `problem`: replace the defaults.
    - `definition`: `"published"` takes the world with its mistakes; the planning problem has none.
    - `interface`: `"global"` has one learned parameter, `"stage"` one for each of the stages 1…N.
    """

    environment: CartPole
    problem: CartPoleProblem
    name: str = static("cartpole")
    learned_parameters: tuple[str, ...] = static(("angle_reference",))
    state_names: tuple[str, ...] = static(STATE_NAMES)

    def __init__(
        self,
        environment: CartPole | None = None,
        problem: CartPoleProblem | None = None,
        *,
        definition: Definition = "corrected",
        interface: Interface = "global",
    ):
        check_choice(self, "definition", definition, Definition)
        check_choice(self, "interface", interface, Interface)
        self.environment = CartPole(published=definition == "published") if environment is None else environment
        problem = CartPoleProblem() if problem is None else problem
        if interface == "stage":
            problem = with_stages(problem, {"angle_reference": range(1, problem.horizon + 1)})
        self.problem = problem

    def safety_problem(self) -> SafetyProblem | None:
        """For the world's body, whatever the planner believes; none where the world has its published mistakes, since
        no model foresees how the pole jumps there."""
        from planahead.tasks.cart_pole_safety import cart_pole_safety  # which needs the world above

        return None if self.environment.published else cart_pole_safety(self.environment)

    def planner_state(self, observation: Float[Array, " 4"]) -> Float[Array, " 4"]:
        return observation

    def deviation(self, x: Float[Array, " 4"], z: Float[Array, " 4"]) -> Float[Array, " 4"]:
        """The angle's without whole turns."""
        return (x - z).at[1].set(angle_difference(x[1], z[1]))

    def observed(self, observation: Float[Array, " 4"], state: Float[Array, " 4"]) -> Float[Array, " 4"]:
        """Whole turns dropped, as the world does."""
        del observation
        return self.environment.wrapped(state)

    def expert(self, observation: Float[Array, " 4"]) -> CartPoleProblem:
        """Aims at upright, and looks far enough ahead to see how: 1 s."""
        del observation
        horizon = max(EXPERT_HORIZON, self.problem.horizon)
        return dataclasses.replace(self.problem, horizon=horizon, angle_reference=jnp.zeros(()))
