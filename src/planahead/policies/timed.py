"""A network that knows how much of a plan is over: the actor of a problem with a finite horizon.

    (o, k / N)  ->  network  ->  tanh  ->  action,      k = 0 … N - 1

The best action of a finite horizon depends on the time that is left. Along a trajectory k counts its stages; when it
acts in the world it acts as a planner with that horizon does, which begins its plan anew in every step: k = 0.
"""

from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from planahead.policies.network import HIDDEN, Network
from planahead.policies.policy import Decision, Policy, Setting
from planahead.policies.stochastic import POLICY_GAIN, ActionBox


@final
class TimedPolicy(Policy):
    """Observation, or what of it the network `sees`, and stage to action, without noise.

    >>> import jax
    >>> policy = TimedPolicy((1.0, 2.0), ActionBox((-4.0,), (4.0,)), horizon=10, key=jax.random.key(0))
    >>> bool(abs(policy.decide(jnp.array([0.5, -1.0])).action[0]) < 0.5)
    True
    """

    network: Network
    box: ActionBox
    horizon: int = eqx.field(static=True)
    """N."""

    def __init__(
        self,
        observation_scale: Sequence[float],
        box: ActionBox,
        *,
        horizon: int,
        key: PRNGKeyArray,
        hidden: Sequence[int] = HIDDEN,
        sees: Sequence[int] | None = None,
    ):
        timed = None if sees is None else (*sees, len(observation_scale))  # the time is always seen
        scale = (*observation_scale, 1.0)
        self.network = Network(scale, box.size, hidden=hidden, last_gain=POLICY_GAIN, sees=timed, key=key)
        self.box, self.horizon = box, horizon

    def initial_memory(self) -> None:
        return None

    def settings(self) -> dict[str, Setting]:
        return {**self.network.settings(), "horizon": self.horizon}

    def decide(
        self, observation: Float[Array, " observation"], memory: Any = None, key: PRNGKeyArray | None = None
    ) -> Decision:
        del memory, key
        return Decision(self.act(observation, jnp.asarray(0)), jnp.zeros((), observation.dtype))

    def act(self, observation: Float[Array, " observation"], stage: Int[Array, ""]) -> Float[Array, " action"]:
        """At stage k."""
        time = jnp.asarray(stage, observation.dtype)[None] / self.horizon
        return self.box.from_unit(jnp.tanh(self.network(jnp.concatenate([observation, time]))))
