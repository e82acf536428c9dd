r"""The loop of every learner with a replay: act, store, and learn from what was stored.

    for every step:   z_t ~ explore(o_t),   a_t = execute(o_t, z_t),   replay ← (o_t, z_t, r_t, o_{t+1}, terminated)
                      then, once warmed up, one `update` per `steps_per_update` environment steps

With `skip_length` > 0 a skip policy says in which steps an expert acts instead (`skipping.py`).

While warming up, z is uniform in the unit box, or with `imitation_steps` > 0 the default planner's in half of the
environments; the policy then starts from what it has imitated, and is left as it is for `imitation_hold_steps`, while
the critics learn what it is worth (`warm_start.py`). A concrete learner says how it explores and what an update is; its
state says which of its leaves an update writes, so that only these are carried through the gradient steps.

The state is one pytree that holds everything: save its leaves, load them, and the run goes on to the same numbers.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, PyTree

from planahead.learning.critics import TwinCritic
from planahead.learning.learner import Learner, Metrics
from planahead.learning.replay import Replay
from planahead.learning.rollout import Lanes, Tally, start_lanes, step_lanes
from planahead.learning.skipping import Skipping, SkipState, check_skipping
from planahead.learning.soft_losses import CriticPlace, Experience
from planahead.learning.warm_start import check_demonstrator, half_demonstrated, imitate_once
from planahead.policies import HIDDEN, Policy, Proposal, StochasticPolicy
from planahead.policies.sensitivity import sensitivities
from planahead.tasks import Task

DIAGNOSED = 32  # observations per chunk for the plan's sensitivity: shares are known to ±9 % (one standard deviation)
IMITATION, SKIPPING = 1_000_001, 1_000_002
"""Folded into a key, so that the keys of everything else are the same without them. Large, since `fold_in(key, i)` is
entry i of `split(key, n)`."""


class UpdateSums(eqx.Module):
    """Sums over gradient steps; every field is a scalar, or `None` where it is of a part that is switched off."""

    updates: eqx.AbstractVar[Float[Array, ""]]

    def metrics(self) -> Metrics:
        """Means per gradient step; NaN where there was none."""
        sums = {name: sum_ for name, sum_ in vars(self).items() if name != "updates" and sum_ is not None}
        return {name: sum_ / self.updates for name, sum_ in sums.items()}


class OffPolicyState(eqx.Module):
    """Everything that changes while learning, and what it is about."""

    task: eqx.AbstractVar[Task]
    policy: eqx.AbstractVar[StochasticPolicy]
    critic: eqx.AbstractVar[TwinCritic]
    replay: eqx.AbstractVar[Replay[Experience]]
    lanes: eqx.AbstractVar[Lanes]
    steps: eqx.AbstractVar[Int[Array, ""]]
    """Environment steps taken, over all environments."""
    skip: eqx.AbstractVar[SkipState | None]
    """`None` without a skip policy."""

    def with_policy(self: "State", policy: StochasticPolicy) -> "State":
        """The state in which learning starts from another policy."""
        return eqx.tree_at(lambda state: state.policy, self, policy)

    def marked(self: "State", parts: Callable[["State"], tuple[PyTree, ...]]) -> PyTree[bool]:
        """A state-shaped tree, true at all leaves of `parts`, except those of a policy that are not trained."""
        everything = eqx.tree_at(lambda s: s.policy, jax.tree.map(lambda _: True, self), self.policy.trainable())
        return eqx.tree_at(parts, jax.tree.map(lambda _: False, self), parts(everything))

    @abc.abstractmethod
    def written(self) -> PyTree[bool]:
        """A state-shaped tree, true at the leaves that a gradient step writes."""

    @abc.abstractmethod
    def acting(self) -> PyTree[bool]:
        """A state-shaped tree, true at those of the written leaves that are about who acts, and not about critics."""


State = TypeVar("State", bound=OffPolicyState)


class OffPolicy(Learner[State]):
    """A learner with a replay and twin critics. Rewards are maximised.

    **Raises:** `ValueError` for numbers that do not fit together, with the nearest ones that do; `init` raises it for a
    policy that this learner cannot train.
    """

    critic: CriticPlace = eqx.field(default="action", static=True)
    """What the critic judges beside the observation."""
    discount: float = eqx.field(default=0.99, static=True)
    """γ: rewards count for about 100 steps, half an episode of the tasks here."""
    polyak: float = eqx.field(default=0.005, static=True)
    """τ, the share of a trained network that enters its target network at every update of it (Haarnoja et al. 2018;
    Fujimoto et al. 2018)."""
    learning_rate: float = eqx.field(default=1e-3, static=True)
    """Adam's, for everything that is trained."""
    batch_size: int = eqx.field(default=256, static=True)
    """Rows per gradient step. With 128 the cart-pole is lost again more often, and a step costs nearly the same."""
    replay_size: int = eqx.field(default=200_000, static=True)
    """Transitions kept: whole runs of the tasks here, in 10 MB for the cart-pole."""
    environments: int = eqx.field(default=16, static=True)
    """Simulated side by side."""
    steps_per_update: int = eqx.field(default=4, static=True)
    """Environment steps per gradient step."""
    warm_up_steps: int = eqx.field(default=2_000, static=True)
    """Environment steps with uniform proposals and without learning: ten episodes of the cart-pole."""
    steps_per_chunk: int = eqx.field(default=2_000, static=True)
    """Environment steps per call of `advance`: about a second, so that progress is seen and a stop is prompt."""
    prior_weight: float = eqx.field(default=0.0, static=True)
    """w of a pull of the planner's parameters towards the problem's own, see `soft_losses.py`; off at 0, since only who
    knows the problem can say what its defaults are worth. In units of return: w is lost by parameters half a box off
    the default."""
    imitation_steps: int = eqx.field(default=0, static=True)
    """Gradient steps towards the default planner between warming up and learning, see `warm_start.py`; off at 0, since
    it presumes that the default planner is worth being imitated. Half of the environments then warm up with it."""
    imitation_hold_steps: int = eqx.field(default=10_000, static=True)
    """Environment steps after warming up in which the critics learn and a policy that has imitated stays, see
    `warm_start.py` for what that is worth; without imitation there is no hold."""
    skip_length: int = eqx.field(default=0, static=True)
    """J: a skip policy may hand the task's expert up to so many steps in a row, see `skipping.py`; off at 0."""
    skip_until: int = eqx.field(default=10_000, static=True)
    """Environment steps after warming up, and the hold after an imitation, in which the longest trust falls to none."""
    skip_price: float = eqx.field(default=0.0, static=True)
    """λ: reward that a step of the expert costs the skip policy in the end; it grows from 0 in the same time."""
    skip_exploration: float = eqx.field(default=0.1, static=True)
    """ε: how often an option is drawn uniformly."""
    hidden_layers: int = eqx.field(default=len(HIDDEN), static=True)
    """Of the critics."""
    hidden_units: int = eqx.field(default=HIDDEN[0], static=True)

    sums: ClassVar[type[UpdateSums]]
    """What an update hands back."""

    def __check_init__(self):
        whole = ("batch_size", "replay_size", "environments", "steps_per_update", "steps_per_chunk", "hidden_layers")
        for name in (*whole, "hidden_units"):
            self._check_range(name, getattr(self, name) >= 1, "at least 1 was expected")
        self._check_range("learning_rate", self.learning_rate > 0, "a positive number was expected")
        if self.critic not in ("parameters", "action"):
            raise ValueError(f"critic='{self.critic}'; a critic judges 'parameters' or an 'action'")
        self._check_range("discount", 0 <= self.discount < 1, "expected 0 <= discount < 1")
        self._check_range("polyak", 0 < self.polyak <= 1, "expected 0 < polyak <= 1")
        self._check_range("warm_up_steps", self.warm_up_steps >= 0, "expected 0 or more")
        self._check_range("imitation_steps", self.imitation_steps >= 0, "expected 0 (no imitation) or more")
        self._check_range("imitation_hold_steps", self.imitation_hold_steps >= 0, "expected 0 (no hold) or more")
        if self.imitation_steps > 0:
            self._check_multiple("warm_up_steps", "steps_per_chunk")
            self._check_range(
                "warm_up_steps",
                self.warm_up_steps > 0,
                f"imitation needs states to imitate in; use {self.steps_per_chunk}, as steps_per_chunk",
            )
        self._check_range("prior_weight", self.prior_weight >= 0, "expected 0 (no prior) or more")
        self._check_range("skip_length", self.skip_length >= 0, "expected 0 (no expert) or more")
        self._check_range("skip_until", self.skip_until >= 1, "at least 1 was expected")
        self._check_range("skip_price", self.skip_price >= 0, "expected 0 (the expert is free) or more")
        self._check_range("skip_exploration", 0 <= self.skip_exploration <= 1, "expected 0 to 1")
        self._check_multiple("environments", "steps_per_update")
        self._check_multiple("steps_per_chunk", "environments")
        self._check_multiple("replay_size", "environments")

    def check(self, policy: Policy) -> StochasticPolicy:
        """The policy, if this learner can train it. **Raises** `ValueError` that says what is missing otherwise."""
        kind, learner = type(policy).__name__, type(self).__name__
        if not isinstance(policy, StochasticPolicy):
            raise ValueError(
                f"{learner} trains a StochasticPolicy, which knows the density of what it draws; got {kind}"
            )
        if self.critic == "parameters" and not policy.plans:
            raise ValueError(
                f"critic='parameters' judges the parameters of a planner and {kind} has none; use "
                "critic='action', or a PlannerPolicy"
            )
        if self.critic == "parameters" and policy.noise == "action":
            raise ValueError(
                "critic='parameters' cannot see noise that enters at the action: the same parameters would earn "
                "different rewards; use noise='parameters' (SAC-ZOP) or critic='action' (SAC-FOA)"
            )
        if self.critic == "action" and not policy.differentiable:
            raise ValueError(
                f"critic='action' differentiates the action by the network's output, and the planner of this {kind} "
                "has no derivative; use critic='parameters' (SAC-ZOP), which needs none"
            )
        if self.skip_length > 0:
            check_skipping(policy, self.critic)
        if self.prior_weight > 0 and policy.default_unit() is None:
            raise ValueError(
                f"prior_weight={self.prior_weight} pulls the parameters of a planner towards its problem's own, and "
                f"{kind} has none; use prior_weight=0, or a PlannerPolicy"
            )
        return policy

    def learning_since(self, steps: Int[Array, ""]) -> Int[Array, ""]:
        """Environment steps since warming up, and the hold after an imitation, were over; negative before."""
        return steps - self.warm_up_steps - (self.imitation_hold_steps if self.imitation_steps > 0 else 0)

    @abc.abstractmethod
    def start(
        self, task: Task, policy: StochasticPolicy, critic: TwinCritic, replay: Replay[Experience], lanes: Lanes
    ) -> State:
        """The state before the first step, around what every learner with a replay has."""

    @abc.abstractmethod
    def explore(
        self, policy: StochasticPolicy, observation: Float[Array, "n observation"], keys: Key[Array, " n"]
    ) -> Proposal:
        """What to try in every environment, leaves with a leading axis `n`."""

    @abc.abstractmethod
    def update(self, state: State, batch: Experience, key: PRNGKeyArray) -> tuple[State, UpdateSums]:
        """One gradient step of everything that is trained."""

    def no_losses(self, zero: Float[Array, ""]) -> UpdateSums:
        """The sums of no update at all."""
        return self.sums(*[zero] * len(dataclasses.fields(self.sums)))

    def check_task(self, task: Task) -> None:
        """**Raises** `ValueError` that says what the task lacks, where this learner needs more than a world."""
        del task

    def init(self, task: Task, policy: Policy, key: PRNGKeyArray) -> State:
        trained = self.check(policy)
        self.check_task(task)
        if self.imitation_steps > 0:
            check_demonstrator(trained, task)
        critic_key, lanes_key = jax.random.split(key)
        memory = trained.initial_memory()
        lanes = start_lanes(task.environment, self.environments, memory, lanes_key)
        point = jnp.zeros(trained.proposal_size if self.critic == "parameters" else trained.box.size)
        critic = TwinCritic(
            task.environment.observation_scale,
            point.size,
            hidden=(self.hidden_units,) * self.hidden_layers,
            key=critic_key,
        )
        stored_memory = (
            trained.judged_memory(memory) if self.critic == "action" else None
        )  # the updates of a critic over φ never plan
        no = jnp.array(False)
        example = Experience(
            lanes.observation[0], point, jnp.zeros(()), lanes.observation[0], no, no, stored_memory, stored_memory
        )
        skip, skipping = None, self.skipping()
        if skipping is not None:
            hidden, skip_key = (self.hidden_units,) * self.hidden_layers, jax.random.fold_in(key, SKIPPING)
            skip = skipping.start(task, self.environments, hidden, skip_key)
            example = dataclasses.replace(example, led=no, ended=no)
        state = self.start(task, trained, critic, Replay(example, self.replay_size, self.environments), lanes)
        return dataclasses.replace(state, skip=skip)

    def skipping(self) -> Skipping | None:
        """The skip policy's part, where there is one."""
        until, price, wander = self.skip_until, self.skip_price, self.skip_exploration
        part = Skipping(self.skip_length, until, price, wander, self.discount, self.polyak, self.learning_rate)
        return part if self.skip_length > 0 else None

    @eqx.filter_jit
    def advance(self, state: State, key: PRNGKeyArray) -> tuple[State, Metrics]:
        run_key, diagnosis_key = jax.random.split(key)
        before: Metrics = {}
        if self.imitation_steps > 0:
            state, before["imitation_loss"] = self._imitate(state, jax.random.fold_in(key, IMITATION))
        arrays, rest = eqx.partition(state, eqx.is_array)

        def iterate(arrays: PyTree, key: PRNGKeyArray) -> tuple[PyTree, tuple[Tally, UpdateSums, Metrics]]:
            act_key, learn_key = jax.random.split(key)
            state, tally = self._act(eqx.combine(arrays, rest), act_key)
            state, losses = self._learn(state, learn_key)
            state, skipped = self._learn_to_skip(state, jax.random.fold_in(key, SKIPPING))
            return eqx.filter(state, eqx.is_array), (tally, losses, skipped)

        keys = jax.random.split(run_key, self.steps_per_chunk // self.environments)
        arrays, (*counted, skipped) = jax.lax.scan(iterate, arrays, keys)
        tally, losses = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), counted)
        before |= jax.tree.map(jnp.mean, skipped)
        state = eqx.combine(arrays, rest)
        metrics = {**tally.metrics(), **losses.metrics(), **before, "steps": state.steps}
        if state.policy.plans and state.policy.differentiable:
            found = sensitivities(state.policy, state.replay.sample(diagnosis_key, DIAGNOSED).observation)
            metrics["smallest_singular_value"] = jnp.mean(found.smallest_singular_value)
            metrics["vanishing_gradients"] = jnp.mean(found.vanishing, dtype=found.smallest_singular_value.dtype)
        return state, metrics

    def policy(self, state: State) -> StochasticPolicy:
        return state.policy

    def _act(self, state: State, key: PRNGKeyArray) -> tuple[State, Tally]:
        """One step of every environment, and its transitions into the replay."""
        policy, lanes = state.policy, state.lanes
        propose_key, uniform_key, step_key = jax.random.split(key, 3)
        proposal = self.explore(policy, lanes.observation, jax.random.split(propose_key, self.environments))
        uniform = jax.random.uniform(uniform_key, proposal.unit.shape, proposal.unit.dtype, minval=-1.0, maxval=1.0)
        warming_up = state.steps < self.warm_up_steps
        if self.imitation_steps > 0:
            uniform = jax.lax.cond(
                warming_up,
                lambda uniform: half_demonstrated(policy, state.task, lanes.observation, uniform),
                lambda uniform: uniform,
                uniform,
            )
        unit, led = jnp.where(warming_up, uniform, proposal.unit), None
        skip, skipping = state.skip, self.skipping()
        if skipping is not None and skip is not None:
            since, skip_key = self.learning_since(state.steps), jax.random.fold_in(key, SKIPPING)
            skip = skipping.choose(skip, lanes.observation, since, skip_key)
            unit, led = skipping.lead(skip, state.task, lanes.observation, unit)
        proposal = eqx.tree_at(lambda p: p.unit, proposal, unit)
        decision = jax.vmap(policy.execute)(lanes.observation, proposal, lanes.memory)
        failed = jnp.asarray(decision.failed)
        after, moved, tally = step_lanes(
            state.task.environment,
            lanes,
            decision.action,
            failed,
            decision.memory,
            policy.initial_memory(),
            step_key,
            decision.filtered,
        )
        ended = moved.terminated | moved.truncated
        judges_action = self.critic == "action"
        credited = decision.action if decision.credited is None else decision.credited
        experience = Experience(
            observation=lanes.observation,
            point=jax.vmap(policy.box.to_unit)(credited) if judges_action else unit,
            reward=moved.reward - decision.penalty,
            next_observation=moved.observation,
            terminated=moved.terminated,
            failed=failed,
            memory=policy.judged_memory(lanes.memory) if judges_action else None,
            next_memory=policy.judged_memory(decision.memory) if judges_action else None,
            led=led,
            ended=None if led is None else ended,
        )
        skip = None if skip is None else skip.passed(ended)
        replay, steps = state.replay.insert(experience), state.steps + self.environments
        return dataclasses.replace(state, lanes=after, replay=replay, steps=steps, skip=skip), tally

    def _imitate(self, state: State, key: PRNGKeyArray) -> tuple[State, Float[Array, ""]]:
        """Imitation in the one chunk that begins where warming up ended; NaN is its loss in all others."""
        due, steps = state.steps == self.warm_up_steps, self.imitation_steps
        seen = state.replay.front(min(self.warm_up_steps, self.replay_size)).observation
        found = imitate_once(due, state.policy, state.task, seen, self.adam(), steps, self.batch_size, key)
        started = state.with_policy(found.policy)
        # What else starts from a policy, as TD3's target does, is left alone in all other chunks.
        kept = jax.tree.map(lambda new, old: old if new is old else jnp.where(due, new, old), started, state)
        return kept, found.loss

    def _learn(self, state: State, key: PRNGKeyArray) -> tuple[State, UpdateSums]:
        """The gradient steps that are due after one step of every environment: none while warming up."""
        written = state.written()
        changing, constant = eqx.partition(state, written)
        zero = jnp.zeros((), state.lanes.observation.dtype)
        nothing = self.no_losses(zero)

        def gradient_step(
            carry: tuple[PyTree, UpdateSums], key: PRNGKeyArray
        ) -> tuple[tuple[PyTree, UpdateSums], None]:
            changing, total = carry
            batch_key, update_key = jax.random.split(key)
            batch = state.replay.sample(batch_key, self.batch_size)
            old = eqx.combine(changing, constant)
            new, losses = self.update(old, batch, update_key)
            new = self._held(old, new)
            return (eqx.filter(new, written), jax.tree.map(jnp.add, total, losses)), None

        def learn(changing: PyTree) -> tuple[PyTree, UpdateSums]:
            keys = jax.random.split(key, self.environments // self.steps_per_update)
            return jax.lax.scan(gradient_step, (changing, nothing), keys)[0]

        warm = state.steps > self.warm_up_steps
        changing, losses = jax.lax.cond(warm, learn, lambda changing: (changing, nothing), changing)
        return eqx.combine(changing, constant), losses

    def _held(self, old: State, new: State) -> State:
        """The state after a gradient step, which leaves alone who acts until the hold after an imitation is over; the
        actor's loss is told meanwhile, and costs what it always does."""
        if self.imitation_steps == 0 or self.imitation_hold_steps == 0:
            return new
        held = self.learning_since(new.steps) <= 0
        return jax.tree.map(lambda acts, old, new: jnp.where(held, old, new) if acts else new, new.acting(), old, new)

    def _learn_to_skip(self, state: State, key: PRNGKeyArray) -> tuple[State, Metrics]:
        """As many gradient steps of the skip policy, where there is one, as of everything else."""
        skip, skipping, updates = state.skip, self.skipping(), self.environments // self.steps_per_update
        if skipping is None or skip is None:
            return state, {}
        since = self.learning_since(state.steps)
        skip, metrics = skipping.learn(skip, state.replay, self.batch_size, updates, since, key)
        return dataclasses.replace(state, skip=skip), metrics

    def adam(self) -> optax.GradientTransformation:
        """The optimiser of everything that is trained."""
        return optax.adam(self.learning_rate)
