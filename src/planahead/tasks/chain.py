r"""Bring a hanging chain to rest by moving its free end.

n equal masses m are joined by n - 1 springs of stiffness D and length L at rest. Mass 1 is fixed at the origin, mass n
is moved by hand with the velocity u. With the link vectors d_k = p_{k+1} - p_k, k = 1…n-1:

    v̇_i = -g e_z - a_{i-1} + a_i,   a_k = (D/m) (1 - L / ‖d_k‖) d_k + C |ḋ_k| ∘ ḋ_k,      i = 2…n-1,     ṗ_n = u

    symbol        shape       meaning
    x             [6n - 9]    p_2…p_n [m], v_2…v_{n-1} [m/s]; 21 numbers for n = 5
    u             [3]         velocity of the free end [m/s]

The second term of a_k is friction inside a link, square in each component of the rate at which the link changes: a drag
as between turbulent layers. It acts on both ends against that change, so it takes energy out. C is an acceleration per
squared velocity, 1/m, and not divided by m: the force is m C |ḋ| ∘ ḋ. (It depends on the axes, unlike a real one.)

A chain at rest has the tensions T_k = T_1 + (k - 1) m g e_z and the links d_k = T_k (1/D + L/‖T_k‖), which have to lead
to the free end: three equations for T_1, whose left side is the derivative of the strictly convex

    Φ(T_1) = Σ_k ‖T_k‖² / 2D + L ‖T_k‖

so there is at most one solution with all links under tension, and Newton's method finds it. There is none where a link
would hang slack: with the free end within L of certain points on the vertical through the anchor. Starts and target are
far from them, as one weight stretches a spring by ten times its length.

Reference: L. Wirsching, H. G. Bock, M. Diehl, "Fast NMPC of a chain of masses connected by springs", CCA 2006, without
the friction; numbers and friction are those of leap-c (https://github.com/leap-c/leap-c).
"""

import math
from typing import TYPE_CHECKING, Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from planahead.problem import Bounds, Problem, parameter, rk4, static
from planahead.tasks.environment import Environment, StepInfo, Transition, check_constants, constant
from planahead.tasks.task import Definition, Interface, Task, check_choice, with_stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What the world and the planner's model of it agree on.
MASSES = 5
GRAVITY = 9.81  # m/s²
MASS = 0.033  # kg
STIFFNESS = 1.0  # N/m
REST_LENGTH = 0.033  # m
FRICTION = 0.1  # 1/m
SPEED_LIMIT = 1.0  # m/s
TIME_STEP = 0.05  # s
NEWTON_STEPS = 8  # for chains of 3 to 12 masses, five are enough for all the digits of float64


def state_size(masses: int) -> int:
    return 6 * masses - 9


def state_names(masses: int) -> tuple[str, ...]:
    """p₂…p_n and v₂…v_{n-1}, each in x, y and z."""
    positions = [f"{axis} of mass {mass} [m]" for mass in range(2, masses + 1) for axis in "xyz"]
    return (*positions, *(f"velocity {axis} of mass {mass} [m/s]" for mass in range(2, masses) for axis in "xyz"))


def split(masses: int, x: Float[Array, " nx"]) -> tuple[Float[Array, "links 3"], Float[Array, "inner 3"]]:
    """Positions and velocities."""
    return jnp.reshape(x[: 3 * masses - 3], (-1, 3)), jnp.reshape(x[3 * masses - 3 :], (-1, 3))


def chain_ode(body: "Chain | ChainProblem", x: Float[Array, " nx"], u: Float[Array, " 3"]) -> Float[Array, " nx"]:
    """ẋ of a chain with the constants of `body`."""
    positions, velocities = split(body.masses, x)
    velocities = jnp.concatenate([velocities, u[None]])
    anchor = jnp.zeros((1, 3))
    links = jnp.diff(positions, axis=0, prepend=anchor)
    rates = jnp.diff(velocities, axis=0, prepend=anchor)
    spring = body.stiffness / body.mass * (1 - body.rest_length / _length(links)) * links
    acceleration = spring + body.friction * jnp.abs(rates) * rates
    weight = body.gravity * jnp.array([[0.0, 0.0, -1.0]])
    return jnp.concatenate([velocities.ravel(), (weight - acceleration[:-1] + acceleration[1:]).ravel()])


