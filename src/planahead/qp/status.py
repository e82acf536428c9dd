"""How a solve ended, in words. A failed solve is a value with a status, never an exception in a batch and never a
silent number."""

import enum


class Status(enum.IntEnum):
    """The outcome of one lane of a solve; `sentence` says what it means and what to try."""

    SOLVED = 0
    ITERATION_LIMIT = 1
    STALLED = 2
    INFEASIBLE = 3
    INVALID_INPUT = 4

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Status.SOLVED: "Solved: the optimality conditions hold to the tolerance.",
    Status.ITERATION_LIMIT: (
        "The iteration limit was reached before the optimality conditions held to the tolerance. Raise `iterations`, "
        "start from a better guess (for instance the shifted plan of the last step), or look at `residual` to see how "
        "far it is."
    ),
    Status.STALLED: (
        "No further progress was possible before the optimality conditions held to the tolerance. The problem may be "
        "badly scaled, its functions may not be smooth, or the tolerance may be too tight for the number format "
        "(float32 reaches about 1e-4)."
    ),
    Status.INFEASIBLE: (
        "No trajectory nearby satisfies the hard constraints from this state. Make state and nonlinear constraints "
        "soft (`Slack`), widen them, or start elsewhere; `planahead.check_problem(problem, state, plan)` names those "
        "that the plan breaks."
    ),
    Status.INVALID_INPUT: (
        "A NaN or infinite number came in, or a lower bound was above its upper bound, in the state, the parameters "
        "or what the problem's functions and their derivatives are at the guess. The lane was left out. "
        "`planahead.check_problem(problem, state)` looks at them one by one."
    ),
}
