"""Plan with a model, learn from the world."""

from jaxtyping import Array as Array

from planahead.planning import (
    SQP as SQP,
    Exact as Exact,
    FullStep as FullStep,
    GaussNewton as GaussNewton,
    Guess as Guess,
    LineSearch as LineSearch,
    Multipliers as Multipliers,
    Plan as Plan,
    action_value as action_value,
    solve as solve,
    value as value,
)
from planahead.problem import (
    Bounds as Bounds,
    ParameterSpace as ParameterSpace,
    PerStage as PerStage,
    Problem as Problem,
    Slack as Slack,
    angle_difference as angle_difference,
    euler as euler,
    parameter as parameter,
    per_stage as per_stage,
    quaternion_difference as quaternion_difference,
    rk4 as rk4,
    static as static,
    zero_order_hold as zero_order_hold,
)
from planahead.qp import (
    QP as QP,
    InteriorPoint as InteriorPoint,
    QPSolution as QPSolution,
    StageBounds as StageBounds,
    Status as Status,
    solve_qp as solve_qp,
)

__version__ = "0.1.0"
