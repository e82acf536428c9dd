"""A network that acts by itself: the policy of plain soft actor-critic, and the baseline of every planning one.

observation -> network -> squashed Gaussian over the action box -> action

With a `horizon` it proposes a whole plan, as a planner would: the controls of that many steps, of which the first acts.
"""

from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from planahead.policies.distributions import SquashedGaussian
from planahead.policies.network import HIDDEN, Network
from planahead.policies.policy import Decision, Setting
from planahead.policies.stochastic import POLICY_GAIN, ActionBox, NoisePlace, Proposal, StochasticPolicy, mask_of


@final
class DirectPolicy(StochasticPolicy):
    """Observation to action without a planner, or with a `horizon` above 1 to that many actions, side by side in the
    proposal, of which the first acts. With `sees` the network is shown those entries of the observation alone.

    >>> import jax
    >>> policy = DirectPolicy((1.0, 2.0), ActionBox((-80.0,), (80.0,)), key=jax.random.key(0))
    >>> abs(float(policy.decide(jnp.array([0.5, -1.0])).action[0])) < 5.0
    True
    """

    network: Network
    box: ActionBox
    """Of one action."""
    noise: NoisePlace = eqx.field(static=True)
    horizon: int = eqx.field(static=True)

    def __init__(
        self,
        observation_scale: Sequence[float],
        box: ActionBox,
        *,
        key: PRNGKeyArray,
        hidden: Sequence[int] = HIDDEN,
        horizon: int = 1,
        sees: Sequence[int] | None = None,
    ):
        outputs = 2 * horizon * box.size
        self.network = Network(observation_scale, outputs, hidden=hidden, last_gain=POLICY_GAIN, sees=sees, key=key)
        self.box = box
        self.noise = "action" if horizon == 1 else "parameters"  # what is drawn is more than the action
        self.horizon = horizon

    @property
    def plans(self) -> bool:
        return False

    @property
    def proposal_size(self) -> int:
        return self.horizon * self.box.size

    @property
    def differentiable(self) -> bool:
        return True

    def initial_memory(self) -> None:
        return None

    def settings(self) -> dict[str, Setting]:
        plan: dict[str, Setting] = {} if self.horizon == 1 else {"horizon": self.horizon}
        return {**self.network.settings(), **plan}

    def propose(self, observation: Float[Array, " observation"], key: PRNGKeyArray | None = None) -> Proposal:
        return Proposal.draw(SquashedGaussian(*jnp.split(self.network(observation), 2)), key)

    def execute(self, observation: Float[Array, " observation"], proposal: Proposal, memory: Any = None) -> Decision:
        del observation, memory
        return Decision(self.box.from_unit(proposal.unit[: self.box.size]), proposal.log_probability)

    def trainable(self) -> PyTree[bool]:
        return mask_of(self, lambda policy: policy.network)
