r"""Single shooting: the states are a function of the controls, and the controls are all there is to find.

    minimise over U = (u_0 … u_{N-1})   Σ_k γ^k [ℓ + ½‖r‖²](x_k(U), u_k) + γ^N [ℓ_N + ½‖r_N‖²](x_N(U))
    x_0 = state,   x_{k+1}(U) = f(x_k(U), u_k),      bounds on states become constraints on U

As a problem of one stage with N nu controls and a state that means nothing, so that planners, derivatives and kernels
stay what they are. Its QP has N nu variables without structure: for horizons of a few steps with more states than
controls that is less work than a stage-structured one (quadrotor with 10 states and 4 controls, N = 2: 8 variables
instead of 38); it grows with N³ where that grows with N. Unstable dynamics over long horizons are not for it.

    symbol  shape    meaning
    U       [N nu]   all controls, stage by stage
    d       [N+1 nx] a displacement of every state, 0: the costates are the derivatives with respect to it
"""

from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from planahead.planning import transcription
from planahead.planning.elastic import violations
from planahead.planning.plan import Guess, Multipliers, Plan
from planahead.problem import Bounds, Problem, Slack, at_stage, map_stages, overrides, scan_stages, static
from planahead.qp.types import price_of_violations


class Shot(Problem):
    """A problem with its initial state, as a function of its controls alone; abstract, since a problem's class says
    which costs it has."""

    leaves: list[Any] = eqx.field(kw_only=True)
    """Of the problem: its values per stage are not those of this one's stages."""
    structure: Any = static()
    """How they make the problem: what `jax.tree.flatten` says."""
    state: Array = eqx.field(kw_only=True)

    @property
    def problem(self) -> Problem:
        return jax.tree.unflatten(self.structure, self.leaves)

    def dynamics(self, x: Float[Array, " 1"], u: Float[Array, " controls"]) -> Float[Array, " 1"]:
        del u
        return x

    def stage_residual(self, x: Float[Array, " 1"], u: Float[Array, " controls"]) -> Float[Array, " residuals"]:
        controls, states = self.controls(u), self.states(u)
        weights = jnp.sqrt(transcription.stage_weights(self.problem, states.dtype))
        stages = map_stages(
            lambda stage, weight, x, u: weight * jnp.ravel(stage.stage_residual(x, u)),
            self.problem,
            weights[:-1],
            states[:-1],
            controls,
        )
        last = weights[-1] * jnp.ravel(at_stage(self.problem, -1).terminal_residual(states[-1]))
        return jnp.concatenate([jnp.ravel(stages), last])

    def initial_cost(self, x: Float[Array, " 1"]) -> Float[Array, ""]:
        del x
        return transcription.initial_cost(self.problem, self.state)

    def control_bounds(self) -> Bounds:
        nu = self.problem.control_size
        data = self._data()
        slack = Slack(jnp.ravel(data.linear[:-1, :nu]), jnp.ravel(data.quadratic[:-1, :nu]))
        return Bounds(jnp.ravel(data.bound[:-1, 0, :nu]), -jnp.ravel(data.bound[:-1, 1, :nu]), slack)

    def control_guess(self) -> Float[Array, " controls"]:
        return jnp.ravel(map_stages(lambda stage: stage.control_guess(), self.problem))

    def constraints(self, x: Float[Array, " 1"], u: Float[Array, " controls"]) -> Float[Array, " rows"]:
        """b - σ h of all rows but those of the controls; where there turns out to be no bound, -1."""
        rows = self.rows()
        z = transcription.join(self.controls(u), self.states(u))
        values = transcription.row_values(self.problem, z, transcription.general_size(self.problem))
        bound = self._data().bound[rows.node, rows.side, rows.row]
        exists = jnp.isfinite(bound)
        signed = jnp.asarray(np.where(rows.side == 0, 1.0, -1.0), u.dtype) * values[rows.node, rows.row]
        return jnp.where(exists, jnp.where(exists, bound, 0.0) - signed, -1.0)

    def constraint_slack(self) -> Slack | None:
        rows = self.rows()
        if rows.row.size == 0:
            return None
        data = self._data()
        exists = jnp.isfinite(data.bound[rows.node, rows.side, rows.row])
        prices = (price[rows.node, rows.row] for price in (data.linear, data.quadratic))
        return Slack(*(jnp.where(exists, price, 1.0) for price in prices))

    def rows(self) -> "Rows":
        """The rows that become constraints: bounds of states that are not known to be infinite, and general rows."""
        nu, nx, N = self.problem.control_size, self.problem.state_size, self.problem.horizon
        inner, last = at_stage(self.problem, 0).state_bounds(), at_stage(self.problem, -1).terminal_bounds()
        stage_rows, last_rows = transcription.constraint_sizes(self.problem)
        found = []
        for node in range(N + 1):
            if node > 0:
                bounds = last if node == N else inner
                for side, value in enumerate((bounds.lower, bounds.upper)):
                    found += [(node, side, nu + int(row)) for row in np.flatnonzero(_may_be_finite(value, nx))]
            found += [(node, 1, nu + nx + row) for row in range(last_rows if node == N else stage_rows)]
        node, side, row = np.array(found, int).reshape(-1, 3).T
        return Rows(node, side, row)

    @property
    def trajectory_size(self) -> int:
        """Numbers in a trajectory of the problem."""
        return (self.problem.horizon + 1) * (self.problem.state_size + self.problem.control_size)

    def controls(self, u: Float[Array, " controls"]) -> Float[Array, "N nu"]:
        return u.reshape(self.problem.horizon, self.problem.control_size)

    def states(self, u: Float[Array, " controls"], displacement: Array | None = None) -> Float[Array, "nodes nx"]:
        """The trajectory under `u`, every state displaced where that is asked for."""
        d = jnp.zeros((self.problem.horizon + 1, self.problem.state_size), u.dtype)
        d = d if displacement is None else displacement

        def follow(x, stage, inputs):
            control, moved = inputs
            return stage.dynamics(x, control) + moved, None

        return scan_stages(follow, self.problem, self.state + d[0], (self.controls(u), d[1:]), unroll=2)[0]

    def _data(self) -> transcription.RowData:
        size = transcription.general_size(self.problem)
        return transcription.row_data(self.problem, size, self.state.dtype, pinned=False)