def resting_chain(body: "Chain | ChainProblem", end: Float[Array, " 3"]) -> Float[Array, " nx"]:
    """The state of a chain that is at rest with its free end at `end`.

    >>> import jax.numpy as jnp
    >>> x = resting_chain(Chain(masses=3), jnp.array([0.066, 0.0, 0.0]))
    >>> print(f"the mass in the middle hangs {-100 * x[2]:.1f} cm below both ends")
    the mass in the middle hangs 19.4 cm below both ends
    """
    number = jnp.arange(body.masses - 1.0)
    weight = body.mass * body.gravity * jnp.array([0.0, 0.0, 1.0])

    def links(first: Float[Array, " 3"]) -> Float[Array, "links 3"]:
        tension = first[None] + number[:, None] * weight[None]
        return tension * (1 / body.stiffness + body.rest_length / _length(tension))

    def miss(first: Float[Array, " 3"]) -> Float[Array, " 3"]:
        return jnp.sum(links(first), axis=0) - end

    def newton(_: Any, first: Float[Array, " 3"]) -> Float[Array, " 3"]:
        step = jnp.linalg.solve(jax.jacfwd(miss)(first), -miss(first))
        # Along Newton's direction the miss shrinks at first; of these lengths, the best one.
        trials = first[None] + jnp.array([[1.0], [0.5], [0.2], [0.05], [0.0]]) * step[None]
        return trials[jnp.argmin(jnp.sum(jax.vmap(miss)(trials) ** 2, axis=1))]

    springs = body.masses - 1
    # The tension if links had no length at rest; a little sideways, since no derivative exists where a tension is zero.
    first = body.stiffness / springs * end - (springs - 1) / 2 * weight + 1e-3 * weight[jnp.array([2, 0, 1])]
    first = jax.lax.fori_loop(0, NEWTON_STEPS, newton, first)
    positions = jnp.cumsum(links(first), axis=0)
    return jnp.concatenate([positions.ravel(), jnp.zeros(3 * body.masses - 6)])


def resting_end(body: "Chain | ChainProblem") -> Float[Array, " 3"]:
    """Where the free end is to rest: level with the anchor, as far as the springs are long."""
    return body.rest_length * (body.masses - 1) * jnp.array([1.0, 0.0, 0.0])


class ChainState(eqx.Module):
    """How the chain hangs, where it is to hang, and how long it has been going."""

    x: Float[Array, " nx"]
    """Positions [m] and velocities [m/s]."""
    target: Float[Array, " nx"]
    """The same at rest with the free end where it belongs."""
    step: Int[Array, ""]
    """Steps since the start."""


