r"""Imitation learning: a network learns to do what a planner would do, from the planner's answers to its questions.

    for chunk i = 0, 1, …     β_i = p^i
        for every step        every environment goes one step, with the expert's action with probability β_i, with the
                              student's otherwise; the expert is asked at the observation, whoever acts
        then                  gradient steps on the losses of `imitation_losses.py`, over everything asked so far

    p = 1   the expert acts for ever: behaviour cloning. States that only the student's mistakes lead to are never
            asked about, and T steps cost up to O(ε T²) for a loss of ε
    p = 0   the expert acts in the first chunk only: DAgger, whose states become the student's own: O(ε T)

    preset            p  loss         beside it
    bc                1  action
    bc-sobolev        1  action       the planner's sensitivities
    dagger            0  action
    q-loss            0  q
    q-loss-gn         0  gauss-newton
    trajectory-loss   0  trajectory

One step is one query. The student goes on learning from where it was, with the optimiser's moments kept, instead of
anew in every chunk; rewards are not used.

References: S. Ross, G. Gordon, J. A. Bagnell, "A reduction of imitation learning and structured prediction to no-regret
online learning", 2011; planners as experts: B. Karg, S. Lucia, "Efficient representation and approximation of model
predictive control laws via deep learning", 2020.
"""

from typing import final, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from planahead.learning.expert import Expert, check_actions, expert_horizon
from planahead.learning.fitting import fit
from planahead.learning.imitation_losses import ImitationTerm, Lesson, LossName, Scored, SobolevTerm, term_of
from planahead.learning.learner import Learner, Metrics
from planahead.learning.replay import Replay
from planahead.learning.rollout import Lanes, Tally, start_lanes
from planahead.learning.visiting import Asked, visit
from planahead.policies import Policy, StochasticPolicy
from planahead.tasks import Task


@final
class ImitationState(eqx.Module):
    """Everything that changes while learning, and what it is about."""

    expert: Expert
    policy: StochasticPolicy
    moments: PyTree
    """Adam's."""
    replay: Replay[Lesson]
    lanes: Lanes
    chunks: Int[Array, ""]
    """i"""
    steps: Int[Array, ""]
    """Environment steps taken, over all environments; as many times was the expert asked."""


