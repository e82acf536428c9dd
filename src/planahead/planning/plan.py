"""What a planner returns: one named object, with its status, its multipliers and the guess for the next step."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from planahead.qp import Status


class Guess(eqx.Module):
    """Where a planner starts: a trajectory. It carries no gradient."""

    states: Float[Array, "nodes nx"]
    controls: Float[Array, "N nu"]

    def where(self, holds: Bool[Array, ""], other: "Guess") -> "Guess":
        """Itself where `holds`, the `other` one where not."""
        return jax.tree.map(lambda mine, others: jnp.where(holds, mine, others), self, other)


class Multipliers(eqx.Module):
    """Sensitivities of the optimal cost. The sides are (lower, upper); entries are not negative, and zero where there
    is no bound."""

    costates: Float[Array, "nodes nx"]
    """Gradient of the cost-to-go with respect to x_k; `costates[0]` is that of the cost with respect to the initial
    state."""
    control_bounds: Float[Array, "N 2 nu"]
    state_bounds: Float[Array, "nodes 2 nx"]
    """Stage N belongs to the terminal bounds; stage 0 is zero, since the initial state is given."""
    constraints: Float[Array, "N ng"]
    terminal_constraints: Float[Array, " ng_N"]


class Plan(eqx.Module):
    """A trajectory with its cost and how it was found. One lane; under `jax.vmap` every field gains a leading axis."""

    states: Float[Array, "nodes nx"]
    controls: Float[Array, "N nu"]
    """Always finite and inside the control bounds, whatever the status (a pinned control is returned as it was
    given)."""
    cost: Float[Array, ""]
    """The problem's cost along the plan, prices of soft constraints included; minimised."""
    status: Int[Array, ""]
    """A `Status`: `Status(int(plan.status)).sentence` says it in words."""
    gradient_valid: Bool[Array, ""]
    """Whether derivatives of this lane are those of a solution, or of one step where the planner says so; where not,
    they are zero."""
    iterations: Int[Array, ""]
    """Iterations of the planner (linearisations for which a QP was solved)."""
    residual: Float[Array, ""]
    """The largest optimality residual at the end, relative to the magnitude of its terms."""
    violation: Float[Array, ""]
    """The largest violation of a hard constraint or of the dynamics along the plan."""
    multipliers: Multipliers

    def shift(self) -> Guess:
        """The guess for the next time step: everything one stage earlier, the last control and state repeated.

        >>> import jax.numpy as jnp
        >>> import planahead as pa
        >>> plan = pa.solve(pa.make_task("mass-spring-damper").problem, jnp.array([1.0, 0.0]))
        >>> shifted = plan.shift()
        >>> bool((shifted.states[0] == plan.states[1]).all()), bool((shifted.controls[-1] == plan.controls[-1]).all())
        (True, True)
        """
        states = jnp.concatenate([self.states[1:], self.states[-1:]])
        controls = jnp.concatenate([self.controls[1:], self.controls[-1:]])
        return jax.lax.stop_gradient(Guess(states, controls))

    def guess(self) -> Guess:
        """This plan as a guess for the same or a similar problem."""
        return jax.lax.stop_gradient(Guess(self.states, self.controls))

    def explain(self) -> str:
        r"""In words: how the solve ended, with the numbers behind it, and what to try.

        A batch of plans is summarised status by status.

        >>> import jax, jax.numpy as jnp
        >>> import planahead as pa
        >>> states = jnp.array([[1.0, 0.0], [jnp.nan, 0.0], [0.5, 0.0]])
        >>> plans = jax.vmap(lambda state: pa.solve(pa.make_task("mass-spring-damper").problem, state))(states)
        >>> print(*plans.explain().splitlines()[:2], sep="\n")
        3 lanes:
          2 x SOLVED (lanes 0, 2). Solved: the optimality conditions hold to the tolerance.
        """
        if isinstance(self.status, Tracer):
            raise ValueError(
                "Plan.explain() needs numbers, but was called inside jit, vmap or grad; return the plan and call "
                "it outside."
            )
        if jnp.ndim(self.status) > 0:
            return explain_lanes([int(status) for status in jnp.ravel(self.status)])
        status = Status(int(self.status))
        numbers = (
            f"After {_counted(int(self.iterations), 'iteration')}: cost {float(self.cost):.6g}, optimality residual "
            f"{float(self.residual):.1e}, violation {float(self.violation):.1e}."
        )
        gradient = "" if bool(self.gradient_valid) else " Its derivatives are set to zero (`gradient_valid` is false)."
        return f"{status.sentence} {numbers}{gradient}"


def explain_lanes(statuses: Sequence[int]) -> str:
    """Which lanes of a batch ended how, status by status, and what to try."""
    lines = [f"{_counted(len(statuses), 'lane')}:"]
    for status in Status:
        lanes = [lane for lane, ended in enumerate(statuses) if ended == status]
        if lanes:
            shown = ", ".join(map(str, lanes[:5])) + (", …" if len(lanes) > 5 else "")
            which = "lane" if len(lanes) == 1 else "lanes"
            lines.append(f"  {len(lanes)} x {status.name} ({which} {shown}). {status.sentence}")
    return "\n".join(lines)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
