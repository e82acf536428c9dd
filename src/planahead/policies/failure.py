"""When a plan counts as failed: the one definition behind masks in learning and shares in evaluations.

    failed  =  status ≠ SOLVED  and not (status = ITERATION_LIMIT and residual ≤ ε)

ε is the planner's gradient tolerance: what a planner of few iterations (`SQP.real_time()`) is content with. It defaults
to the tolerance of a solved plan.
"""

from jaxtyping import Array, Bool

from planahead.planning import SQP, Plan
from planahead.qp import Status

CONTENT = 1e-2
"""The residual up to which a plan that ran out of iterations is used: a plan has not failed and has a derivative up to
here. The residual is relative, so an action is then wrong by less than about a hundredth of the terms that it
balances."""


def plan_failed(plan: Plan, planner: SQP) -> Bool[Array, "*batch"]:
    """Whether a plan that `planner` made failed.

    The residual decides, not `plan.gradient_valid`: that is false too where a good plan has no derivative.

    >>> import jax.numpy as jnp
    >>> import planahead as pa
    >>> problem, state = pa.make_task("cartpole").problem, jnp.array([0.0, 2.0, 0.0, 0.0])
    >>> strict, content = pa.SQP(iterations=1), pa.SQP(iterations=1, gradient_tolerance=float("inf"))
    >>> plan = pa.solve(problem, state, planner=strict)
    >>> print(pa.Status(int(plan.status)).name, plan_failed(plan, strict), plan_failed(plan, content))
    ITERATION_LIMIT True False
    """
    content = plan.residual <= planner.resolved_gradient_tolerance(plan.residual.dtype)
    return (plan.status != Status.SOLVED) & ~((plan.status == Status.ITERATION_LIMIT) & content)