@final
class Chain(Environment[ChainState]):
    """The world: a chain of `masses`, at least 3, fixed at one end and moved at the other.

    Observation: p_2…p_n [m], v_2…v_{n-1} [m/s]; unbounded.
    Action: velocity of the free end [m/s] within ±1 in every direction, clipped.
    Reward: -10 (‖p_n - p_target‖₁ + 0.1 ‖v‖₂) of the new state, p_target = ((n - 1) L, 0, 0).
    Terminates: never, unless the state is no number.
    Truncates: after 200 steps (10 s), unless the last one terminates.
    Success: the state is within `success_distance` (0.1, in m and m/s) of rest at the target, in the 2-norm.
    Violation: the state is no number.
    Start: at rest with the free end at r (cos φ sin θ, sin φ sin θ, cos θ), r = (n - 1) L, where θ is uniform within
        ±`start_spread` (π/4) and φ within a third of it around π/4.

    >>> import jax, jax.numpy as jnp
    >>> environment = Chain()
    >>> state = environment.reset(jax.random.key(0))
    >>> transition = environment.step(state, jnp.zeros(3), jax.random.key(1))
    >>> print(f"a chain at rest stays there: it moved by {jnp.abs(transition.state.x - state.x).max():.3f}")
    a chain at rest stays there: it moved by 0.000
    """

    gravity: Array = constant(GRAVITY)  # m/s²
    mass: Array = constant(MASS, positive=True)  # kg
    stiffness: Array = constant(STIFFNESS, positive=True)  # N/m
    rest_length: Array = constant(REST_LENGTH, positive=True)  # m
    friction: Array = constant(FRICTION)  # 1/m
    success_distance: Array = constant(0.1, positive=True)  # m, m/s
    start_spread: Array = constant(math.pi / 4)  # rad

    masses: int = static(MASSES)
    action_names: tuple[str, ...] = static(tuple(f"velocity {axis} of the free end [m/s]" for axis in "xyz"))
    action_low: tuple[float, ...] = static((-SPEED_LIMIT,) * 3)
    action_high: tuple[float, ...] = static((SPEED_LIMIT,) * 3)
    time_step: float = static(TIME_STEP)  # s
    episode_steps: int = static(200)
    published: bool = static(False)
    """Whether actions are taken as they come, as in the published world, and not clipped."""

    # These follow from the number of masses.
    observation_names: tuple[str, ...] = static(())
    observation_low: tuple[float, ...] = static(())
    observation_high: tuple[float, ...] = static(())
    observation_scale: tuple[float, ...] = static(())
    """Springs this soft stretch by a third of a metre under one mass, ten times as long as they are at rest."""

    def __post_init__(self):
        _check_masses(self)
        self.observation_names = state_names(self.masses)
        self.observation_low = (-math.inf,) * state_size(self.masses)
        self.observation_high = (math.inf,) * state_size(self.masses)
        self.observation_scale = (0.5,) * (3 * self.masses - 3) + (1.0,) * (3 * self.masses - 6)

    def ode(self, x: Float[Array, " nx"], u: Float[Array, " 3"]) -> Float[Array, " nx"]:
        return chain_ode(self, x, u)

    def reset(self, key: PRNGKeyArray) -> ChainState:
        theta, phi = self.start_spread * jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        phi = math.pi / 4 + phi / 3
        direction = jnp.stack([jnp.cos(phi) * jnp.sin(theta), jnp.sin(phi) * jnp.sin(theta), jnp.cos(theta)])
        reach = self.rest_length * (self.masses - 1)
        ends = jnp.stack([reach * direction, resting_end(self)])
        x, target = jax.vmap(lambda end: resting_chain(self, end))(ends)
        return ChainState(x=x, target=target, step=jnp.array(0))

    def observe(self, state: ChainState) -> Float[Array, " nx"]:
        return state.x

    def step(self, state: ChainState, action: Float[Array, " 3"], key: PRNGKeyArray) -> Transition[ChainState]:
        del key  # The world is deterministic.
        low, high = jnp.asarray(self.action_low), jnp.asarray(self.action_high)
        x = rk4(self.ode, state.x, action if self.published else jnp.clip(action, low, high), self.time_step)
        new = ChainState(x=x, target=state.target, step=state.step + 1)
        positions, velocities = split(self.masses, x)
        far = jnp.sum(jnp.abs(positions[-1] - split(self.masses, state.target)[0][-1]))
        number = jnp.all(jnp.isfinite(x))
        return Transition(
            state=new,
            observation=self.observe(new),
            reward=-10 * (far + 0.1 * jnp.linalg.norm(velocities)),
            terminated=~number,
            truncated=number & (new.step >= self.episode_steps),
            info=StepInfo(
                violation=~number, success=number & (jnp.linalg.norm(x - state.target) < self.success_distance)
            ),
        )

    def draw(self, axes: "Axes", state: ChainState, *, alpha: float = 1.0) -> None:
        """Seen from above the front; the shadow lies on the floor under the chain."""

        def chain(x: Array) -> np.ndarray:
            return np.concatenate([np.zeros((1, 3)), np.asarray(split(self.masses, x)[0])])

        def seen(points: Any) -> np.ndarray:
            points = np.asarray(points, float)
            return np.stack([points[..., 0] + 0.45 * points[..., 1], points[..., 2] + 0.28 * points[..., 1]])

        points, target = chain(state.x), chain(state.target)
        floor = 1.3 * target[:, 2].min()
        size = -0.4 * floor
        for line in np.linspace(-size, size, 7):
            ends = ([[line, -size, floor], [line, size, floor]], [[-size, line, floor], [size, line, floor]])
            for end in ends:
                axes.plot(*seen(end), color="0.88", linewidth=0.8, zorder=0)
        shadow = np.column_stack([points[:, :2], np.full(len(points), floor)])
        axes.plot(*seen(shadow), "o-", color="0.8", markersize=4, linewidth=1.5, alpha=alpha, zorder=1)
        axes.plot(*seen(target), "o:", color="#15803d", markersize=4, linewidth=1.2, alpha=0.6, zorder=2)
        axes.plot(*seen(points), color="0.35", linewidth=1.8, alpha=alpha, zorder=3)
        axes.plot(*seen(points[1:-1]), "o", color="tab:blue", markersize=9, alpha=alpha, zorder=4)
        axes.plot(*seen(points[-1:]), "o", color="tab:red", markersize=10, alpha=alpha, zorder=5)
        axes.plot(*seen(points[:1]), "s", color="0.2", markersize=9, zorder=5)
        axes.set(xlim=(-1.5 * size, 1.5 * size), ylim=(floor - 0.35 * size, 0.6 * size), aspect="equal")
        axes.set_axis_off()


