"""Describing a problem: what is planned, in which world, at what cost."""

from planahead.problem.bounds import BoundRows as BoundRows, Bounds as Bounds, Slack as Slack
from planahead.problem.fields import parameter as parameter, parameter_boxes as parameter_boxes, static as static
from planahead.problem.integrators import euler as euler, rk4 as rk4, zero_order_hold as zero_order_hold
from planahead.problem.invariant_set import (
    largest_invariant_set as largest_invariant_set,
    lqr_gain as lqr_gain,
    riccati_solution as riccati_solution,
)
from planahead.problem.linear_safety import linear_safety_problem as linear_safety_problem
from planahead.problem.parameter_space import ParameterSpace as ParameterSpace
from planahead.problem.per_stage import (
    PerStage as PerStage,
    at_stage as at_stage,
    is_per_stage as is_per_stage,
    map_stages as map_stages,
    per_stage as per_stage,
    scan_stages as scan_stages,
)
from planahead.problem.problem import Problem as Problem, overrides as overrides
from planahead.problem.quadratic_terminal_cost import (
    Quadratic as Quadratic,
    QuadraticTerminalCost as QuadraticTerminalCost,
    with_value as with_value,
)
from planahead.problem.residual_dynamics import ResidualDynamics as ResidualDynamics
from planahead.problem.residuals import (
    angle_difference as angle_difference,
    quaternion_difference as quaternion_difference,
)
from planahead.problem.safety import (
    Polytope as Polytope,
    SafetyProblem as SafetyProblem,
    TerminalSet as TerminalSet,
)
from planahead.problem.terminal_value import (
    EndingInValue as EndingInValue,
    QuadraticValue as QuadraticValue,
    TerminalValue as TerminalValue,
    stages_only as stages_only,
)
from planahead.problem.tube import Tube as Tube, linear_tube as linear_tube, no_tube as no_tube
from planahead.problem.wrapped import WrappedProblem as WrappedProblem, wraps as wraps
