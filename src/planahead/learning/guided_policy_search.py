r"""Guided policy search: a planner supervises, and never asks for more than the policy can follow in a step.

    policy        π(z | o) = N(m(o; θ), diag σ²)                      in unit coordinates of the action
    control step  p(· | x) = argmin E_p[Q(x, box(z))]   s.t.   KL(p ‖ π) <= ε              in every state
                  Q by its quadratic model at the planner's solution, so p is Gaussian: C⁻¹ = H/η + diag σ⁻²,
                  η by bisection (`constrained_lqr.py`, with Q for the cost of one stage and all that follows)
    supervision   min_θ,σ  E[(m - μ_p)ᵀ C⁻¹ (m - μ_p) + tr(C⁻¹ diag σ²) - log |diag σ²|] / 2    = E KL(π ‖ p) + constant

The supervisor acts: its states are near the policy's, and come nearer to the planner's as the policy does. p is wide
where the policy is and costs allow it, and narrow where an error is dear. Answers are to the policy of their chunk, so
few chunks of them are kept. Rewards are not used.

Here p is found state by state: the planner plans anew in every state, and Q holds what follows. The reference
constrains whole trajectories at once, and needs the policy's derivative by the state; `constrained_lqr.py` has that
step too.

References: S. Levine, V. Koltun, "Guided policy search", 2013; W. Montgomery, S. Levine, "Guided policy search via
approximate mirror descent", 2016; with MPC: T. Zhang, G. Kahn, S. Levine, P. Abbeel, "Learning deep control policies
for autonomous aerial vehicles with MPC-guided policy search", 2016.
"""

import dataclasses
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from planahead.learning.constrained_lqr import ControlStep, LinearGaussian, LinearQuadratic, control_step
from planahead.learning.expert import Expert, check_actions
from planahead.learning.fitting import fit
from planahead.learning.learner import Learner, Metrics
from planahead.learning.replay import Replay
from planahead.learning.rollout import Lanes, start_lanes
from planahead.learning.soft_losses import mean_of_usable
from planahead.learning.visiting import Asked, visit
from planahead.planning import ActionCurvature, action_curvature
from planahead.policies import GaussianPolicy, Policy
from planahead.tasks import Task


class Guidance(eqx.Module):
    """What the supervisor does in one state; a batch has a leading axis on every leaf."""

    observation: Float[Array, "*batch observation"]
    mean: Float[Array, "*batch action"]
    """μ_p, in unit coordinates."""
    precision: Float[Array, "*batch action action"]
    """C⁻¹"""
    usable: Bool[Array, "*batch"]
    """Whether the planner's solve did not fail and its costs have a quadratic model."""
    divergence: Float[Array, "*batch"]
    """KL(p ‖ π) in nats."""


@final
class GuidedState(eqx.Module):
    """Everything that changes while learning, and what it is about."""

    expert: Expert
    policy: GaussianPolicy
    moments: PyTree
    """Adam's."""
    replay: Replay[Guidance]
    lanes: Lanes
    steps: Int[Array, ""]
    """Environment steps taken, over all environments; as many times was the planner asked."""


