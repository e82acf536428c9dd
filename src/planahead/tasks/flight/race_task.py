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
from planahead.tasks.flight.race_problem import STATE_NAMES, Cost, RaceProblem
from planahead.tasks.flight.vector import length
from planahead.tasks.task import Imagined, Interface, Task, check_choice, with_stages


@final
class RaceTask(Task[Race, RaceProblem]):
    """Fly through gates with a planner that looks a few steps ahead.

    **Arguments:**

    - `environment`, `problem`: replace the defaults; `track`, `plant` and `starts` are for a world that is not given,
      `horizon`, `cost` and `limits_speed` for a problem that is not.
    - `track`: of `gates.TRACKS`.
    - `plant`: `"nominal"` is what the planner believes; `"realistic"` has rotors with a lag, a rate loop, drag, delay.
    - `starts`: `"grid"`, or `"anywhere"` to train from all over the track.
    - `horizon`: of the planner, steps of 20 ms.
    - `cost`: what a policy writes, see `race_problem.py`: `"diagonal"`, `"cholesky"` or `"full"`.
    - `limits_speed`: whether the planner keeps to the world's `speed_limit`; going faster is a violation anyway.
    - `interface`: `"stage"` has the learned parameters for each stage, `"global"` once for all.

    >>> RaceTask(track="circle").name
    'race-circle'
    """

    environment: Race
    problem: RaceProblem
    name: str = static()
    learned_parameters: tuple[str, ...] = static()
    state_names: tuple[str, ...] = static(STATE_NAMES)

    def __init__(
        self,
        environment: Race | None = None,
        problem: RaceProblem | None = None,
        *,
        track: Track = "split-s",
        plant: Plant = "nominal",
        starts: Starts = "grid",
        horizon: int = 2,
        cost: Cost = "diagonal",
        limits_speed: bool = False,
        interface: Interface = "stage",
    ):
        check_choice(self, "track", track, Track)
        check_choice(self, "plant", plant, Plant)
        check_choice(self, "starts", starts, Starts)
        check_choice(self, "interface", interface, Interface)
        if environment is None:
            environment = Race.on(track, vehicle=PLANTS[plant](), starts=starts)
        self.environment = environment
        if problem is None:
            limit = environment.speed_limit
            problem = RaceProblem(horizon=horizon, cost=cost, limits_speed=limits_speed, speed_limit=limit)
        learned, N = problem.learned(), problem.horizon
        if interface == "stage":
            problem = with_stages(
                problem, {name: range(1, N + 1) if state else range(N) for name, state in learned.items()}
            )
        self.problem = problem
        self.name = f"race-{track}"
        self.learned_parameters = tuple(learned)

    def planner_state(self, observation: Float[Array, " 36"]) -> Float[Array, " 10"]:
        """Position from the next gate's centre, attitude with w >= 0, velocity."""
        velocity, attitude, corners = observation[:3], observation[3:12], observation[12:24]
        position = -jnp.mean(corners.reshape(4, 3), axis=0)
        return jnp.concatenate([position, from_matrix(attitude.reshape(3, 3)), velocity])

    def imagined(
        self, observation: Float[Array, " 36"], states: Float[Array, "nodes 10"], controls: Float[Array, "N 4"]
    ) -> Imagined:
        """Up to the next gate: what passing or hitting it leads to is not known. Where the arena ends is not seen, so
        steps beyond it count as known.

        The controls are flown anew from the first state: the states of a plan that is one iteration from its guess need
        not follow one another."""

        def advance(x: Array, u: Array) -> tuple[Array, Array]:
            x = self.problem.dynamics(x, u)
            return x, x

        states = jnp.concatenate([states[:1], jax.lax.scan(advance, states[0], controls)[1]])
        corners = observation[12:24].reshape(4, 3)
        corners = corners - jnp.mean(corners, axis=0, keepdims=True)
        normal = jnp.cross(corners[0] - corners[1], corners[1] - corners[2])
        positions = states[:, :3]

        def observe(x: Array) -> Array:
            parts = x[7:10], jnp.ravel(matrix(x[3:7])), jnp.ravel(corners - x[None, :3]), observation[24:]
            return jnp.concatenate(parts)

        distances = jax.vmap(length)(positions)
        rates = jax.vmap(length)(controls[:, 1:])
        ahead = positions @ normal < 0
        return Imagined(
            observations=jax.vmap(observe)(states),
            rewards=distances[:-1] - distances[1:] - self.environment.rate_price * rates,
            known=jnp.cumprod(~(ahead[:-1] & ~ahead[1:])).astype(bool),
        )
