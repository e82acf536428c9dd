r"""A skip policy: who acts next, the policy that learns or an expert, and for how many steps; in the end the former.

    option    o = (who, n),   who ∈ {π, expert},   n ∈ {1, …, J}
    value     Q_J(s, o): what following `who` for n steps earns, and the best options from there on
    target    y_n = Σ_{i<n} γ^i (r_i - λ [who = expert]) + γⁿ (1 - terminated) max_{o' allowed} Q̄_J(s_n, o')
    choice    the best allowed option, a uniform one with probability ε; anew when its n steps are over
    allowed   (π, n) always;   (expert, n) for n <= J_t = ⌈J (1 - t / until)₊⌉

    symbol   shape   meaning
    π                what an off-policy learner trains on all transitions, whoever acted (`off_policy.py`)
    expert           `Task.expert`'s planner (`expert.py`); where its plan fails π acts
    J_t      []      the longest trust, which falls to none within `until` environment steps after warming up
    λ        []      price of an expert's step, from 0 up to `price` in the same time

Every stretch of steps that one of the two took says something about all options that it begins with: a window of J
stored steps gives a target for each n up to the first change of hands or end of an episode (all sub-skips, as in
TempoRL). The price is applied when a row is learned from, so that old rows cost what new ones do.

What is deployed is π. While warming up options are drawn uniformly, and the expert takes about half of the steps.

It can fail where π cannot do what the expert does: its critic then counts on actions that only the expert takes (π's
entropy and its own samples in the target limit that), and returns fall as J_t does. Q_J lags behind a π that changes:
a stretch of an older π counts as one of π.

References: F. Schulz, J. Hoffmann, "Learning when to trust the expert for guided exploration in RL", 2024, without its
code or details: targets, annealing and settings are ours; A. Biedenkapp, R. Rajan, F. Hutter, M. Lindauer, "TempoRL:
learning when to act", ICML 2021.
"""

from typing import NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from planahead.learning.expert import Expert, check_actions
from planahead.learning.fitting import fit
from planahead.learning.replay import Replay
from planahead.learning.soft_losses import CriticPlace, Experience
from planahead.policies import Network, StochasticPolicy
from planahead.tasks import Task

EXPERT_ITERATIONS = 30  # at most, per plan, as in imitation


class SkipState(eqx.Module):
    """What is learned of options, and who acts in every environment."""

    network: Network
    """Q_J, outputs `[2 J]`: π's options first."""
    target: Network
    """Q̄_J."""
    moments: PyTree
    """Adam's."""
    leads: Bool[Array, " n"]
    """Whether the expert is to act."""
    left: Int[Array, " n"]
    """Steps until the next choice."""

    def passed(self, ended: Bool[Array, " n"]) -> "SkipState":
        """After a step."""
        return eqx.tree_at(lambda skip: skip.left, self, jnp.where(ended, 0, self.left - 1))


class Led(NamedTuple):
    """Proposals after the expert had its say."""

    unit: Float[Array, "n action"]
    by_expert: Bool[Array, " n"]