class Rows(NamedTuple):
    """Indices of rows of the whole problem."""

    node: np.ndarray
    side: np.ndarray
    row: np.ndarray


def _may_be_finite(bound: Any, size: int) -> np.ndarray:
    """Which entries of a bound are not known to be infinite while a program is traced."""
    known = not isinstance(bound, jax.Array)
    return np.broadcast_to(np.isfinite(np.asarray(bound, float)) if known else True, size)


@final
class Squares(Shot):
    """A problem whose costs are residuals alone."""

    horizon: int = static(1)
    state_size: int = static(1)
    control_size: int = static()


@final
class Scalars(Shot):
    """A problem with scalar costs, whose convex part has to be found."""

    horizon: int = static(1)
    state_size: int = static(1)
    control_size: int = static()

    def stage_cost(self, x: Float[Array, " 1"], u: Float[Array, " controls"]) -> Float[Array, ""]:
        del x
        problem, states = self.problem, self.states(u)
        weights = transcription.stage_weights(problem, u.dtype)
        costs = map_stages(
            lambda stage, x, u: jnp.reshape(stage.stage_cost(x, u), ()), problem, states[:-1], self.controls(u)
        )
        last = jnp.reshape(at_stage(problem, -1).terminal_cost(states[-1]), ())
        return jnp.sum(weights[:-1] * costs) + weights[-1] * last


def shot(problem: Problem, state: Float[Array, " nx"]) -> Shot:
    """`problem` from `state` with its controls alone to find."""
    scalars = overrides(problem, "stage_cost") or overrides(problem, "terminal_cost")
    kind = Scalars if scalars else Squares
    leaves, structure = jax.tree.flatten(problem)
    size = problem.horizon * problem.control_size
    return kind(leaves=leaves, structure=structure, state=state, control_size=size)


def shot_guess(guess: Guess) -> Guess:
    """The controls of a guess; its states are not used."""
    return Guess(jnp.zeros((2, 1), guess.controls.dtype), jnp.ravel(guess.controls)[None])


def whole_plan(problem: Problem, state: Float[Array, " nx"], found: Plan) -> Plan:
    """The plan of `problem` from `state` that the plan `found` for its `shot` stands for."""
    current = shot(problem, state)
    nx, nu = problem.state_size, problem.control_size
    N, general = problem.horizon, transcription.general_size(problem)
    stage_rows, last_rows = transcription.constraint_sizes(problem)
    U = found.controls[0]
    which = current.rows()
    data = transcription.row_data(problem, general, U.dtype, pinned=False)
    exists = jnp.isfinite(data.bound[which.node, which.side, which.row])
    rows = jnp.zeros((N + 1, 2, nx + general), U.dtype)
    rows = rows.at[which.node, which.side, which.row - nu].set(jnp.where(exists, found.multipliers.constraints[0], 0.0))

    # Of the violations as they are: those of rows that turned out not to exist have a price inside the solve.
    z = transcription.join(current.controls(U), current.states(U))
    violated = violations(data.bound, transcription.row_values(problem, z, general))
    prices = price_of_violations(data.linear, data.quadratic, violated)
    cost = transcription.initial_cost(problem, state) + transcription.objective(problem, z) + prices

    def lagrangian(displacement: Array) -> Array:
        z = transcription.join(current.controls(U), current.states(U, displacement))
        values = transcription.row_values(problem, z, general)[:, nu:]
        paid = transcription.initial_cost(problem, z[0, nu:]) + transcription.objective(problem, z)
        return paid - jnp.sum((rows[:, 0] - rows[:, 1]) * values)

    return Plan(
        states=current.states(U),
        controls=current.controls(U),
        cost=cost,
        status=found.status,
        gradient_valid=found.gradient_valid,
        iterations=found.iterations,
        residual=found.residual,
        violation=found.violation,
        multipliers=Multipliers(
            costates=jax.grad(lagrangian)(jnp.zeros((N + 1, nx), U.dtype)),
            control_bounds=jnp.moveaxis(found.multipliers.control_bounds[0].reshape(2, N, nu), 0, 1),
            state_bounds=rows[:, :, :nx],
            constraints=rows[:-1, 1, nx : nx + stage_rows],
            terminal_constraints=rows[-1, 1, nx : nx + last_rows],
        ),
    )
