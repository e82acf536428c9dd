r"""A planner in the actor of Stable-Baselines3's PPO (and of its other on-policy algorithms).

    observation o -> MLP -> z -> (unit φ, c) = tanh(z) -> plan from x(o) -> unit a = clip(unit u₀* + κ c) = μ(o)
    action ~ N(μ(o), σ²)

The mean of the Gaussian is the planned action, so the policy gradient goes through ∂u₀*/∂φ (`PlanLayer`), as in AC-MPC
(A. Romero et al., "Actor-Critic Model Predictive Control", 2024), but with any parameter of the problem in the place of
its quadratic cost. κ is the correction of `Steering`; without it there is no c. The critic is a network on the
observation. Lanes whose solve failed act, and push nothing through the plan: its derivative is zero there.

Actions are those of the unit box, so that one σ suits all: wrap the environment in `gymnasium.wrappers.RescaleAction`.
Observations arrive as the environment gives them; statistics kept outside of the policy (`VecNormalize` of
observations) would hide the state from the planner.
"""

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import Schedule

from planahead.interop.torch import PlanLayer
from planahead.policies import Steering
from planahead.policies.distributions import unsquash
from planahead.policies.stochastic import ANCHOR_MARGIN, POLICY_GAIN


class PlannerActorCriticPolicy(ActorCriticPolicy):
    """`PPO(PlannerActorCriticPolicy, env, policy_kwargs={"steering": steering})`.

    **Arguments:**

    - `steering`: the planner, what it sees of an observation, and what of it the network writes; untrained, it plans
        with the problem's own parameters. Every solve starts cold, since a learner revisits observations in any order.
    - the others: Stable-Baselines3's own.

    **Raises:** `ValueError` for actions outside of the unit box, and for what stands between observation and planner.
    """

    def __init__(
        self, observation_space: Any, action_space: Any, lr_schedule: Schedule, *, steering: Steering, **options: Any
    ):
        unit = Box(-1.0, 1.0, (steering.box.size,), np.float32)
        if action_space != unit:
            raise ValueError(
                f"the environment's actions are {action_space}; the policy needs {unit}: wrap it in "
                "gymnasium.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))."
            )
        if options.get("features_extractor_class", FlattenExtractor) is not FlattenExtractor or options.get("use_sde"):
            raise ValueError(
                "the planner starts from the observation itself: leave features_extractor_class and use_sde out."
            )
        self.steering = steering
        super().__init__(observation_space, action_space, lr_schedule, **options)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.action_net = _PlannedMean(self.mlp_extractor.latent_dim_pi - self.features_dim, self.steering)
        optimiser: Any = self.optimizer_class
        self.optimizer = optimiser(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()
        networks: Any = self.mlp_extractor
        self.mlp_extractor = _WithObservation(networks, self.features_dim)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "steering": self.steering}


class _WithObservation(torch.nn.Module):
    """The actor's features followed by the observation, which the planner starts from."""

    def __init__(self, networks: MlpExtractor, observations: int):
        super().__init__()
        self.networks = networks
        self.latent_dim_pi = networks.latent_dim_pi + observations
        self.latent_dim_vf = networks.latent_dim_vf

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.networks.forward_actor(features), features], -1)

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        return self.networks.forward_critic(features)


class _PlannedMean(torch.nn.Module):
    """From the actor's features and the observation to the planned action in the unit box."""

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, features: int, steering: Steering):
        super().__init__()
        self.split = features
        self.layer = PlanLayer(
            steering.problem,
            steering.space.names,
            scale=steering.scale,
            planner=steering.planner,
            planner_state=steering.planner_state,
        )
        self.parameters_written, self.correction = steering.space.size, steering.correction
        self.write = torch.nn.Linear(features, steering.size)
        torch.nn.init.orthogonal_(self.write.weight, POLICY_GAIN)
        with torch.no_grad():
            self.write.bias.copy_(torch.tensor(np.array(unsquash(steering.default_unit(), ANCHOR_MARGIN))))
        self.register_buffer("low", torch.tensor(steering.box.low))
        self.register_buffer("high", torch.tensor(steering.box.high))

    def forward(self, both: torch.Tensor) -> torch.Tensor:
        written = torch.tanh(self.write(both[:, : self.split]))
        unit, correction = written[:, : self.parameters_written], written[:, self.parameters_written :]
        action = self.layer(both[:, self.split :].detach(), unit=unit).action
        planned = (2.0 * (action - self.low) / (self.high - self.low) - 1.0).clamp(-1.0, 1.0)
        return (planned + self.correction * correction).clamp(-1.0, 1.0) if self.correction else planned
