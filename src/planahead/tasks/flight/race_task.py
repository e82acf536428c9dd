"""Racing as a task: the world of `race.py`, and the planner of `race_problem.py` that flies in it."""

from typing import final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.problem import static
from planahead.problem.rotation import from_matrix, matrix
from planahead.tasks.flight.gates import Track
from planahead.tasks.flight.quadrotor import PLANTS, Plant
from planahead.tasks.flight.race import Race, Starts
from planahead.tasks.flight.race_models import MODELS, ModelName
from planahead.tasks.flight.race_problem import Cost, RaceProblem
from planahead.tasks.flight.vector import length
from planahead.tasks.task import Imagined, Interface, Task, check_choice, with_stages

_ROUNDING = 1e-3  # N, rad/s
_SPEED_MARGIN = 0.98
"""Of the speed limit, what a planner that keeps to it plans with: the limit is soft, and linearised where a plan starts
from, so plans exceed theirs by 1 %. A policy that had learned without a limit was above 20 m/s in 14 % of its steps,
with the limit in its planner in 6 %, and with this margin in 0.01 %."""


@final
class RaceTask(Task[Race, RaceProblem]):
    """Fly through gates with a planner that looks a few steps ahead.

    **Arguments:**

    - `environment`, `problem`: replace the defaults; `track`, `plant`, `starts`, `episode_steps` and `observes_rates`
      are for a world that is not given, `horizon`, `model`, `cost` and `limits_speed` for a problem that is not.
    - `track`: of `gates.TRACKS`.
    - `plant`: `"nominal"` is what the planner believes; `"realistic"` has rotors with a lag, a rate loop, drag, delay.
    - `starts`: `"grid"`, or `"anywhere"` to train from all over the track.
    - `episode_steps`: until an episode is cut, 20 s. Of long ones few steps are near a start, and a policy that has
      learned to fly on may forget how to begin; 400 in training brings starts back.
    - `observes_rates`: whether a policy sees the body rates, as a gyroscope measures them.
    - `horizon`: of the planner, steps of 20 ms.
    - `model`: `"rates"` plans commands; `"rotors"` plans the four rotor thrusts, from body rates that are observed, see
      `race_models.py`.
    - `cost`: what a policy writes, see `race_problem.py`: `"diagonal"`, `"cholesky"` or `"full"`.
    - `limits_speed`: whether the planner keeps to the world's `speed_limit`, less a margin of 2 %; going faster is a
      violation, and costs reward, anyway.
    - `interface`: `"stage"` has the learned parameters for each stage, `"global"` once for all.

    >>> RaceTask(track="circle").name
    'race-circle'
    """

    environment: Race
    problem: RaceProblem
    name: str = static()
    learned_parameters: tuple[str, ...] = static()
    state_names: tuple[str, ...] = static()

    def __init__(
        self,
        environment: Race | None = None,
        problem: RaceProblem | None = None,
        *,
        track: Track = "split-s",
        plant: Plant = "nominal",
        starts: Starts = "grid",
        episode_steps: int = 1000,
        observes_rates: bool = False,
        horizon: int = 2,
        model: ModelName = "rates",
        cost: Cost = "diagonal",
        limits_speed: bool = False,
        interface: Interface = "stage",
    ):
        check_choice(self, "track", track, Track)
        check_choice(self, "plant", plant, Plant)
        check_choice(self, "starts", starts, Starts)
        check_choice(self, "interface", interface, Interface)
        check_choice(self, "model", model, ModelName)
        if environment is None:
            seen = observes_rates or model == "rotors"
            world = {"starts": starts, "episode_steps": episode_steps, "observes_rates": seen}
            environment = Race.on(track, vehicle=PLANTS[plant](), **world)
        self.environment = environment
        if problem is None:
            settings = {"horizon": horizon, "cost": cost, "limits_speed": limits_speed}
            problem = RaceProblem.of(MODELS[model](), speed_limit=_SPEED_MARGIN * environment.speed_limit, **settings)
        if problem.state_size > 10 and not environment.observes_rates:
            raise ValueError(
                "RaceTask got a problem whose states include body rates, and a Race whose observations do not; use "
                "Race.on(track, observes_rates=True)."
            )
        learned, N = problem.learned(), problem.horizon
        if interface == "stage":
            problem = with_stages(
                problem, {name: range(1, N + 1) if state else range(N) for name, state in learned.items()}
            )
        self.problem = problem
        self.name = f"race-{track}"
        self.learned_parameters = tuple(learned)
        self.state_names = problem.model.state_names

    def planner_state(self, observation: Float[Array, " observation"]) -> Float[Array, " nx"]:
        """Position from the next gate's centre, attitude with w >= 0, velocity, and body rates where the model has
        them."""
        velocity, attitude, corners = observation[:3], observation[3:12], observation[12:24]
        position = -jnp.mean(corners.reshape(4, 3), axis=0)
        rates = observation[36:][: self.problem.state_size - 10]
        return jnp.concatenate([position, from_matrix(attitude.reshape(3, 3)), velocity, rates])

    def imagined(
        self, observation: Float[Array, " observation"], states: Float[Array, "nodes nx"], controls: Float[Array, "N 4"]
    ) -> Imagined:
        """Up to the next gate: what passing or hitting it leads to is not known, nor what a command beyond the limits
        does. Where the arena ends is not seen, so steps beyond it count as known.

        The controls are flown anew from the first state: the states of a plan that is one iteration from its guess need
        not follow one another."""

        def advance(x: Array, u: Array) -> tuple[Array, tuple[Array, Array]]:
            command = self.problem.action(x, u)
            x = self.problem.dynamics(x, u)
            return x, (x, command)

        after, commands = jax.lax.scan(advance, states[0], controls)[1]
        states = jnp.concatenate([states[:1], after])
        corners = observation[12:24].reshape(4, 3)
        corners = corners - jnp.mean(corners, axis=0, keepdims=True)
        normal = jnp.cross(corners[0] - corners[1], corners[1] - corners[2])
        positions, race = states[:, :3], self.environment
        rates = jnp.concatenate([observation[None, 36:], commands[:, 1:][:, : observation.size - 36]])

        def observe(x: Array, rates: Array) -> Array:
            parts = x[7:10], jnp.ravel(matrix(x[3:7])), jnp.ravel(corners - x[None, :3]), observation[24:36], rates
            return jnp.concatenate(parts)

        distances = jax.vmap(length)(positions)
        prices = jax.vmap(race.prices)(commands, states[1:, 7:10])
        ahead = positions @ normal < 0
        low, high = jnp.array(race.action_low)[None], jnp.array(race.action_high)[None]
        obeyed = jnp.all((commands >= low - _ROUNDING) & (commands <= high + _ROUNDING), axis=1)
        return Imagined(
            observations=jax.vmap(observe)(states, rates),
            rewards=distances[:-1] - distances[1:] - prices,
            known=jnp.cumprod(obeyed & ~(ahead[:-1] & ~ahead[1:])).astype(bool),
        )
