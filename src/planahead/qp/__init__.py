"""Stage-structured quadratic programs: their types, the portable solver, and the differentiable layer."""

from planahead.qp.active_set import ActiveSet as ActiveSet
from planahead.qp.interior_point import InteriorPoint as InteriorPoint, Outcome as Outcome
from planahead.qp.solve_qp import solve_qp as solve_qp
from planahead.qp.status import Status as Status
from planahead.qp.types import QP as QP, QPSolution as QPSolution, StageBounds as StageBounds
