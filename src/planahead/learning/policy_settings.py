"""What can be set of the policy that an algorithm trains, whichever the algorithm."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from planahead.policies import HIDDEN, Awareness
from planahead.problem.parameter_space import Scale
from planahead.qp.interior_point import Arithmetic
from planahead.words import did_you_mean

_PLANS = {"planner": True}
"""Of a field that means nothing to a policy without a planner."""
_LEARNS = {"network": True}
"""Of one that means nothing without a network."""
_GUARDS = {"filter": True}
"""Of one that means nothing to a learner that acts without a safety filter."""


@dataclass(frozen=True)
class PolicySettings:
    """How a policy plans, the size of its networks, and what guards it."""

    residual: bool = field(default=False, metadata=_PLANS | _LEARNS)
    """The network's output is an offset from the problem's own parameters, so that an untrained policy plans with
    these; otherwise it starts in the middle of their box."""
    warm_start: bool = field(default=False, metadata=_PLANS)
    """A solve starts from the previous plan of the episode, shifted by one step."""
    correction: float = field(default=0.0, metadata=_PLANS | _LEARNS | {"least": 0.0})
    """Share of half the action box by which the network corrects the planned action, beside the parameters that it
    writes (a residual policy); 0 for none."""
    steers: bool = field(default=True, metadata=_PLANS | _LEARNS)
    """Whether the network writes the planner's parameters; with `correction` alone the planner plans as it comes."""
    parameter_scale: Scale = field(default="declared", metadata=_PLANS)
    """How what is learned covers the parameters' box: as each was declared, weights mostly by decades, or `"linear"`.
    """
    planner_iterations: int | None = field(default=None, metadata=_PLANS | {"least": 1.0})
    """At most as many SQP iterations per plan, so that a step of many environments does not wait for the slowest lane.
    Algorithms with PPO take one unless told, a real-time iteration; its derivative is its own, exactly, where all costs
    are residuals, and otherwise that of a solution, kept where it is nearly one. The others take ten: from random
    states of the cart-pole and a cold start, 4 % of the plans reach the limit of ten, 0.9 % fail (five: 30 % and 3 %),
    and 99 % of the rest begin with a control within 0.12 N of the converged one, of ±80."""
    planner_tau: float | None = field(default=None, metadata=_PLANS | {"positive": True})
    """Smooths the plan across active-set changes, see `SQP`."""
    planner_arithmetic: Arithmetic = field(default="float32", metadata=_PLANS)
    """What the native kernel solves in. Of 256 plans of the wind maze all are solved in either; "float32" takes two
    thirds of the time, and their first derivatives differ by a thousandth at most."""
    hidden_layers: int = field(default=len(HIDDEN), metadata=_LEARNS | {"least": 1.0})
    """Of the networks of policy and critics."""
    hidden_units: int = field(default=HIDDEN[0], metadata=_LEARNS | {"least": 1.0})
    """Of each of these layers."""
    sees: str = field(default="", metadata=_LEARNS)
    """What of the observation the policy's network is shown: names without their units, separated by commas; all of it
    by default. Planners, experts and critics know the whole."""
    filter: Literal["none", Awareness] = field(default="none", metadata=_GUARDS)
    """Puts the task's safety filter behind the policy, and says what learning knows of it, see `policies/filtered.py`.
    It acts in training and ever after, for learners that act through their policy: SAC, TD3 and PPO. What imitates
    applies its expert's actions, and a planner that learns its own parameters has no filter."""
    filter_price: float = field(default=1.0, metadata=_GUARDS | {"least": 0.0})
    """Reward per step that a correction by half the action box costs where the filter is "penalised"."""

    @property
    def hidden(self) -> tuple[int, ...]:
        """Units of every hidden layer."""
        return (self.hidden_units,) * self.hidden_layers


def entries_seen(names: Sequence[str], sees: str) -> tuple[int, ...] | None:
    """The entries of an observation with these `names` that `PolicySettings.sees` speaks of; `None` for all.

    **Raises:** `ValueError` for a name that is none of them, or that comes twice.

    >>> entries_seen(("position [m]", "speed [m/s]", "wind [N]"), "wind, position")
    (2, 0)
    """
    if not sees:
        return None
    known, asked = [name.partition(" [")[0] for name in names], [name.strip() for name in sees.split(",")]
    for name in asked:
        if asked.count(name) > 1:
            raise ValueError(f"sees='{sees}' names '{name}' twice; leave one out")
        if name not in known:
            raise ValueError(
                f"sees='{sees}': '{name}'{did_you_mean(name, known)} is not observed; what is: {', '.join(known)}"
            )
    return tuple(known.index(name) for name in asked)
