"""The reference problems: what every planner has to solve, each with the same problem in CasADi for IPOPT beside it.

Adding a problem is one entry here; `test_against_ipopt.py`, `test_derivatives.py` and `float32_table.py` run over all.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

import planahead as pa
from tests.planning import reference_linear as linear, reference_nonlinear as nonlinear
from tests.planning.ipopt import Transcription

Point = tuple[float, ...]
HOVER = (1.0,) + 9 * (0.0,)  # attitude, velocity and rates of a quadrotor at rest


@dataclasses.dataclass(frozen=True)
class Reference:
    """One problem, where to solve it, and who says what the answer is."""

    name: str
    build: Callable[[], pa.Problem]
    """Called where the precision of its leaves is decided."""
    oracle: Callable[[], Transcription]
    kind: str
    """What is hard about it, in words."""
    state: Point
    """A start at which constraints are active at the optimum."""
    action: Point
    """The pinned first control of the Q problem; inside the control bounds."""
    inactive: Point | None = None
    """A start at which no constraint is active; `None` where there is none."""
    weak: Point | None = None
    """A start at which one constraint is about to become active, within 1e-5."""
    exact_hessian: bool = False
    """Whether Gauss-Newton has nothing to work with."""
    step: float = 2e-4
    """Of central differences, relative to what is moved: small beside `Optimum.strictness`, large beside the solver's
    error."""
    known_cost: float | None = None
    """An optimal cost somebody else published for `state`."""


REFERENCES = (
    Reference(
        "bounded_control", linear.BoundedControl, linear.bounded_control_oracle, "active input bounds",
        state=(1.18, 0.75), action=(0.3,), inactive=(0.05, 0.02), weak=(0.103024, 0.046791),
    ),
    Reference(
        "hard_state_bound", linear.HardStateBound, linear.hard_state_bound_oracle, "active hard state bound",
        state=(1.24, -0.25), action=(-1.0,), inactive=(0.15, 0.0), weak=(0.30943, 0.0),
    ),
    Reference(
        "soft_state_bound", linear.SoftStateBound, linear.soft_state_bound_oracle, "soft bounds, broken and kept",
        state=(1.24, 0.28), action=(-0.5,),
    ),
    Reference(
        "nonlinear_constraint", linear.NonlinearConstraint, linear.nonlinear_constraint_oracle,
        "nonlinear stage constraints", state=(0.24, 0.12, -0.18, 0.28), action=(0.5, 0.3),
        inactive=(0.95, 0.5, 0.0, 0.0), weak=(0.866314, 0.455955, 0.0, 0.0), exact_hessian=True,
    ),
    Reference(
        "terminal_constraint", linear.TerminalConstraint, linear.terminal_constraint_oracle,
        "terminal box and nonlinear terminal constraint", state=(0.8, 0.3), action=(-1.0,),
        inactive=(0.05, -0.05), weak=(0.094897, -0.029048),
    ),
    Reference(
        "discounted_tracking", linear.discounted_tracking, linear.discounted_tracking_oracle,
        "discount, per-stage parameters", state=(-0.29, 0.22), action=(1.0,),
    ),
    Reference(
        "storage", linear.storage, linear.storage_oracle, "linear cost, optimum in a vertex",
        state=(1.4,), action=(0.2, 0.1), exact_hessian=True,
    ),
    Reference(
        "cart_pole_balance", nonlinear.CartPoleBalance, nonlinear.cart_pole_balance_oracle, "unstable dynamics",
        state=(0.5, 0.3, 0.5, 0.5), action=(-14.0,), inactive=(0.05, 0.05, 0.0, 0.0),
        weak=(0.330701, 0.205945, 0.31189, 0.31189),
    ),
    Reference(
        "obstacle", nonlinear.Obstacle, nonlinear.obstacle_oracle, "hard obstacle (nonconvex)",
        state=(0.04, 0.39, -0.04, 0.71), action=(1.0, 0.5), inactive=(1.9, 0.1, 0.0, 0.1),
    ),
    Reference(
        "soft_obstacle", nonlinear.SoftObstacle, lambda: nonlinear.obstacle_oracle((0.5, 10.0)),
        "soft obstacle (nonconvex)", state=(0.0, 0.1, 0.0, 0.5), action=(1.0, 0.5),
    ),
    Reference(
        "van_der_pol", nonlinear.VanDerPol, nonlinear.van_der_pol_oracle, "cost that is no sum of squares",
        state=(1.18, 0.75), action=(0.3,), inactive=(0.3, 0.1), weak=(0.600441, 0.271681), exact_hessian=True,
    ),
    Reference(
        "pendulum_swing_up", nonlinear.PendulumSwingUp, nonlinear.pendulum_swing_up_oracle, "published swing-up",
        state=(0.0, np.pi, 0.0, 0.0), action=(75.0,), inactive=(0.1, 0.2, 0.0, 0.0), weak=(0.1, 0.284893, 0.0, 0.0),
        known_cost=2242.8281406, step=1e-3,
    ),
    Reference(
        "quadrotor", nonlinear.Quadrotor, nonlinear.quadrotor_oracle, "published quadrotor, 13 states",
        state=(1.0, 0.0, 0.0, *HOVER), action=(3.0, 3.0, 3.0, 3.0), inactive=(0.2, 0.1, 0.9, *HOVER),
        weak=(0.452675, 0.068416, 0.61574, *HOVER), known_cost=10.4719463,
    ),
    Reference(
        "network_dynamics", nonlinear.network_dynamics, nonlinear.network_dynamics_oracle, "network in the dynamics",
        state=(0.82, 0.29), action=(-1.0,), inactive=(0.35, 0.0), weak=(0.626162, 0.170398),
    ),
)  # fmt: skip
