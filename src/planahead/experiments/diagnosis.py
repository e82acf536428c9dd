r"""Can a policy that steers a planner learn here? What its parameters can reach, and where its gradient is blind.

    at visited states s, for φ of the policy and for φ drawn uniformly from the parameter box:

    σ_min(s, φ)   smallest singular value of J = ∂ unit u₀*(s, φ) / ∂ unit φ
    reach(s)      {u₀*(s, φ): φ in the box}, as a share of the action box

A first-order learner follows Jᵀ ∇_a Q. Where J loses rank at the policy's own φ, at an active bound for instance, that
is zero in some direction whatever the critic says. If other parameters reach other actions from the same state, the
policy stands at a *spurious* stationary point: nothing pulls it towards an action that may be better. A critic over
actions, where there is one, says whether it is: gain(s) = max_φ Q(s, u₀*(s, φ)) - Q(s, u₀*(s, φ_π)) > 0.

`reach` is measured with `samples` draws. With one control it is an interval, from the smallest to the largest action
that was reached; with more it is the share of cells of a grid that were, at least four draws per cell, so that it can
only be too small.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from planahead.experiments.episodes import run_episodes
from planahead.experiments.errors import UserError
from planahead.experiments.progress import percent
from planahead.learning import TwinCritic
from planahead.policies import Proposal, StochasticPolicy, linearised, smallest_singular_value
from planahead.policies.sensitivity import VANISHING
from planahead.tasks import Task

EDGE = 1e-3  # in unit coordinates: an interior-point plan ends this close to a bound that is active
WIDE = 0.05  # of the action box: a reach below it is as good as a single action
PREFERS = 0.01  # of the spread of values over states: what a critic is not sure of is no preference


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What was found, in unit coordinates on both sides (numpy). `S` states, `K` draws of φ for each."""

    observations: np.ndarray
    """[S, observation], physical units."""
    actions: np.ndarray
    """[S, nu], of the policy."""
    smallest: np.ndarray
    """σ_min at the policy's φ [S]."""
    failed: np.ndarray
    """Whether the solve at the policy's φ failed [S]."""
    box_actions: np.ndarray
    """[S, K, nu]."""
    box_smallest: np.ndarray
    """[S, K]."""
    box_failed: np.ndarray
    """[S, K]."""
    gain: np.ndarray | None
    """By how much the critic values the best reached action more than the policy's, as a share of the spread of values
    over states [S]; 0 where they have no spread, as those of a single state; `None` without a critic over actions."""
    parameters: int
    """Number of parameters."""

    @property
    def usable(self) -> np.ndarray:
        """States whose own solve did not fail."""
        return ~self.failed

    @property
    def reach(self) -> np.ndarray:
        """Share of the action box that was reached from every state [S]; failed solves reach nothing."""
        return np.array([_reach(a[~f]) for a, f in zip(self.box_actions, self.box_failed, strict=True)])

    @property
    def blind(self) -> np.ndarray:
        """Where J loses rank at the policy's own φ [S]."""
        return self.usable & (self.smallest < VANISHING)

    @property
    def spurious(self) -> np.ndarray:
        """Blind states from which other parameters reach other actions, and better ones if a critic can say [S]."""
        found = self.blind & (self.reach > WIDE)
        return found if self.gain is None else found & (self.gain > PREFERS)

    @property
    def at_bound(self) -> np.ndarray:
        """States whose planned action lies at an edge of the action box [S]."""
        return np.abs(self.actions).max(axis=1) > 1 - EDGE

    def summary(self) -> dict[str, Any]:
        """Shares of the visited states unless said otherwise."""
        good = ~self.box_failed
        return {
            "states": len(self.smallest),
            "draws_per_state": self.box_smallest.shape[1],
            "parameters": self.parameters,
            "controls": self.actions.shape[1],
            "smallest_singular_value_median": _quantile(self.smallest[self.usable], 0.5),
            "smallest_singular_value_median_over_box": _quantile(self.box_smallest[good], 0.5),
            "blind": float(self.blind.mean()),
            "blind_over_box": float((self.box_smallest[good] < VANISHING).mean()) if good.any() else float("nan"),
            "blind_at_action_bound": float(self.at_bound[self.blind].mean()) if self.blind.any() else None,
            "spurious": float(self.spurious.mean()),
            "judged_by_critic": self.gain is not None,
            "reach_median": _quantile(self.reach, 0.5),
            "reach_low": _quantile(self.reach, 0.1),
            "failed_solves": float(self.failed.mean()),
            "failed_solves_over_box": float(self.box_failed.mean()),
        }

    def warnings(self) -> list[str]:
        """What a reader should know, in sentences; none where nothing is wrong."""
        s, found = self.summary(), []
        if self.parameters < s["controls"]:
            found.append(
                f"{self.parameters} parameters cannot move {s['controls']} controls independently: ∂u₀/∂φ never has "
                "full rank. Learn more parameters."
            )
        if s["blind"] > 0:
            bound = s["blind_at_action_bound"]
            found.append(
                f"At {percent(s['blind'])} of the visited states ∂u₀/∂φ loses rank at the policy's parameters; in "
                f"{percent(bound)} of them the action lies at its bound. SAC-FOP, SAC-FOA and TD3-FOP see no way there "
                "to move some direction of the action; SAC-ZOP asks for no derivative, and a smoothed plan has one "
                "(planahead train … --options planner_tau=1e-3)."
            )
        if s["spurious"] > 0:
            why = (
                "the critic values an action that other parameters reach more"
                if s["judged_by_critic"]
                else f"other parameters reach other actions (more than {percent(WIDE)} of the action box)"
            )
            found.append(
                f"Spurious stationary points: at {percent(s['spurious'])} of the visited states the gradient vanishes "
                f"although {why}."
            )
        if s["reach_median"] < 0.5:
            found.append(
                f"From half of the states {s['draws_per_state']} draws from the parameter box reached less than "
                f"{percent(s['reach_median'])} of the action box. Draw more (--samples); if that does not help, widen "
                "the parameters' box, or learn others."
            )
        if s["failed_solves_over_box"] > 0.01:
            found.append(
                f"{percent(s['failed_solves_over_box'])} of the solves over the parameter box fail; learners leave "
                "these rows out. Narrow the box, or soften constraints."
            )
        return found

    def rows(self, observation_names: Sequence[str], action_names: Sequence[str]) -> list[dict[str, Any]]:
        """A line per state, for a table."""
        reach, spurious = self.reach, self.spurious
        rows = []
        for i in range(len(self.smallest)):
            good = self.box_smallest[i][~self.box_failed[i]]
            rows.append(
                {
                    **dict(zip(observation_names, self.observations[i].tolist(), strict=True)),
                    **{f"unit {name}": value for name, value in zip(action_names, self.actions[i], strict=True)},
                    "smallest_singular_value": float(self.smallest[i]),
                    "failed": bool(self.failed[i]),
                    "blind": bool(self.blind[i]),
                    "spurious": bool(spurious[i]),
                    "at_action_bound": bool(self.at_bound[i]),
                    "box_median_smallest_singular_value": _quantile(good, 0.5),
                    "box_blind": float((good < VANISHING).mean()) if good.size else float("nan"),
                    "box_failed": float(self.box_failed[i].mean()),
                    "reach": float(reach[i]),
                    "critic_gain": None if self.gain is None else float(self.gain[i]),
                }
            )
        return rows