@final
class Imitation(Learner[ImitationState]):
    """Behaviour cloning, DAgger and what is between, with any of the losses.

    **Raises:** `ValueError` for numbers that do not fit together, with the nearest ones that do; `init` raises it for a
    policy that this learner cannot train.
    """

    loss: LossName = eqx.field(default="action", static=True)
    """See `imitation_losses.py`."""
    robust: bool = eqx.field(default=True, static=True)
    """Whether losses that are costs grow like distances far away, see there; without, it is the mean as published."""
    sobolev_weight: float = eqx.field(default=0.0, static=True)
    """Of the planner's sensitivities beside the loss; 0 leaves them out, and then none is computed."""
    expert_decay: float = eqx.field(default=0.0, static=True)
    """p: the expert's share of the steps in chunk i is p^i."""
    learning_rate: float = eqx.field(default=1e-3, static=True)
    """Adam's."""
    batch_size: int = eqx.field(default=128, static=True)
    """Rows per gradient step."""
    gradient_steps: int = eqx.field(default=500, static=True)
    """Per chunk."""
    replay_size: int = eqx.field(default=100_000, static=True)
    """Answers kept."""
    environments: int = eqx.field(default=4, static=True)
    """Simulated side by side."""
    steps_per_chunk: int = eqx.field(default=400, static=True)
    """Environment steps, and queries, per call of `advance`."""
    expert_iterations: int = eqx.field(default=30, static=True)
    """At most as many SQP iterations per plan of the expert. A plan that takes more is no label unless its residual is
    small."""

    def __check_init__(self):
        for name in ("batch_size", "gradient_steps", "replay_size", "environments", "expert_iterations"):
            self._check_range(name, getattr(self, name) >= 1, "at least 1 was expected")
        self._check_word("loss", get_args(LossName))
        self._check_range("sobolev_weight", self.sobolev_weight >= 0, "expected 0 (left out) or more")
        self._check_range("expert_decay", 0 <= self.expert_decay <= 1, "expected 0 (DAgger) to 1 (behaviour cloning)")
        self._check_range("learning_rate", self.learning_rate > 0, "a positive number was expected")
        self._check_multiple("steps_per_chunk", "environments")
        self._check_multiple("replay_size", "environments")

    def check(self, policy: Policy) -> StochasticPolicy:
        """The policy, if this learner can train it. **Raises** `ValueError` that says what is missing otherwise."""
        kind = type(policy).__name__
        if not isinstance(policy, StochasticPolicy) or policy.plans:
            raise ValueError(f"Imitation trains a network that acts by itself, such as DirectPolicy; got {kind}")
        return policy

    def init(self, task: Task, policy: Policy, key: PRNGKeyArray) -> ImitationState:
        student = self.check(policy)
        expert = Expert.of(task, self.expert_iterations)
        lanes = start_lanes(task.environment, self.environments, None, key)
        check_actions(expert, student.box, as_controls=self.loss != "action")
        self._check_horizon(expert, student)
        lesson = eqx.filter_eval_shape(self._ask, expert, lanes.observation[0])
        example = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), lesson)
        return ImitationState(
            expert=expert,
            policy=student,
            moments=self._adam().init(eqx.filter(student, student.trainable())),
            replay=Replay(example, self.replay_size, self.environments),
            lanes=lanes,
            chunks=jnp.zeros((), jnp.int32),
            steps=jnp.zeros((), jnp.int32),
        )

    def policy(self, state: ImitationState) -> StochasticPolicy:
        return state.policy

    @eqx.filter_jit
    def advance(self, state: ImitationState, key: PRNGKeyArray) -> tuple[ImitationState, Metrics]:
        visit_key, fit_key = jax.random.split(key)
        share = jnp.asarray(self.expert_decay, float) ** state.chunks
        state, tally = self._visit(state, share, visit_key)
        state, scored = self._fit(state, fit_key)
        metrics = {
            **tally.metrics(),
            "imitation_loss": scored[0].loss,
            "unusable_rows": scored[0].unusable,
            "expert_queries": state.steps,
            "expert_share": share,
            "steps": state.steps,
        }
        if self.sobolev_weight > 0:
            metrics |= {"sobolev_loss": scored[1].loss, "unusable_slopes": scored[1].unusable}
        return state, metrics

    def _visit(self, state: ImitationState, share: Float[Array, ""], key: PRNGKeyArray) -> tuple[ImitationState, Tally]:
        """`steps_per_chunk` steps with a question at each; solves that failed are the expert's."""
        expert, policy = state.expert, state.policy

        def ask(lanes: Lanes, key: PRNGKeyArray) -> Asked[Lesson]:
            lessons = jax.vmap(lambda observation: self._ask(expert, observation))(lanes.observation)
            decision = jax.vmap(policy.decide)(lanes.observation)
            leads = jax.random.bernoulli(key, share, (self.environments,))
            action = jnp.where(leads[:, None], jax.vmap(expert.box.from_unit)(lessons.unit), decision.action)
            return Asked(action, lessons, ~lessons.usable)

        steps = self.steps_per_chunk // self.environments
        found = visit(expert.task.environment, state.lanes, state.replay, ask, steps, key)
        state = eqx.tree_at(
            lambda s: (s.lanes, s.replay, s.chunks, s.steps),
            state,
            (found.lanes, found.replay, state.chunks + 1, state.steps + self.steps_per_chunk),
        )
        return state, found.tally

    def _ask(self, expert: Expert, observation: Float[Array, " observation"]) -> Lesson:
        """The expert's answer at one observation, as far as the losses need it."""
        answer = expert.answer(observation, sensitive=any(term.sensitive for _, term in self._terms()))
        kept = tuple(term.keep(expert, observation, answer) for _, term in self._terms())
        # A plan that failed may hold what is no number, which no mask keeps out of a derivative.
        kept = jax.tree.map(lambda leaf: jnp.where(answer.usable, leaf, jnp.zeros_like(leaf)), kept)
        return Lesson(observation, answer.unit, answer.usable, kept)

    def _fit(self, state: ImitationState, key: PRNGKeyArray) -> tuple[ImitationState, tuple[Scored, ...]]:
        """The gradient steps of a chunk; what the terms said is averaged over them."""
        expert = state.expert
        trained, fixed = eqx.partition(state.policy, state.policy.trainable())

        def loss_of(trained: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], tuple[Scored, ...]]:
            lessons, student = state.replay.sample(key, self.batch_size), eqx.combine(trained, fixed)
            scored = tuple(
                term.score(expert, student, lessons, kept)
                for (_, term), kept in zip(self._terms(), lessons.kept, strict=True)
            )
            weights = [weight for weight, _ in self._terms()]
            loss = sum(weight * term.loss for weight, term in zip(weights, scored, strict=True))
            return jnp.asarray(loss), scored

        fitted = fit(trained, state.moments, self._adam(), loss_of, self.gradient_steps, key)
        state = eqx.tree_at(
            lambda s: (s.policy, s.moments), state, (eqx.combine(fitted.trained, fixed), fitted.moments)
        )
        return state, jax.tree.map(jnp.mean, fitted.terms)

    def _terms(self) -> tuple[tuple[float, ImitationTerm], ...]:
        """What is minimised: weights and terms."""
        sobolev = ((self.sobolev_weight, SobolevTerm()),) if self.sobolev_weight > 0 else ()
        return ((1.0, term_of(self.loss, self.robust)), *sobolev)

    def _check_horizon(self, expert: Expert, student: StochasticPolicy) -> None:
        horizon, actions = expert_horizon(expert.task), student.box.size
        if self.loss == "trajectory" and student.proposal_size != horizon * actions:
            raise ValueError(
                f"loss='trajectory' rolls a student's whole plan out; the expert's has {horizon} controls of "
                f"{actions}, and {type(student).__name__} proposes {student.proposal_size} numbers; give it "
                f"horizon={horizon}"
            )

    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)
