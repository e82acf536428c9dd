r"""A predictive safety filter: of the actions that are certain to be safe, the closest to a proposed one.

A plan is a certificate: simulated from the present state it keeps every constraint and ends in the terminal safe set,
whose law takes over. The filter holds five, and acts with the closest to the proposal u_L among those that a simulation
confirms:

    0   u_L, then the rest of the solved plan
    1   u_L, then the rest of the remembered certificate
    2   u_L, then the terminal law
    3   the solved plan                                    min ‖u_0 - u_L‖²_W, see problem/safety.py
    4   the remembered certificate, one step on; its end is the terminal law

So what the solver says is never believed, a proposal that is safe passes unchanged, F(F(u)) = F(u), and a failed solve
falls back on the last certificate. With a disturbance the remembered plan is followed by u = v_k + K (x - z_k). Its
certificate was given for every disturbance within the bound, and its end keeps a smaller margin than the start of
another, so it holds whatever a simulation says now, as long as the world kept its part: with x̂ what the model made of
the last state and action, and w̄, r_∞ of the tube,

    |x - x̂| <= w̄    and    |x - z| <= r_∞         both up to rounding; w̄ = r_∞ = 0 where there is no tube.

Otherwise it is lost, until a simulation confirms a plan. With a soft safety problem the solved plan acts meanwhile,
which returns to the safe states; with a hard one the last resort is the remembered plan, or before the first
certificate the terminal law.

Reference: K. P. Wabersich, M. N. Zeilinger, "A predictive safety filter for learning-based control of constrained
nonlinear dynamical systems", Automatica 129 (2021).
"""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from planahead.planning import SQP, Exact, Guess, Plan, solve, transcription
from planahead.planning.elastic import violations
from planahead.problem import SafetyProblem, scan_stages
from planahead.qp import Status

_SOLVED, _REMEMBERED = 3, 4  # of the candidates

CONFIRMED = 0.5
"""Share of the problem's margin that a simulation has to keep; the solver may take the rest."""


def default_planner() -> SQP:
    """The exact Hessian, since nearly all curvature of a safety problem is in its constraints: of 500 problems of the
    cart-pole with a horizon of 10 under random proposals, five iterations find a safe plan in 98 %, and in 77 % with
    Gauss-Newton's; what is unsolved then is better met by falling back than by waiting. A tolerance at which a proposal
    on the border of the safe actions is found to be one of them."""
    tolerance = 1e-8 if jnp.result_type(float) == jnp.float64 else 1e-6
    return SQP(hessian=Exact(), iterations=5, tolerance=tolerance, gradient_tolerance=1e-2)


class Certificate(eqx.Module):
    """What is remembered from step to step: a plan from the last state."""

    plan: Guess
    safe: Bool[Array, ""]
    """Whether it was one when it was remembered; false before the first step of an episode."""
    known: Bool[Array, ""]
    """Whether there has been one in this episode: its plan is gone on with even where it has been lost."""
    expected: Float[Array, " nx"]
    """x̂, the next state if nothing disturbs it."""


class Filtered(eqx.Module):
    """What became of a proposal."""

    action: Float[Array, " nu"]
    proposal: Float[Array, " nu"]
    """As it came, within the control bounds."""
    certified: Bool[Array, ""]
    """Whether a certificate covers the action."""
    fallback: Bool[Array, ""]
    """Whether neither the proposal nor this step's plan was confirmed, so that the remembered plan acted."""
    memory: Certificate
    plan: Plan
    """This step's."""
    gradient_valid: Bool[Array, ""]
    """Whether `action` has a derivative by `proposal`; zero where not. It is the identity where the proposal passed."""