def diagnose(
    task: Task,
    policy: StochasticPolicy,
    key: PRNGKeyArray,
    states: int = 200,
    samples: int = 64,
    critic: TwinCritic | None = None,
) -> Diagnosis:
    """Diagnose `policy` at states that it visits in episodes of `task`.

    `critic` judges actions in unit coordinates. **Raises:** `UserError` for a policy without a differentiable plan.
    """
    if not (policy.plans and policy.differentiable):
        raise UserError(
            f"{type(policy).__name__} has no planner with a derivative, so no ∂u₀/∂φ to diagnose; give a task, or a "
            "run of an algorithm that plans (sac-zop, sac-fop, sac-foa, td3-zop, td3-fop)."
        )
    episode_key, state_key, box_key = jax.random.split(key, 3)
    observations = visited(task, policy, episode_key, state_key, states)
    units = jax.random.uniform(
        box_key, (states, samples, policy.proposal_size), observations.dtype, minval=-1.0, maxval=1.0
    )
    own, over_box, gain = jax.tree.map(np.asarray, _measure(policy, observations, units, critic))
    return Diagnosis(np.asarray(observations), *own, *over_box, gain=gain, parameters=policy.proposal_size)


def visited(
    task: Task, policy: StochasticPolicy, episode_key: PRNGKeyArray, state_key: PRNGKeyArray, number: int
) -> Float[Array, "number observation"]:
    """Observations from deterministic episodes, drawn uniformly from all at which the policy decided."""
    episodes = run_episodes(task, policy, episode_key, 25)
    decided = np.flatnonzero(episodes.steps.alive)
    chosen = np.asarray(jax.random.choice(state_key, decided, (number,)))

    def before(start: np.ndarray, after: np.ndarray) -> Array:
        """Of the chosen steps, by the states after all steps [T, episodes] and those at the start [episodes]."""
        states = np.concatenate([start[None], after[:-1]])
        return jnp.asarray(states.reshape(-1, *states.shape[2:])[chosen])

    return jax.vmap(task.environment.observe)(jax.tree.map(before, episodes.start, episodes.steps.state))


@eqx.filter_jit
def _measure(
    policy: StochasticPolicy,
    observations: Float[Array, "S observation"],
    units: Float[Array, "S K parameters"],
    critic: TwinCritic | None,
) -> tuple[Any, Any, Any]:
    def at(observation: Array, unit: Array) -> tuple[Array, Array, Array]:
        proposal = Proposal(unit, jnp.zeros((), unit.dtype))
        found = linearised(policy, observation, proposal, policy.judged_memory(policy.initial_memory()))
        failed = jnp.asarray(found.decision.failed) | ~jnp.asarray(found.decision.gradient_valid)
        return policy.box.to_unit(found.decision.action), smallest_singular_value(found.jacobian), failed

    own = jax.vmap(lambda observation: at(observation, policy.propose(observation).unit))(observations)
    over_box = jax.vmap(jax.vmap(at, (None, 0)))(observations, units)
    if critic is None:
        return own, over_box, None
    value = jnp.min(critic(observations, own[0]), axis=0)
    others = jax.vmap(lambda actions: jnp.min(critic(observations, actions), axis=0), 1, 1)(over_box[0])
    best = jnp.max(jnp.where(over_box[2], -jnp.inf, others), axis=1)
    spread = jnp.std(value)
    return own, over_box, jnp.where(spread == 0, 0.0, (best - value) / spread)


def _reach(actions: np.ndarray) -> float:
    """Share of the box [-1, 1]ⁿ that `actions` [K, n] reach."""
    draws, controls = actions.shape
    if draws == 0:
        return 0.0
    if controls == 1:
        return float(np.ptp(actions)) / 2
    cells = max(1, int((draws / 4) ** (1 / controls)))
    index = np.clip(((actions + 1) / 2 * cells).astype(int), 0, cells - 1)
    return len(np.unique(index, axis=0)) / cells**controls


def _quantile(values: np.ndarray, q: float) -> float:
    return float(np.quantile(values, q)) if values.size else float("nan")
