"""The named algorithms: each is a choice of switches, not a copy.

name      learner   critic judges   noise enters at   planner
sac       SAC       action          action            no
sac-zop   SAC       parameters      parameters        yes
sac-fop   SAC       action          parameters        yes
sac-foa   SAC       action          action            yes
sac-skip: as sac, with the task's expert acting where it is trusted, see `skipping.py`
sac-blended, sac-mpq: as sac, with the task's own planner in the critic, see `planner_critic.py`
td3       TD3       action          action            no
td3-zop   TD3       parameters      parameters        yes
td3-fop   TD3       action          parameters        yes
ac-mlp    PPO       observation     action            no
ac-mpc    PPO       observation     action            yes
ppo-zop   PPO       observation     parameters        yes

name      learner             critic                             policy
mpc-q     MPCQLearning        the planner's own value            a planner with constant parameters
mpc-dpg   MPCPolicyGradient   compatible features, or the same   a planner with constant parameters
mpc-model, mpc-model-value: AlignedLearning, whose critic, if any, is the planner's own value, see `aligned.py`

All critics that are networks see the observation as well. What imitates a planner is listed in `imitation.py`, and
`gps` is `guided_policy_search.py`. `cacto` is `cacto.py`, whose critic judges an observation and the time.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from planahead.learning.aligned import AlignedLearning
from planahead.learning.cacto import Cacto
from planahead.learning.guided_policy_search import GuidedPolicySearch
from planahead.learning.imitation import Imitation
from planahead.learning.mpc_policy_gradient import MPCPolicyGradient
from planahead.learning.mpc_q_learning import MPCQLearning
from planahead.learning.off_policy import OffPolicy
from planahead.learning.planner_learner import PlannerLearner
from planahead.learning.ppo import PPO
from planahead.learning.sac import SAC
from planahead.learning.soft_losses import CriticPlace
from planahead.learning.td3 import TD3
from planahead.policies import NoisePlace

SOBOLEV_WEIGHT = 0.1
"""Of the planner's sensitivities in `bc-sobolev`."""

BLEND_STEPS = 4_000
"""In which a planner leaves the critic of `sac-blended` and `sac-mpq`: a network alone is half way to the best return
of the mass-spring-damper then."""

SKIP_LENGTH = 10
"""Steps that `sac-skip` trusts the expert at most: half a second of the cart-pole."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """The switches of one algorithm."""

    critic: CriticPlace | None
    """`None` where the critic judges observations alone, is the planner itself, or is none."""
    noise: NoisePlace
    plans: bool
    """Whether its policy does."""
    summary: str
    learner: (
        type[OffPolicy[Any]]
        | type[PPO]
        | type[PlannerLearner]
        | type[Imitation]
        | type[GuidedPolicySearch]
        | type[Cacto]
    ) = SAC
    planner_iterations: int = 10
    """Unless told, see `PolicySettings`."""
    switches: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of the learner that differ from its defaults unless told."""

    @property
    def networks(self) -> bool:
        """Whether there is a network in it."""
        return not issubclass(self.learner, PlannerLearner)

    @property
    def guarded(self) -> bool:
        """Whether its learner acts through the policy, and so through a safety filter behind it."""
        return issubclass(self.learner, OffPolicy | PPO)


def _imitating(summary: str, **switches: Any) -> Preset:
    return Preset(None, "action", False, summary, Imitation, switches=switches)


def _blended(summary: str, **switches: Any) -> Preset:
    switches |= {"blend": 1.0, "blend_steps": BLEND_STEPS}
    return Preset("action", "action", False, summary, switches=switches)


PRESETS = {
    "bc": _imitating("behaviour cloning: a network learns what a planner does along its own way", expert_decay=1.0),
    "bc-sobolev": _imitating(
        "behaviour cloning of a planner and of its sensitivities", expert_decay=1.0, sobolev_weight=SOBOLEV_WEIGHT
    ),
    "cacto": Preset(
        None,
        "action",
        False,
        "a network says where a planner starts, the plans teach a critic, and the critic teaches the network",
        Cacto,
    ),
    "dagger": _imitating("a network learns what a planner would do where the network itself gets to"),
    "gps": Preset(
        None,
        "action",
        False,
        "guided policy search: a planner supervises a network and never asks for more than it can follow",
        GuidedPolicySearch,
    ),
    "q-loss": _imitating("DAgger that counts what a deviation costs the planner", loss="q"),
    "q-loss-gn": _imitating("DAgger that counts it to second order, and solves nothing to learn", loss="gauss-newton"),
    "trajectory-loss": _imitating("DAgger on whole plans, judged by where they lead", loss="trajectory"),
    "sac": Preset("action", "action", False, "a network acts by itself"),
    "sac-zop": Preset(
        "parameters",
        "parameters",
        True,
        "a network steers a planner; zeroth order: no derivative of the plan is needed",
    ),
    "sac-fop": Preset(
        "action", "parameters", True, "a network steers a planner; first order, exploring in the planner's parameters"
    ),
    "sac-foa": Preset("action", "action", True, "a network steers a planner; first order, exploring in the action"),
    "sac-blended": _blended("a network acts, judged by a planner's value at first and by a learned critic in the end"),
    "sac-mpq": _blended(
        "MPQ(λ): a network acts, judged by the steps of a plan at first and by a learned critic in the end",
        believes="steps",
    ),
    "sac-skip": Preset(
        "action",
        "action",
        False,
        "a network acts, and learns for how many steps to trust a planner, in the end for none",
        switches={"skip_length": SKIP_LENGTH},
    ),
    "td3": Preset("action", "action", False, "the deterministic policy gradient: a network acts by itself", TD3),
    "td3-zop": Preset(
        "parameters",
        "parameters",
        True,
        "the deterministic policy gradient: a network steers a planner, zeroth order",
        TD3,
    ),
    "td3-fop": Preset(
        "action", "parameters", True, "the deterministic policy gradient: a network steers a planner, first order", TD3
    ),
    "ac-mlp": Preset(None, "action", False, "proximal policy optimisation: a network acts by itself", PPO),
    "ac-mpc": Preset(
        None,
        "action",
        True,
        "proximal policy optimisation through a planner: a network writes its cost, exploring in the action",
        PPO,
        planner_iterations=1,
    ),
    "ppo-zop": Preset(
        None,
        "parameters",
        True,
        "proximal policy optimisation with the planner as part of the world: a network writes its parameters",
        PPO,
        planner_iterations=1,
    ),
    "mpc-q": Preset(
        None,
        "action",
        True,
        "Q-learning on a planner's own parameters, which is policy and value at once",
        MPCQLearning,
    ),
    "mpc-dpg": Preset(
        None, "action", True, "the deterministic policy gradient on a planner's own parameters", MPCPolicyGradient
    ),
    "mpc-model": Preset(
        None,
        "action",
        True,
        "aligned learning: the planner's model is fitted to what happens, by its parameters or with a network",
        AlignedLearning,
    ),
    "mpc-model-value": Preset(
        None,
        "action",
        True,
        "aligned learning of the model and of a terminal value",
        AlignedLearning,
        switches={"terminal_value": True},
    ),
}
PLANNING = {"sac": "sac-zop", "td3": "td3-zop", "ac-mlp": "ac-mpc"}
"""What to use instead of an algorithm without a planner."""


def algorithm_names() -> tuple[str, ...]:
    """The names that `make_algorithm` knows, sorted.

    >>> print(*algorithm_names()[:9])
    ac-mlp ac-mpc bc bc-sobolev cacto dagger gps mpc-dpg mpc-model
    """
    return tuple(sorted(PRESETS))
