"""Policies: from an observation to an action, with a network, a planner, or both."""

from planahead.policies.ac4mpc import AC4MPC as AC4MPC, Race as Race, check_observed as check_observed
from planahead.policies.active_set_guide import ActiveSetGuide as ActiveSetGuide
from planahead.policies.adaptive import AdaptivePlanner as AdaptivePlanner, InUse as InUse
from planahead.policies.direct import DirectPolicy as DirectPolicy
from planahead.policies.distributions import Sample as Sample, SquashedGaussian as SquashedGaussian
from planahead.policies.failure import plan_failed as plan_failed
from planahead.policies.filtered import (
    Awareness as Awareness,
    FilteredPolicy as FilteredPolicy,
    FilteredStochasticPolicy as FilteredStochasticPolicy,
    Guard as Guard,
)
from planahead.policies.gaussian import GaussianPolicy as GaussianPolicy
from planahead.policies.guess_guide import GuessGuide as GuessGuide, GuidedPlanner as GuidedPlanner
from planahead.policies.network import HIDDEN as HIDDEN, Network as Network
from planahead.policies.normaliser import Normaliser as Normaliser
from planahead.policies.planned import PlannerPolicy as PlannerPolicy
from planahead.policies.policy import (
    Decision as Decision,
    Policy as Policy,
    Setting as Setting,
    flat_settings as flat_settings,
)
from planahead.policies.reference import Reference as Reference, ReferenceGenerator as ReferenceGenerator
from planahead.policies.safety_filter import (
    Certificate as Certificate,
    Filtered as Filtered,
    SafetyFilter as SafetyFilter,
)
from planahead.policies.sensitivity import (
    Linearised as Linearised,
    Sensitivity as Sensitivity,
    control_jacobian as control_jacobian,
    linearised as linearised,
    local_action_entropy as local_action_entropy,
    sensitivities as sensitivities,
    smallest_singular_value as smallest_singular_value,
)
from planahead.policies.steering import Steering as Steering
from planahead.policies.stochastic import (
    ActionBox as ActionBox,
    NoisePlace as NoisePlace,
    Proposal as Proposal,
    StochasticPolicy as StochasticPolicy,
)
from planahead.policies.timed import TimedPolicy as TimedPolicy
from planahead.policies.tuned import TunedPlanner as TunedPlanner