@final
class Skipping(eqx.Module):
    """The part of a learner with a replay. Rewards are maximised."""

    length: int = eqx.field(static=True)
    """J."""
    until: int = eqx.field(static=True)
    price: float = eqx.field(static=True)
    exploration: float = eqx.field(static=True)
    """ε."""
    discount: float = eqx.field(static=True)
    """γ."""
    polyak: float = eqx.field(static=True)
    """τ of Q̄_J."""
    learning_rate: float = eqx.field(static=True)

    def start(self, task: Task, environments: int, hidden: tuple[int, ...], key: PRNGKeyArray) -> SkipState:
        """Before the first step. **Raises** `ValueError` where what the task's expert plans is no action."""
        check_actions(Expert.of(task, EXPERT_ITERATIONS), task.action_box)
        scale = task.environment.observation_scale
        network = Network(scale, 2 * self.length, hidden=hidden, last_gain=1.0, key=key)
        moments = self._adam().init(eqx.filter(network, eqx.is_inexact_array))
        return SkipState(network, network, moments, jnp.zeros(environments, bool), jnp.zeros(environments, jnp.int32))

    def progress(self, steps: Int[Array, ""]) -> Float[Array, ""]:
        """From 0 to 1, `steps` after warming up."""
        return jnp.clip(steps / self.until, 0.0, 1.0)

    def longest(self, steps: Int[Array, ""]) -> Int[Array, ""]:
        """J_t.

        >>> part = Skipping(4, 100, 0.0, 0.1, 0.99, 0.01, 1e-3)
        >>> [int(part.longest(jnp.array(steps))) for steps in (-50, 0, 30, 80, 100, 500)]
        [4, 4, 3, 1, 0, 0]
        """
        # Rounded down by a hair, so that a share that is one but for rounding is one.
        return jnp.ceil(self.length * (1.0 - self.progress(steps)) - 1e-5).astype(jnp.int32)

    def allowed(self, steps: Int[Array, ""]) -> Bool[Array, " options"]:
        """Which options there are."""
        lengths = jnp.arange(1, self.length + 1)
        return jnp.concatenate([jnp.ones(self.length, bool), lengths <= self.longest(steps)])

    def choose(
        self, skip: SkipState, observation: Float[Array, "n observation"], steps: Int[Array, ""], key: PRNGKeyArray
    ) -> SkipState:
        """A new option where the last one is over, or is of an expert that is no longer trusted; `steps` as above,
        negative while warming up."""
        n, allowed = len(observation), self.allowed(steps)
        values = jnp.where(allowed[None], jax.vmap(skip.network)(observation), -jnp.inf)
        wander, pick, who = jax.random.split(key, 3)
        # First who, then for how long: at the end, too, few options of the expert are not drawn less for being few.
        expert = jax.random.bernoulli(who, 0.5, (n,)) & allowed[self.length]
        drawn = jnp.where(expert, self.length, 0) + jax.random.randint(
            pick, (n,), 0, jnp.where(expert, jnp.maximum(self.longest(steps), 1), self.length)
        )
        uniform = (jax.random.uniform(wander, (n,)) < self.exploration) | (steps < 0)
        option = jnp.where(uniform, drawn, jnp.argmax(values, axis=1))
        trusted = jnp.where(skip.leads, self.longest(steps), self.length)
        left = jnp.minimum(skip.left, trusted)
        due = left <= 0
        return eqx.tree_at(
            lambda skip: (skip.leads, skip.left),
            skip,
            (
                jnp.where(due, option >= self.length, skip.leads),
                jnp.where(due, option % self.length + 1, left).astype(jnp.int32),
            ),
        )

    def lead(
        self,
        skip: SkipState,
        task: Task,
        observation: Float[Array, "n observation"],
        unit: Float[Array, "n action"],
    ) -> Led:
        """The expert's actions where it is to act and has a plan; nothing is planned where it acts nowhere."""
        expert = Expert.of(task, EXPERT_ITERATIONS)

        def planned() -> Led:
            answers = jax.vmap(expert.answer)(observation)
            by_expert = skip.leads & answers.usable
            return Led(jnp.where(by_expert[:, None], answers.unit, unit), by_expert)

        return jax.lax.cond(jnp.any(skip.leads), planned, lambda: Led(unit, jnp.zeros_like(skip.leads)))

    def loss(
        self,
        network: Network,
        target: Network,
        rows: Experience,
        stored: Bool[Array, "batch J"],
        steps: Int[Array, ""],
    ) -> Float[Array, ""]:
        """½ E[(Q_J - y_n)²] over all options that windows of J rows speak of."""
        assert rows.led is not None and rows.ended is not None  # `OffPolicy` stores them where there is a skip policy
        led = rows.led
        going = jnp.concatenate([jnp.ones_like(rows.ended[:, :1]), ~rows.ended[:, :-1]], axis=1)
        known = jnp.cumprod(stored & going & (led == led[:, :1]), axis=1).astype(bool)
        gamma = self.discount ** jnp.arange(self.length)
        earned = jnp.cumsum(gamma[None] * (rows.reward - self.price * self.progress(steps) * led), axis=1)
        after = jnp.where(self.allowed(steps), jax.vmap(jax.vmap(target))(rows.next_observation), -jnp.inf)
        goes_on = jnp.where(rows.terminated, 0.0, jnp.max(after, axis=2))
        aims = jax.lax.stop_gradient(earned + self.discount * gamma[None] * goes_on)
        values = jnp.reshape(jax.vmap(network)(rows.observation[:, 0]), (len(led), 2, self.length))
        found = jnp.where(led[:, :1], values[:, 1], values[:, 0])
        return 0.5 * jnp.sum(jnp.where(known, (found - aims) ** 2, 0.0)) / jnp.maximum(jnp.sum(known), 1)

    def learn(
        self,
        skip: SkipState,
        replay: Replay[Experience],
        batch_size: int,
        updates: int,
        steps: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[SkipState, dict[str, Array]]:
        """`updates` gradient steps, none while warming up, and what there is to say of them."""
        trained, fixed = eqx.partition(skip.network, eqx.is_inexact_array)
        newest = replay.newest()
        assert newest.led is not None

        def loss_of(trained: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], None]:
            rows, stored = replay.windows(key, batch_size, self.length, replay.batch)
            return self.loss(eqx.combine(trained, fixed), skip.target, rows, stored, steps), None

        def learned() -> tuple[SkipState, Float[Array, ""]]:
            found = fit(trained, skip.moments, self._adam(), loss_of, updates, key)
            network = eqx.combine(found.trained, fixed)
            share = 1.0 - (1.0 - self.polyak) ** updates
            target = jax.tree.map(lambda old, new: old + share * (new - old), skip.target, network)
            moved = eqx.tree_at(lambda s: (s.network, s.target, s.moments), skip, (network, target, found.moments))
            return moved, jnp.mean(found.losses)

        skip, loss = jax.lax.cond(steps > 0, learned, lambda: (skip, jnp.zeros_like(newest.reward[0])))
        metrics = {
            "skip_loss": loss,
            "expert_share": jnp.mean(newest.led, dtype=loss.dtype),
            "longest_trust": self.longest(steps).astype(loss.dtype),
        }
        return skip, metrics

    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)


def check_skipping(policy: StochasticPolicy, critic: CriticPlace) -> None:
    """**Raises** `ValueError` where an expert's action cannot take the place of what the policy proposes."""
    if policy.plans or critic != "action":
        raise ValueError(
            f"a skip policy lets an expert act in the place of the policy, whose proposal is then the expert's action, "
            f"and {type(policy).__name__} proposes the parameters of a planner; use skip_length=0, or sac or td3"
        )
