"""Learners: what turns experience into a better policy."""

from planahead.learning.active_set_fit import (
    FittedActiveSet as FittedActiveSet,
    fit_active_set_guide as fit_active_set_guide,
)
from planahead.learning.algorithms import make_algorithm as make_algorithm
from planahead.learning.aligned import AlignedLearning as AlignedLearning
from planahead.learning.cacto import Cacto as Cacto, CactoState as CactoState
from planahead.learning.constrained_lqr import (
    ControlStep as ControlStep,
    LinearGaussian as LinearGaussian,
    LinearQuadratic as LinearQuadratic,
    control_step as control_step,
)
from planahead.learning.critics import TwinCritic as TwinCritic
from planahead.learning.expert import Answer as Answer, Expert as Expert
from planahead.learning.guess_regression import FittedGuide as FittedGuide, fit_guess_guide as fit_guess_guide
from planahead.learning.guided_policy_search import (
    GuidedPolicySearch as GuidedPolicySearch,
    GuidedState as GuidedState,
)
from planahead.learning.imitation import Imitation as Imitation, ImitationState as ImitationState
from planahead.learning.learner import Learner as Learner, Metrics as Metrics
from planahead.learning.mpc_policy_gradient import MPCPolicyGradient as MPCPolicyGradient
from planahead.learning.mpc_q_learning import MPCQLearning as MPCQLearning
from planahead.learning.ppo import PPO as PPO, PPOState as PPOState
from planahead.learning.presets import algorithm_names as algorithm_names
from planahead.learning.regret import (
    FittedAdaptive as FittedAdaptive,
    fit_adaptive_planner as fit_adaptive_planner,
)
from planahead.learning.replay import Replay as Replay
from planahead.learning.sac import SAC as SAC, SACState as SACState
from planahead.learning.td3 import TD3 as TD3, TD3State as TD3State
from planahead.learning.terminal_value import (
    CriticValue as CriticValue,
    FittedValue as FittedValue,
    SquaredValue as SquaredValue,
    fit_terminal_value as fit_terminal_value,
)
from planahead.learning.timed_value import TimedValue as TimedValue