@final
class ChainProblem(Problem):
    """What the planner believes and wants: the same chain, and ½ (‖Q (x - x_ref)‖² + ‖R u‖²) over a second.

    Q = diag(`state_weight_root`), R = diag(`control_weight_root`), and x_ref is the chain at rest at its target; the
    last stage has the cost of the state alone. Only the velocity of the free end is bounded.

    A stage is as long as a step of the world, 0.05 s. The published problem has stages of 0.0125 s, so that its plan
    lets go of the first control after a quarter of the time for which the world holds it, its second state is not the
    world's next one, and a plan shifted by a stage is no guess for the next. Its horizon of 20 stages is kept.
    """

    horizon: int = static(20)
    control_size: int = static(3)
    time_step: float = static(TIME_STEP)  # s
    masses: int = static(MASSES)
    state_size: int = static(0)  # follows from the number of masses

    state_weight_root: Array = parameter(1.0, low=0.5, high=1.5)
    """`[nx]`; a single number stands for all."""
    control_weight_root: Array = parameter((0.1,) * 3, low=0.05, high=0.15)
    gravity: Array = constant(GRAVITY)  # m/s²
    mass: Array = constant(MASS, positive=True)  # kg
    stiffness: Array = constant(STIFFNESS, positive=True)  # N/m
    rest_length: Array = constant(REST_LENGTH, positive=True)  # m
    friction: Array = constant(FRICTION)  # 1/m
    reference: Array | None = eqx.field(default=None, kw_only=True)
    """x_ref, `[nx]`: positions [m], velocities [m/s]; the chain at rest at its target unless given."""

    def __post_init__(self):
        _check_masses(self)
        self.state_size = state_size(self.masses)
        if np.ndim(self.state_weight_root) == 0:
            self.state_weight_root = jnp.full(self.state_size, self.state_weight_root, float)
        if self.reference is None:
            self.reference = resting_chain(self, resting_end(self))

    def __check_init__(self):
        check_constants(self)
        if self.x_ref.shape != (self.state_size,):
            raise ValueError(
                f"ChainProblem has {self.masses} masses and a reference of shape {self.x_ref.shape}; "
                f"({self.state_size},) was expected. Leave it out for the chain at rest."
            )

    @classmethod
    def published(cls, masses: int = MASSES) -> "ChainProblem":
        """The problem as published, with stages of 0.0125 s."""
        return cls(masses=masses, time_step=0.0125)

    @property
    def x_ref(self) -> Float[Array, " nx"]:
        assert self.reference is not None
        return self.reference

    def ode(self, x: Float[Array, " nx"], u: Float[Array, " 3"]) -> Float[Array, " nx"]:
        return chain_ode(self, x, u)

    def dynamics(self, x: Float[Array, " nx"], u: Float[Array, " 3"]) -> Float[Array, " nx"]:
        return rk4(self.ode, x, u, self.time_step)

    def stage_residual(self, x: Float[Array, " nx"], u: Float[Array, " 3"]) -> Float[Array, " residuals"]:
        return jnp.concatenate([self.terminal_residual(x), self.control_weight_root * u])

    def terminal_residual(self, x: Float[Array, " nx"]) -> Float[Array, " nx"]:
        return self.state_weight_root * (x - self.x_ref)

    def control_bounds(self) -> Bounds:
        return Bounds(-SPEED_LIMIT, SPEED_LIMIT)


