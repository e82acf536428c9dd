"""From a differential equation to the next state: explicit Runge-Kutta rules and the exact rule for linear systems.

With ẋ = f(x, u) and u held over the interval h (split into equal substeps):

    euler   x + h f(x, u)                                   error O(h)
    rk4     x + h/6 (k₁ + 2k₂ + 2k₃ + k₄)                   error O(h⁴)
    zero_order_hold   exact for f = A x + B u:   [A_d B_d; 0 I] = exp(h [A B; 0 0])
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Ode = Callable[[Float[Array, " nx"], Float[Array, " nu"]], Float[Array, " nx"]]


class LinearDynamics(NamedTuple):
    """x_{k+1} = A x_k + B u_k."""

    A: Float[Array, "nx nx"]
    B: Float[Array, "nx nu"]


def rk4(
    ode: Ode, x: Float[Array, " nx"], u: Float[Array, " nu"], time_step: float | Array, substeps: int = 1
) -> Float[Array, " nx"]:
    """The state after `time_step` seconds by the classical fourth-order Runge-Kutta rule, `u` held constant.

    >>> import jax.numpy as jnp
    >>> round(float(rk4(lambda x, u: -x + u, jnp.array([1.0]), jnp.array([0.0]), 0.5)[0]), 4)    # exp(-0.5) = 0.6065
    0.6068
    """
    h = _substep(time_step, substeps)

    def step(x):
        k1 = ode(x, u)
        k2 = ode(x + h / 2 * k1, u)
        k3 = ode(x + h / 2 * k2, u)
        k4 = ode(x + h * k3, u)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return _repeat(step, x, substeps)


def euler(
    ode: Ode, x: Float[Array, " nx"], u: Float[Array, " nu"], time_step: float | Array, substeps: int = 1
) -> Float[Array, " nx"]:
    """The state after `time_step` seconds by explicit Euler steps, `u` held constant.

    >>> import jax.numpy as jnp
    >>> round(float(euler(lambda x, u: -x + u, jnp.array([1.0]), jnp.array([0.0]), 0.5, substeps=50)[0]), 2)
    0.61
    """
    h = _substep(time_step, substeps)
    return _repeat(lambda x: x + h * ode(x, u), x, substeps)


def zero_order_hold(A: Float[Array, "nx nx"], B: Float[Array, "nx nu"], time_step: float | Array) -> LinearDynamics:
    """Exact discrete matrices of ẋ = A x + B u with u held constant over `time_step`.

    >>> import jax.numpy as jnp
    >>> Ad, Bd = zero_order_hold(jnp.array([[0.0, 1.0], [0.0, 0.0]]), jnp.array([[0.0], [1.0]]), 0.1)
    >>> [round(float(b), 4) for b in Bd[:, 0]]
    [0.005, 0.1]
    """
    A, B = jnp.asarray(A, float), jnp.asarray(B, float)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or B.ndim != 2 or B.shape[0] != A.shape[0]:
        raise ValueError(f"zero_order_hold expects A [nx, nx] and B [nx, nu]; got shapes {A.shape} and {B.shape}.")
    nx, nu = B.shape
    generator = jnp.block([[A, B], [jnp.zeros((nu, nx + nu))]]) * time_step
    flow = jax.scipy.linalg.expm(generator)
    return LinearDynamics(flow[:nx, :nx], flow[:nx, nx:])


def _substep(time_step: float | Array, substeps: int) -> float | Array:
    if substeps < 1:
        raise ValueError(f"substeps is {substeps}; at least 1 is needed.")
    return time_step / substeps


def _repeat(step: Callable[[Array], Array], x: Array, times: int) -> Array:
    for _ in range(times):
        x = step(x)
    return x
