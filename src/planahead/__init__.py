"""Plan with a model, learn from the world: model predictive control and reinforcement learning as one program.

Names are imported when they are first used, so that `planahead --help` does not wait for JAX.
"""

from typing import TYPE_CHECKING

from planahead.interop import register_gymnasium as _register_gymnasium
from planahead.lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
    from jaxtyping import Array as Array

    from planahead.learning import (
        PPO as PPO,
        SAC as SAC,
        TD3 as TD3,
        AlignedLearning as AlignedLearning,
        Expert as Expert,
        GuidedPolicySearch as GuidedPolicySearch,
        Imitation as Imitation,
        Learner as Learner,
        MPCPolicyGradient as MPCPolicyGradient,
        MPCQLearning as MPCQLearning,
        algorithm_names as algorithm_names,
        fit_terminal_value as fit_terminal_value,
        make_algorithm as make_algorithm,
    )
    from planahead.planning import (
        SQP as SQP,
        Exact as Exact,
        FullStep as FullStep,
        GaussNewton as GaussNewton,
        GradientCheck as GradientCheck,
        Guess as Guess,
        LineSearch as LineSearch,
        Multipliers as Multipliers,
        Plan as Plan,
        action_curvature as action_curvature,
        action_value as action_value,
        check_gradient as check_gradient,
        cold_start as cold_start,
        solve as solve,
        value as value,
    )
    from planahead.policies import (
        AC4MPC as AC4MPC,
        ActionBox as ActionBox,
        Decision as Decision,
        DirectPolicy as DirectPolicy,
        GaussianPolicy as GaussianPolicy,
        PlannerPolicy as PlannerPolicy,
        Policy as Policy,
        ReferenceGenerator as ReferenceGenerator,
        SafetyFilter as SafetyFilter,
        Steering as Steering,
        StochasticPolicy as StochasticPolicy,
        TunedPlanner as TunedPlanner,
    )
    from planahead.problem import (
        Bounds as Bounds,
        EndingInValue as EndingInValue,
        ParameterSpace as ParameterSpace,
        PerStage as PerStage,
        Problem as Problem,
        QuadraticTerminalCost as QuadraticTerminalCost,
        ResidualDynamics as ResidualDynamics,
        SafetyProblem as SafetyProblem,
        Slack as Slack,
        TerminalSet as TerminalSet,
        TerminalValue as TerminalValue,
        WrappedProblem as WrappedProblem,
        angle_difference as angle_difference,
        euler as euler,
        linear_safety_problem as linear_safety_problem,
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
    from planahead.tasks import (
        Environment as Environment,
        Task as Task,
        Transition as Transition,
        make_task as make_task,
        task_names as task_names,
    )
    from planahead.viewer import record_page as record_page, view as view

__version__ = "0.1.0"

__getattr__, __dir__ = _lazy_names(
    __name__,
    {
        "jaxtyping": ["Array"],
        "planahead.learning": [
            "PPO",
            "SAC",
            "TD3",
            "AlignedLearning",
            "Expert",
            "GuidedPolicySearch",
            "Imitation",
            "Learner",
            "MPCPolicyGradient",
            "MPCQLearning",
            "algorithm_names",
            "fit_terminal_value",
            "make_algorithm",
        ],
        "planahead.planning": [
            "SQP",
            "Exact",
            "FullStep",
            "GaussNewton",
            "GradientCheck",
            "Guess",
            "LineSearch",
            "Multipliers",
            "Plan",
            "action_curvature",
            "action_value",
            "check_gradient",
            "cold_start",
            "solve",
            "value",
        ],
        "planahead.policies": [
            "AC4MPC",
            "ActionBox",
            "Decision",
            "DirectPolicy",
            "GaussianPolicy",
            "PlannerPolicy",
            "Policy",
            "ReferenceGenerator",
            "SafetyFilter",
            "Steering",
            "StochasticPolicy",
            "TunedPlanner",
        ],
        "planahead.problem": [
            "Bounds",
            "EndingInValue",
            "ParameterSpace",
            "PerStage",
            "Problem",
            "QuadraticTerminalCost",
            "ResidualDynamics",
            "SafetyProblem",
            "Slack",
            "TerminalSet",
            "TerminalValue",
            "WrappedProblem",
            "angle_difference",
            "euler",
            "linear_safety_problem",
            "parameter",
            "per_stage",
            "quaternion_difference",
            "rk4",
            "static",
            "zero_order_hold",
        ],
        "planahead.qp": ["QP", "InteriorPoint", "QPSolution", "StageBounds", "Status", "solve_qp"],
        "planahead.tasks": ["Environment", "Task", "Transition", "make_task", "task_names"],
        "planahead.viewer": ["record_page", "view"],
    },
    rooms=["experiments", "interop", "learning", "planning", "policies", "problem", "qp", "tasks", "viewer"],
)

_register_gymnasium()
