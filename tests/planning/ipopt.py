"""The oracle nobody here wrote: an optimal control problem in CasADi symbols, solved by IPOPT.

    minimise    Σ_{k<N} γ^k ℓ(x_k, u_k, k) + γ^N ℓ_N(x_N) + Σ_rows γ^k (a s + ½ b s²)
    subject to  x_0 given,  x_{k+1} = f(x_k, u_k, k),  u̲ <= u_k <= ū,  l - s <= h(x_k, u_k, k) <= h̄ + s,  s >= 0

Multiple shooting: states, controls and the slacks of soft rows are all variables, and nothing is eliminated.
Everything is written apart from the package under test: only the problem's numbers appear in both.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import casadi as ca
import numpy as np
import numpy.typing as npt

Symbol = Any
"""A CasADi column of symbols."""


@dataclasses.dataclass(frozen=True)
class Limit:
    """Rows `lower <= function(x, u, k) <= upper`, hard, or soft at the price `linear · s + ½ quadratic · s²`.

    `stages`: "path" are 0…N-1, "inner" are 1…N-1 (the state is free, there is a control), "terminal" is N (no control).
    """

    function: Callable[[Symbol, Symbol, int], Symbol]
    lower: float = -np.inf
    upper: float = np.inf
    linear: float | None = None
    quadratic: float | None = None
    stages: Literal["path", "inner", "terminal"] = "inner"

    @property
    def soft(self) -> bool:
        return self.linear is not None or self.quadratic is not None

    def applies(self, stage: int, horizon: int) -> bool:
        first, last = {"path": (0, horizon - 1), "inner": (1, horizon - 1), "terminal": (horizon, horizon)}[self.stages]
        return first <= stage <= last


@dataclasses.dataclass(frozen=True)
class Transcription:
    """A problem in CasADi symbols. Costs are minimised; `stage_cost` is not yet discounted."""

    horizon: int
    state_size: int
    control_size: int
    dynamics: Callable[[Symbol, Symbol, int], Symbol]
    stage_cost: Callable[[Symbol, Symbol, int], Symbol]
    terminal_cost: Callable[[Symbol], Symbol] = lambda x: 0.0
    control_lower: npt.ArrayLike = -np.inf
    control_upper: npt.ArrayLike = np.inf
    limits: tuple[Limit, ...] = ()
    discount: float = 1.0
    control_guess: npt.ArrayLike = 0.0

    def solve(self, state: npt.ArrayLike, control: npt.ArrayLike | None = None) -> "Optimum":
        """The optimum from `state`; a `control` pins the first control and drops its bounds and its hard rows."""
        program = _Program()
        x = program.variable(self.state_size, state)
        initial_row, pinned_row = program.rows(x, state, state), None
        cost, states, controls = 0.0, [x], []
        for k in range(self.horizon):
            pinned = k == 0 and control is not None
            guess = np.broadcast_to(self.control_guess, self.control_size)
            bounds = (-np.inf, np.inf) if pinned else (self.control_lower, self.control_upper)
            u = program.variable(self.control_size, control if pinned else guess, *bounds)
            if pinned:
                pinned_row = program.rows(u, control, control)
            cost += self.discount**k * (self.stage_cost(x, u, k) + self._limits(program, x, u, k, pinned))
            following = program.variable(self.state_size, state)
            program.rows(self.dynamics(x, u, k) - following, 0.0, 0.0)
            x = following
            states.append(x)
            controls.append(u)
        last = self._limits(program, x, None, self.horizon, False)
        cost += self.discount**self.horizon * (self.terminal_cost(x) + last)
        found = program.minimise(cost, ca.horzcat(*states), ca.horzcat(*controls))
        return Optimum(
            states=found.states.T,
            controls=found.controls.T,
            cost=found.cost,
            # CasADi's Lagrangian is f + λᵀg with g = x_0, so the cost changes by -λ when the given x_0 does.
            state_gradient=-found.multipliers[initial_row],
            control_gradient=None if pinned_row is None else -found.multipliers[pinned_row],
            strictness=found.strictness,
        )

    def margins(self, optimum: "Optimum") -> np.ndarray:
        """Distance of every bounded control and row to its nearer limit: 0 at it, negative beyond (soft rows only)."""
        distances = []
        for k, x in enumerate(optimum.states):
            u = optimum.controls[k] if k < self.horizon else None
            if u is not None:
                distances.append(np.minimum(u - self.control_lower, self.control_upper - u))
            for limit in self.limits:
                if limit.applies(k, self.horizon):
                    value = np.array(limit.function(ca.DM(x), None if u is None else ca.DM(u), k), float).ravel()
                    distances.append(np.minimum(value - limit.lower, limit.upper - value))
        return np.concatenate(distances)

    def _limits(self, program: "_Program", x: Symbol, u: Symbol | None, stage: int, pinned: bool) -> Symbol:
        """Add the rows of one stage; returns the price of its slacks."""
        price = 0.0
        for limit in self.limits:
            if not limit.applies(stage, self.horizon) or (pinned and not limit.soft):
                continue
            value = limit.function(x, u, stage)
            if not limit.soft:
                program.rows(value, limit.lower, limit.upper)
                continue
            slack = program.variable(value.numel(), np.full(value.numel(), 0.1), 0.0, np.inf)
            program.rows(value + slack, limit.lower, np.inf)
            program.rows(value - slack, -np.inf, limit.upper)
            price += (limit.linear or 0.0) * ca.sum1(slack) + (limit.quadratic or 0.0) / 2 * ca.sumsqr(slack)
        return price


@dataclasses.dataclass(frozen=True)
class Optimum:
    """What IPOPT found, with the derivative of the optimal cost by the given state and the pinned control."""

    states: np.ndarray  # [N+1, nx]
    controls: np.ndarray  # [N, nu]
    cost: float
    state_gradient: np.ndarray  # [nx]
    control_gradient: np.ndarray | None  # [nu]
    strictness: float
    """Smallest over all inequalities of the larger of distance and multiplier; 0 where one is about to change sides."""


@dataclasses.dataclass(frozen=True)
class _Found:
    states: np.ndarray
    controls: np.ndarray
    cost: float
    multipliers: np.ndarray
    strictness: float


class _Program:
    """A nonlinear program under construction: variables with bounds, rows with bounds."""

    def __init__(self):
        self._variables, self._guess, self._variable_bounds = [], [], []
        self._rows, self._row_bounds = [], []

    def variable(self, size: int, guess: Any, lower: Any = -np.inf, upper: Any = np.inf) -> Symbol:
        symbol = ca.SX.sym(f"v{len(self._variables)}", size)
        self._variables.append(symbol)
        self._guess.append(np.broadcast_to(guess, size))
        self._variable_bounds.append((np.broadcast_to(lower, size), np.broadcast_to(upper, size)))
        return symbol

    def rows(self, value: Symbol, lower: Any, upper: Any) -> slice:
        start, size = sum(row.numel() for row in self._rows), value.numel()
        self._rows.append(value)
        self._row_bounds.append((np.broadcast_to(lower, size), np.broadcast_to(upper, size)))
        return slice(start, start + size)

    def minimise(self, cost: Symbol, states: Symbol, controls: Symbol) -> _Found:
        variables = ca.vertcat(*self._variables)
        settings = {
            "print_time": False,
            "ipopt.print_level": 0,
            "ipopt.sb": "yes",
            "ipopt.tol": 1e-11,
            "ipopt.constr_viol_tol": 1e-11,
            "ipopt.compl_inf_tol": 1e-11,
            "ipopt.dual_inf_tol": 1e-9,
            "ipopt.acceptable_iter": 0,
            "ipopt.bound_relax_factor": 0.0,  # IPOPT's default widens every bound by 1e-8
            "ipopt.max_iter": 1000,
        }
        solver = ca.nlpsol("solver", "ipopt", {"x": variables, "f": cost, "g": ca.vertcat(*self._rows)}, settings)
        (lbx, ubx), (lbg, ubg) = (
            [np.concatenate(side) for side in zip(*bounds, strict=True)]
            for bounds in (self._variable_bounds, self._row_bounds)
        )
        answer = solver(x0=np.concatenate(self._guess), lbx=lbx, ubx=ubx, lbg=lbg, ubg=ubg)
        status = solver.stats()["return_status"]
        if status != "Solve_Succeeded":
            raise RuntimeError(f"IPOPT ended with {status}: the reference problem has to be mended.")
        trajectories = ca.Function("trajectories", [variables], [states, controls])
        found_states, found_controls = trajectories(answer["x"])
        lower, upper = np.concatenate([lbx, lbg]), np.concatenate([ubx, ubg])
        values = np.concatenate([np.array(answer["x"]), np.array(answer["g"])]).ravel()
        multipliers = np.concatenate([np.array(answer["lam_x"]), np.array(answer["lam_g"])]).ravel()
        larger = np.maximum(np.minimum(values - lower, upper - values), np.abs(multipliers))
        return _Found(
            states=np.array(found_states),
            controls=np.array(found_controls),
            cost=float(answer["f"]),
            multipliers=np.array(answer["lam_g"]).ravel(),
            strictness=float(larger[lower < upper].min()),
        )


def casadi_rk4(ode: Callable[[Symbol, Symbol], Symbol], x: Symbol, u: Symbol, time_step: float) -> Symbol:
    """The classical Runge-Kutta rule, written again for CasADi."""
    k1 = ode(x, u)
    k2 = ode(x + 0.5 * time_step * k1, u)
    k3 = ode(x + 0.5 * time_step * k2, u)
    k4 = ode(x + time_step * k3, u)
    return x + time_step * (k1 + 2.0 * k2 + 2.0 * k3 + k4) / 6.0
