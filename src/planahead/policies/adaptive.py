r"""How much is computed for a decision is a decision: go on with the old plan, or plan anew, and how far ahead.

    option 0       the control that the plan in use has for this step, nothing is computed
    option j > 0   a new plan of problem j, from the shifted old one: the same problem with another horizon, as a rule
    chosen         argmin_j  R_ψ(ξ)_j + price · c_j         of those that are possible

    symbol   shape      meaning
    ξ        [2 nx + nu + 2]  what is known: x, x - x̂ (how far the plan in use is off), its control û, how many of its
                        controls are left, how old it is (zeros without one)
    R_ψ      [options]  regret, in cost: unit · (exp(network) - 1), since regrets span decades
    c        [options]  computation; by default the stages that are planned: 0, N_1, N_2, …
    price    []         what a unit of computation is worth in cost

The regret of acting with u where the longest planner would act with u*,

    R = Q(x, u) - min_i Q(x, u_i),       Q the longest planner's action value (`planning.action_value`)

is what the closed loop loses by it: costs of two policies differ by the sum of the one's advantages along the other's
way (S. Kakade, J. Langford, "Approximately optimal approximate reinforcement learning", ICML 2002), as far as Q is the
longest planner's closed loop, which a long horizon makes it. The price is no part of what is learned: one network
serves all prices. With one problem this is event-triggered MPC with a learned event, without option 0
(`patience=1`) a learned horizon.

Only what is chosen is computed for one lane; under `vmap` all options are, and one is kept. After S. Bøhn, S. Gros, S.
Moe, T. Johansen, "Optimization of the model predictive control meta-parameters through reinforcement learning", EAAI
2023, who learn from rewards what is learned here by regression on measured regrets (`learning.fit_adaptive_planner`).
It fails where the longest planner is not the best one in the closed loop, since it is the yardstick, and where the plan
in use is wrong in ways that x - x̂ does not tell, a moved obstacle for instance.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from planahead.planning import SQP, Guess, Plan, cold_start, solve
from planahead.policies.acting import first_action
from planahead.policies.failure import CONTENT, plan_failed
from planahead.policies.network import Network
from planahead.policies.policy import Decision, Policy, Setting, flat_settings
from planahead.policies.stochastic import ActionBox
from planahead.problem import Problem

ENDLESS = 1_000_000
"""Steps after which a new plan is due, unless told; every plan ends before."""


class InUse(eqx.Module):
    """The plan that is being followed, at the step to come, and how the last decision came about."""

    plan: Plan
    """One stage earlier than it was made for every step since, its end repeated."""
    left: Int[Array, ""]
    """Controls of it that are left."""
    age: Int[Array, ""]
    """Steps since it was made."""
    known: Bool[Array, ""]
    """False before the first plan, and after a failed one."""
    chosen: Int[Array, ""]
    """Which option was taken."""


@final
class AdaptivePlanner(Policy):
    """Plans when and as far ahead as it seems worth it.

    **Arguments:**

    - `problems`: what may be planned, the longest horizon last.
    - `planner_state`: the planner's initial state, computed from the observation.
    - `box`: the actions.
    - `price`: of a unit of computation, in cost. At 0 it plans as the longest planner does, or as cheap where that is
      no worse.
    - `computation`: of every option, that of going on first; the horizons by default.
    - `patience`: after how many steps a new plan is due, at the latest; 1 for a new one in every step.
    - `planner`: how problems are solved.
    - `hidden`, `key`: of the network, which predicts regrets of about nothing until it is fitted: the cheapest option
      acts, so that a fixed `patience` of n is planning in every n-th step.

    **Raises:** `ValueError` for problems that do not belong together, or are not in the order of their horizons, and
    numbers out of range.

    >>> import dataclasses, planahead as pa
    >>> task = pa.make_task("obstacles")
    >>> short = dataclasses.replace(task.problem, horizon=5)
    >>> policy = AdaptivePlanner((short, task.problem), task.planner_state, task.action_box, key=jax.random.key(0))
    >>> policy.computation.tolist(), int(policy.decide(jnp.array([-1.5, 0.0, 0.0, 0.0])).memory.chosen)
    ([0.0, 5.0, 15.0], 1)
    """

    problems: tuple[Problem, ...]
    network: Network
    unit: Float[Array, ""]
    """Of cost, in which the network counts."""
    price: Float[Array, ""]
    computation: Float[Array, " options"]
    patience: Int[Array, ""]
    planner_state: Callable[[Float[Array, " observation"]], Float[Array, " nx"]]
    box: ActionBox
    planner: SQP

    def __init__(
        self,
        problems: Sequence[Problem],
        planner_state: Callable[[Float[Array, " observation"]], Float[Array, " nx"]],
        box: ActionBox,
        *,
        price: float = 1e-3,
        computation: Sequence[float] | None = None,
        patience: int = ENDLESS,
        planner: SQP | None = None,
        hidden: Sequence[int] = (64, 64),
        key: PRNGKeyArray,
    ):
        horizons = [problem.horizon for problem in problems]
        if not horizons or horizons != sorted(horizons):
            raise ValueError(f"problems have horizons {horizons}; at least one was expected, the longest one last")
        if len({(problem.state_size, problem.control_size) for problem in problems}) != 1:
            raise ValueError("problems have different states or controls; a plan of one must be a plan of the others")
        costs = [0.0, *horizons] if computation is None else list(computation)
        if len(costs) != len(horizons) + 1:
            raise ValueError(
                f"computation={tuple(costs)}; {len(horizons) + 1} numbers were expected, of going on and of every "
                "problem"
            )
        if patience < 1 or not price >= 0:
            raise ValueError(
                f"price={price}, patience={patience}; a price of 0 or more and a patience of 1 step or more were "
                "expected"
            )
        nx, nu = problems[-1].state_size, problems[-1].control_size
        self.problems = tuple(problems)
        self.network = Network((1.0,) * (2 * nx + nu + 2), len(costs), hidden=hidden, last_gain=0.0, key=key)
        self.unit, self.price = jnp.ones(()), jnp.asarray(price, float)
        self.computation, self.patience = jnp.asarray(costs, float), jnp.asarray(patience)
        self.planner_state, self.box = planner_state, box
        self.planner = SQP(iterations=30, gradient_tolerance=CONTENT) if planner is None else planner

    @property
    def horizon(self) -> int:
        """The longest."""
        return self.problems[-1].horizon

    def initial_memory(self) -> InUse:
        problem = self.problems[-1]
        plan = jax.eval_shape(lambda: solve(problem, jnp.zeros(problem.state_size), planner=self.planner))
        plan = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), plan)
        return InUse(plan, jnp.array(0), jnp.array(0), jnp.array(False), jnp.array(0))

    def settings(self) -> dict[str, Setting]:
        own: dict[str, Setting] = {
            "horizons": ", ".join(str(problem.horizon) for problem in self.problems),
            "hidden": str(self.network.hidden),
        }
        return own | flat_settings("planner", self.planner)

    def features(self, state: Float[Array, " nx"], memory: InUse) -> Float[Array, " features"]:
        """ξ."""
        plan, known = memory.plan, memory.known
        counts = jnp.stack([memory.left, memory.age]) / self.horizon
        following = jnp.concatenate([state - plan.states[0], plan.controls[0], counts.astype(state.dtype)])
        return jnp.concatenate([state, jnp.where(known, following, 0.0)])

    def regrets(self, features: Float[Array, " features"]) -> Float[Array, " options"]:
        """R_ψ, at least 0."""
        return self.unit * jnp.expm1(jnp.clip(self.network(features), 0.0, 30.0))

    def possible(self, memory: InUse) -> Bool[Array, " options"]:
        """Going on needs a plan with controls left that is not too old."""
        going_on = memory.known & (memory.left > 0) & (memory.age < self.patience)
        return jnp.concatenate([going_on[None], jnp.ones(len(self.problems), bool)])

    def planned(self, option: int, state: Float[Array, " nx"], memory: InUse) -> Plan:
        """What an option comes to, in the longest horizon's shape."""
        if option == 0:
            return eqx.tree_at(lambda plan: plan.iterations, memory.plan, jnp.zeros_like(memory.plan.iterations))
        problem = self.problems[option - 1]
        N = problem.horizon
        old = Guess(memory.plan.states[: N + 1], memory.plan.controls[:N])
        guess = old.where(memory.known, cold_start(problem, state))
        return stretched(solve(problem, state, guess=guess, planner=self.planner), self.horizon - N)

    def decide(
        self, observation: Float[Array, " observation"], memory: InUse | None = None, key: PRNGKeyArray | None = None
    ) -> Decision:
        """With a key, one of the possible options by chance."""
        now = self.initial_memory() if memory is None else memory
        state, possible = self.planner_state(observation), self.possible(now)
        if key is None:
            costs = self.regrets(self.features(state, now)) + self.price * self.computation
            option = jnp.argmin(jnp.where(possible, costs, jnp.inf))
        else:
            option = jax.random.categorical(key, jnp.where(possible, 0.0, -jnp.inf))
        options = range(len(self.problems) + 1)
        branches = [lambda j=j: self.planned(j, state, now) for j in options]
        return self.followed(jax.lax.switch(option, branches), option, now)

    def followed(self, plan: Plan, option: Int[Array, ""], memory: InUse) -> Decision:
        """Act with the first control of what an option came to. The decision's `parameters` are the solver's: how many
        stages were planned."""
        fresh = option > 0
        failed = fresh & plan_failed(plan, self.planner)
        horizons = jnp.asarray([0, *(problem.horizon for problem in self.problems)])
        left = jnp.where(fresh, horizons[option], memory.left) - 1
        age = jnp.where(fresh, 0, memory.age) + 1
        used = InUse(advanced(plan), left, age, ~failed, option)
        return Decision(
            action=self.box.clip(first_action(self.problems[-1], plan)),
            log_probability=jnp.zeros((), plan.controls.dtype),
            parameters=jnp.where(fresh, horizons[option], 0)[None].astype(plan.controls.dtype),
            plan=plan,
            memory=used,
            failed=failed,
            gradient_valid=False,
        )


def stretched(plan: Plan, more: int) -> Plan:
    """`plan` with its last stage repeated `more` times; its cost and its residual stay its own."""
    return _by_stage(plan, lambda leaf: jnp.concatenate([leaf, jnp.repeat(leaf[-1:], more, axis=0)]))


def advanced(plan: Plan) -> Plan:
    """`plan` one stage earlier, its last stage repeated."""
    return _by_stage(plan, lambda leaf: jnp.concatenate([leaf[1:], leaf[-1:]]))


def _by_stage(plan: Plan, change: Callable[[Array], Array]) -> Plan:
    moved: Any = jax.tree.map(lambda leaf: change(leaf) if leaf.ndim else leaf, plan)
    last = plan.multipliers.terminal_constraints
    moved = eqx.tree_at(lambda plan: plan.multipliers.terminal_constraints, moved, last)
    return jax.lax.stop_gradient(moved)