@final
class GuidedPolicySearch(Learner[GuidedState]):
    """Learning from a planner that stays near. Costs of the planner's problem are minimised.

    **Raises:** `ValueError` for numbers that do not fit together, with the nearest ones that do; `init` raises it for a
    policy that this learner cannot train, and for a problem with scalar costs, which have no quadratic model here.
    """

    kl_bound: float = eqx.field(default=1.0, static=True)
    """ε, in nats, of every state."""
    learning_rate: float = eqx.field(default=1e-3, static=True)
    """Adam's."""
    batch_size: int = eqx.field(default=128, static=True)
    """Rows per gradient step."""
    gradient_steps: int = eqx.field(default=500, static=True)
    """Per chunk."""
    replay_size: int = eqx.field(default=2_000, static=True)
    """Answers kept: five chunks."""
    environments: int = eqx.field(default=4, static=True)
    """Simulated side by side."""
    steps_per_chunk: int = eqx.field(default=400, static=True)
    """Environment steps, and queries, per call of `advance`."""
    expert_iterations: int = eqx.field(default=30, static=True)
    """At most as many SQP iterations per plan."""

    def __check_init__(self):
        for name in ("batch_size", "gradient_steps", "replay_size", "environments", "expert_iterations"):
            self._check_range(name, getattr(self, name) >= 1, "at least 1 was expected")
        for name in ("kl_bound", "learning_rate"):
            self._check_range(name, getattr(self, name) > 0, "a positive number was expected")
        self._check_multiple("steps_per_chunk", "environments")
        self._check_multiple("replay_size", "environments")

    def check(self, policy: Policy) -> GaussianPolicy:
        """The policy, if this learner can train it. **Raises** `ValueError` that says what is missing otherwise."""
        if not isinstance(policy, GaussianPolicy) or policy.plans:
            raise ValueError(
                f"GuidedPolicySearch trains a GaussianPolicy without a planner, whose divergence from another Gaussian "
                f"is known; got {type(policy).__name__}"
            )
        return policy

    def init(self, task: Task, policy: Policy, key: PRNGKeyArray) -> GuidedState:
        student, expert = self.check(policy), Expert.of(task, self.expert_iterations)
        check_actions(expert, student.box, as_controls=True)
        lanes = start_lanes(task.environment, self.environments, None, key)
        row = eqx.filter_eval_shape(lambda o: self.guide(expert, student, o), lanes.observation[0])
        example = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), row)
        return GuidedState(
            expert=expert,
            policy=student,
            moments=self._adam().init(eqx.filter(student, student.trainable())),
            replay=Replay(example, self.replay_size, self.environments),
            lanes=lanes,
            steps=jnp.zeros((), jnp.int32),
        )

    def policy(self, state: GuidedState) -> GaussianPolicy:
        return state.policy

    @eqx.filter_jit
    def advance(self, state: GuidedState, key: PRNGKeyArray) -> tuple[GuidedState, Metrics]:
        visit_key, fit_key = jax.random.split(key)
        expert, policy = state.expert, state.policy

        def ask(lanes: Lanes, key: PRNGKeyArray) -> Asked[Guidance]:
            rows = jax.vmap(lambda observation: self.guide(expert, policy, observation))(lanes.observation)
            drawn = jax.vmap(_draw)(rows.mean, rows.precision, jax.random.split(key, self.environments))
            action = jax.vmap(expert.box.from_unit)(jnp.clip(drawn, -1.0, 1.0))
            return Asked(action, rows, ~rows.usable)

        steps = self.steps_per_chunk // self.environments
        found = visit(expert.task.environment, state.lanes, state.replay, ask, steps, visit_key)
        trained, fixed = eqx.partition(policy, policy.trainable())

        def loss_of(trained: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
            rows = found.replay.sample(key, self.batch_size)
            told = {
                "divergence": mean_of_usable(rows.divergence, rows.usable),
                "unusable_rows": jnp.mean(~rows.usable, dtype=rows.divergence.dtype),
            }
            return supervision_loss(eqx.combine(trained, fixed), rows), told

        fitted = fit(trained, state.moments, self._adam(), loss_of, self.gradient_steps, fit_key)
        learned, steps_taken = eqx.combine(fitted.trained, fixed), state.steps + self.steps_per_chunk
        state = dataclasses.replace(
            state, policy=learned, moments=fitted.moments, replay=found.replay, lanes=found.lanes, steps=steps_taken
        )
        metrics = {
            **found.tally.metrics(),
            "supervision_loss": jnp.mean(fitted.losses),
            **jax.tree.map(jnp.mean, fitted.terms),
            "std": jnp.mean(jnp.exp(learned.log_std)),
            "expert_queries": steps_taken,
            "steps": steps_taken,
        }
        return state, metrics

    def guide(self, expert: Expert, policy: GaussianPolicy, observation: Float[Array, " observation"]) -> Guidance:
        """The control step in one state; where the planner failed it is the policy itself, and no label."""
        answer = expert.answer(observation)
        problem, state = expert.task.expert(observation), expert.task.planner_state(observation)
        bent = action_curvature(problem, state, answer.plan, planner=expert.planner)
        usable = answer.usable & bent.valid
        step = near(policy.locate(observation).mean, policy.log_std, answer.unit, _in_unit(bent, expert), self.kl_bound)
        own = policy.locate(observation).mean, jnp.diag(jnp.exp(-2 * policy.log_std))
        found = step.controller.offset[0], jnp.linalg.inv(step.controller.covariance[0])
        mean, precision = (jnp.where(usable, a, b) for a, b in zip(found, own, strict=True))
        return Guidance(observation, mean, precision, usable, jnp.where(usable, step.divergence, 0.0))

    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)


def near(
    mean: Float[Array, " action"],
    log_std: Float[Array, " action"],
    best: Float[Array, " action"],
    bent: ActionCurvature,
    bound: float,
) -> ControlStep:
    """The Gaussian within `bound` nats of N(mean, diag exp(2 log_std)) that is cheapest for
    gᵀ(z - best) + ½ (z - best)ᵀ H (z - best): a control step of one stage, whose state is nothing."""
    nu, one, none = best.shape[0], jnp.zeros((1, 1)), jnp.zeros(1)
    H = jnp.pad(bent.hessian, ((1, 0), (1, 0)))
    slope = jnp.concatenate([none, bent.gradient - bent.hessian @ best])
    world = LinearQuadratic(
        A=one[None], B=jnp.zeros((1, 1, nu)), d=one, C=H[None], c=slope[None],
        P=one, p=none, mean=none, covariance=one, noise=one,
    )  # fmt: skip
    policy = LinearGaussian(jnp.zeros((1, nu, 1)), mean[None], jnp.diag(jnp.exp(2 * log_std))[None])
    return control_step(world, policy, jnp.asarray(bound))


def supervision_loss(policy: GaussianPolicy, rows: Guidance) -> Float[Array, ""]:
    """E KL(π ‖ p) but for what does not depend on the policy."""
    apart = jax.vmap(lambda observation: policy.locate(observation).mean)(rows.observation) - rows.mean
    means = jnp.einsum("bi,bij,bj->b", apart, rows.precision, apart)
    widths = jnp.einsum("bii,i->b", rows.precision, jnp.exp(2 * policy.log_std))
    return mean_of_usable(0.5 * (means + widths) - jnp.sum(policy.log_std), rows.usable)


def _in_unit(bent: ActionCurvature, expert: Expert) -> ActionCurvature:
    """The same model in unit coordinates; what is no number is left out by `usable`, and may not enter a bisection."""
    low, high = jnp.asarray(expert.box.low), jnp.asarray(expert.box.high)
    half = 0.5 * (high - low)
    gradient, hessian = half * bent.gradient, half[:, None] * bent.hessian * half[None]
    return ActionCurvature(jnp.nan_to_num(gradient), jnp.nan_to_num(hessian), bent.valid)


def _draw(mean: Float[Array, " action"], precision: Float[Array, "action action"], key: PRNGKeyArray) -> Array:
    """A sample of N(mean, precision⁻¹)."""
    root = jnp.linalg.cholesky(precision)
    return mean + jnp.linalg.solve(root.T, jax.random.normal(key, mean.shape, mean.dtype))