@final
class SafetyFilter(eqx.Module):
    """A safety problem and who solves it.

    >>> import planahead as pa
    >>> task = pa.make_task("mass-spring-damper", matched=True)
    >>> safety = SafetyFilter(pa.linear_safety_problem(task.problem, horizon=10))
    >>> state = jnp.array([1.9, 0.45])
    >>> found = safety(state, jnp.array([0.5]))
    >>> bool(found.certified), bool(found.action[0] < 0.5), bool(safety(state, found.action).action == found.action)
    (True, True, True)
    """

    problem: SafetyProblem
    planner: SQP = eqx.field(default_factory=default_planner)

    def initial_memory(self) -> Certificate:
        """No certificate yet."""
        N, nx, nu = self.problem.horizon, self.problem.state_size, self.problem.control_size
        plan, no = Guess(jnp.zeros((N + 1, nx)), jnp.zeros((N, nu))), jnp.array(False)
        return Certificate(plan, safe=no, known=no, expected=jnp.zeros(nx))

    def __call__(
        self, state: Float[Array, " nx"], proposal: Float[Array, " nu"], memory: Certificate | None = None
    ) -> Filtered:
        """The safe action closest to `proposal` in `state`. `memory` is that of the previous step's `Filtered`."""
        memory = self.initial_memory() if memory is None else memory
        low, high = transcription.control_box(self.problem)
        proposal = jnp.clip(proposal, low[0], high[0])
        kept = self._one_step_on(memory, state)
        holds = memory.safe & self._undisturbed(memory.expected, kept.states[0], state)
        following = self._follow(kept, state)
        problem = self.problem.towards(proposal, state, following.controls)
        plan = solve(problem, state, guess=following, planner=self.planner)

        solved, here = plan.guess(), jax.lax.stop_gradient(proposal)
        found = [
            self._follow(_begun(solved, state, here), state),
            self._follow(_begun(kept, state, here), state),
            self._obey(state, here),
            self._follow(_begun(solved, state, solved.controls[0]), state),
            following,
        ]
        candidates = jax.lax.stop_gradient(jax.tree.map(lambda *leaves: jnp.stack(leaves), *found))
        confirmed = jax.vmap(lambda guess: self._confirms(problem, guess))(candidates)
        answered = plan.status != Status.INVALID_INPUT  # or the plan is the guess
        confirmed = confirmed & (answered | (jnp.arange(confirmed.size) != _SOLVED))
        away = problem.weight.values[:1] * (candidates.controls[:, 0] - here[None])
        # Ties go to the first: a proposal that passes is not replaced by an equal plan.
        closest = jnp.argmin(jnp.where(confirmed, jnp.sum(away**2, axis=1), jnp.inf))
        recovering = ~holds if self.problem.slack is not None else jnp.array(False)
        chosen = jnp.where(jnp.any(confirmed), closest, jnp.where(recovering, _SOLVED, _REMEMBERED))
        certified = jnp.any(confirmed) | holds

        passes, planned = chosen < _SOLVED, chosen == _SOLVED
        action = jnp.where(passes, proposal, jnp.where(planned, plan.controls[0], candidates.controls[_REMEMBERED, 0]))
        # A certificate that no simulation confirms goes on as it was given: its feedback refers to its own states.
        inherited = holds & ~jnp.any(confirmed)
        follow = jax.tree.map(lambda leaf, old: jnp.where(inherited, old, leaf[chosen]), candidates, kept)
        return Filtered(
            action=action,
            proposal=here,
            certified=certified,
            fallback=(chosen == _REMEMBERED) & ~jnp.any(confirmed[:_REMEMBERED]),
            memory=jax.lax.stop_gradient(
                Certificate(follow, certified, memory.known | certified, candidates.states[chosen, 1])
            ),
            plan=plan,
            gradient_valid=passes | (planned & plan.gradient_valid),
        )

    def _one_step_on(self, memory: Certificate, state: Float[Array, " nx"]) -> Guess:
        """The remembered plan from now on; the terminal law from `state` where there is none."""
        states, controls = memory.plan.states, memory.plan.controls
        end = self.problem.terminal.control(states[-1])
        shifted = Guess(
            jnp.concatenate([states[1:], self.problem.dynamics(states[-1], end)[None]]),
            jnp.concatenate([controls[1:], end[None]]),
        )
        fresh = self._obey(state, self.problem.terminal.control(state))
        return shifted.where(memory.known, fresh)

    def _undisturbed(
        self, expected: Float[Array, " nx"], planned: Float[Array, " nx"], state: Float[Array, " nx"]
    ) -> Bool[Array, ""]:
        """Whether the tube allows for `state` being where it is, see above. Its first radius after stage 0 is w̄, or
        with a horizon of 1 r_∞."""
        error, radius = self.problem.error, self.problem.tube.state_radius.values
        rounding = jnp.sqrt(jnp.finfo(state.dtype).eps) * jnp.maximum(1.0, jnp.abs(state))
        near = jnp.abs(error(state, expected)) <= radius[1] + rounding
        return jnp.all(near & (jnp.abs(error(state, planned)) <= radius[-1] + rounding))

    def _obey(self, state: Float[Array, " nx"], first: Float[Array, " nu"]) -> Guess:
        """What happens from `state` under the terminal law, after the control `first`."""

        def control(x: Array, stage: Array) -> Array:
            return jnp.where(stage == 0, first, self.problem.terminal.control(x))

        return self._simulate(state, control, jnp.arange(self.problem.horizon))

    def _follow(self, plan: Guess, state: Float[Array, " nx"]) -> Guess:
        """What happens from `state` along `plan`, held to it by the tube's feedback."""

        def control(x: Array, planned: tuple[Array, Array]) -> Array:
            return planned[1] + self.problem.tube.gain @ self.problem.error(x, planned[0])

        return self._simulate(state, control, (plan.states[:-1], plan.controls))

    def _simulate(self, state: Float[Array, " nx"], control: Callable[[Array, Any], Array], inputs: Any) -> Guess:
        """What happens from `state` with u_k = control(x_k, inputs_k), moved into the bounds."""
        low, high = transcription.control_box(self.problem)

        def advance(x: Array, stage: SafetyProblem, given: Any) -> tuple[Array, Array]:
            u = jnp.clip(control(x, given), low[0], high[0])
            return stage.dynamics(x, u), u

        return Guess(*scan_stages(advance, self.problem, state, inputs))

    def _confirms(self, problem: SafetyProblem, plan: Guess) -> Bool[Array, ""]:
        """Whether a simulated plan keeps every row of `problem`, soft ones too, with half of its margin."""
        strict = problem.with_margin(CONFIRMED)
        size = transcription.general_size(strict)
        z = transcription.join(plan.controls, plan.states)
        data = transcription.row_data(strict, size, z.dtype, pinned=False)
        worst = jnp.max(violations(data.bound, transcription.row_values(strict, z, size)))
        return (worst <= 0.0) & jnp.all(jnp.isfinite(z))


def _begun(plan: Guess, state: Float[Array, " nx"], first: Float[Array, " nu"]) -> Guess:
    """`plan` with its first control replaced, which its feedback leaves as it is."""
    return Guess(jnp.concatenate([state[None], plan.states[1:]]), jnp.concatenate([first[None], plan.controls[1:]]))
