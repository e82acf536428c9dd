"""Learners: what turns experience into a better policy."""

from planahead.learning.critics import TwinCritic as TwinCritic
from planahead.learning.learner import Learner as Learner, Metrics as Metrics
from planahead.learning.mpc_policy_gradient import MPCPolicyGradient as MPCPolicyGradient
from planahead.learning.mpc_q_learning import MPCQLearning as MPCQLearning
from planahead.learning.ppo import PPO as PPO, PPOState as PPOState
from planahead.learning.presets import algorithm_names as algorithm_names, make_algorithm as make_algorithm
from planahead.learning.replay import Replay as Replay
from planahead.learning.sac import SAC as SAC, SACState as SACState
from planahead.learning.td3 import TD3 as TD3, TD3State as TD3State
