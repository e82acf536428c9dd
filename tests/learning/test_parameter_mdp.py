"""Check 4 of the methods: choosing parameters and letting a planner act is the same decision problem, one level up.

    r^Φ(s, φ) = r(s, u₀*(s, φ)),    P^Φ(·|s, φ) = P(·|s, u₀*(s, φ)),    π(a|s) = Σ_φ p(φ|s) 1[u₀*(s, φ) = a]

    Q^Φ(s, φ) = Q^π(s, u₀*(s, φ))

on a line of seven states with three actions, where a real planner maps nine quantised parameters to a control that is
rounded to an action. Both sides are exact policy evaluations: linear systems of 63 and 21 unknowns.
"""

import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa
from planahead.planning import solve
from planahead.qp import Status

STATES, ACTIONS, PARAMETERS = np.arange(7) - 3, np.array([-1, 0, 1]), np.linspace(-3.0, 3.0, 9)
DISCOUNT = 0.9


class Line(pa.Problem):
    """Move towards a target on a line, two steps ahead."""

    horizon: int = pa.static(2)
    state_size: int = pa.static(1)
    control_size: int = pa.static(1)
    target: pa.Array = pa.parameter(0.0, low=-3.0, high=3.0)

    def dynamics(self, x, u):
        return x + u

    def stage_residual(self, x, u):
        return jnp.concatenate([x - self.target, u])

    def terminal_residual(self, x):
        return x - self.target

    def control_bounds(self):
        return pa.Bounds(-1.0, 1.0)


def planned_actions() -> np.ndarray:
    """The index of the action for every state and parameter, [7, 9]."""
    states, targets = (
        jnp.ravel(grid) for grid in jnp.meshgrid(jnp.array(STATES), jnp.array(PARAMETERS), indexing="ij")
    )
    plans = jax.jit(jax.vmap(lambda s, t: solve(Line(target=t), s[None])))(states * 1.0, targets)
    assert (plans.status == Status.SOLVED).all()
    return np.rint(np.asarray(plans.controls[:, 0, 0])).astype(int).reshape(7, 9) + 1


def evaluate(reward: np.ndarray, transition: np.ndarray, policy: np.ndarray) -> np.ndarray:
    """Q of `policy` [S, C] for rewards [S, C] and transitions [S, C, S], by solving (I - γ P Π) Q = r."""
    size = reward.size
    through = np.einsum("sct,td->sctd", transition, policy).reshape(size, size)
    return np.linalg.solve(np.eye(size) - DISCOUNT * through, reward.ravel()).reshape(reward.shape)


def test_value_of_parameters_is_the_value_of_their_actions():
    rng = np.random.default_rng(0)
    action = planned_actions()
    assert set(action.ravel()) == {0, 1, 2}
    reward = rng.normal(size=(7, 3))
    transition = np.zeros((7, 3, 7))
    for s in range(7):
        for a in range(3):
            transition[s, a, np.clip(s + ACTIONS[a], 0, 6)] += 0.8
            transition[s, a, s] += 0.2  # sometimes it slips
    choice = rng.dirichlet(np.ones(9), size=7)
    induced = np.stack([(choice * (action == a)).sum(1) for a in range(3)], axis=1)

    rows = np.arange(7)[:, None]
    of_parameters = evaluate(reward[rows, action], transition[rows, action], choice)
    of_actions = evaluate(reward, transition, induced)
    np.testing.assert_allclose(of_parameters, of_actions[rows, action], rtol=1e-12)
    assert np.ptp(of_parameters) > 0.1