@final
class ChainTask(Task[Chain, ChainProblem]):
    """Hold a chain of five masses by one end and bring it to rest: 21 states, and a planner with the right model.

    **Arguments:**

    - `environment`, `problem`: replace the defaults.
    - `masses`: how many, where they are not replaced.
    - `definition`: `"published"` takes the planning problem with stages of 0.0125 s, and a world that does not clip.
    - `interface`: `"global"` has 24 learned parameters for five masses. `"stage"` has 420: the 21 weights of the states
        at each of the stages 1…20. The weights of the control stay where they are then, since only ratios of weights
        matter; and the first state is given, so its weight moves no plan.
    """

    environment: Chain
    problem: ChainProblem
    name: str = static("chain")
    learned_parameters: tuple[str, ...] = static(("state_weight_root", "control_weight_root"))
    state_names: tuple[str, ...] = static()

    def __init__(
        self,
        environment: Chain | None = None,
        problem: ChainProblem | None = None,
        *,
        masses: int = MASSES,
        definition: Definition = "corrected",
        interface: Interface = "global",
    ):
        check_choice(self, "definition", definition, Definition)
        check_choice(self, "interface", interface, Interface)
        published = definition == "published"
        if published and problem is not None:
            raise ValueError("ChainTask got definition='published' and a problem; leave one of them out.")
        self.environment = Chain(masses=masses, published=published) if environment is None else environment
        masses = self.environment.masses
        if problem is None:
            problem = ChainProblem.published(masses) if published else ChainProblem(masses=masses)
        if problem.masses != masses:
            raise ValueError(f"ChainTask got a chain of {masses} masses and a problem of {problem.masses}.")
        self.learned_parameters = ("state_weight_root", "control_weight_root")
        if interface == "stage":
            problem = with_stages(problem, {"state_weight_root": range(1, problem.horizon + 1)})
            self.learned_parameters = ("state_weight_root",)
        self.problem = problem
        self.state_names = state_names(masses)

    def planner_state(self, observation: Float[Array, " nx"]) -> Float[Array, " nx"]:
        return observation


def _length(vectors: Float[Array, "rows 3"]) -> Float[Array, "rows 1"]:
    """Euclidean, with a derivative also where a link has no length."""
    return jnp.sqrt(jnp.sum(vectors**2, axis=-1, keepdims=True) + 1e-18)


def _check_masses(body: "Chain | ChainProblem") -> None:
    if body.masses < 3:
        raise ValueError(f"{type(body).__name__} got masses={body.masses}; at least 3 were expected.")
