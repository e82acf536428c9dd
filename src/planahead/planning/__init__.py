"""Planning: from a problem and a state to a plan, and its derivatives."""

from planahead.planning.action_curvature import (
    ActionCurvature as ActionCurvature,
    action_curvature as action_curvature,
)
from planahead.planning.check_gradient import GradientCheck as GradientCheck, check_gradient as check_gradient
from planahead.planning.check_problem import ProblemCheck as ProblemCheck, check_problem as check_problem
from planahead.planning.cold_start import cold_start as cold_start
from planahead.planning.cost_to_go import (
    CostToGo as CostToGo,
    cost_to_go as cost_to_go,
    step_costs as step_costs,
)
from planahead.planning.globalisation import FullStep as FullStep
from planahead.planning.line_search import LineSearch as LineSearch
from planahead.planning.linearisation import Exact as Exact, GaussNewton as GaussNewton
from planahead.planning.plan import Guess as Guess, Multipliers as Multipliers, Plan as Plan
from planahead.planning.simulated import Simulated as Simulated, judged as judged, simulated as simulated
from planahead.planning.solve import action_value as action_value, solve as solve, value as value
from planahead.planning.sqp import SQP as SQP
