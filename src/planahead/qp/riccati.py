"""Newton steps of a stage-structured QP by a Riccati recursion, all lanes at once.

    minimise    Σ_k ½ Δz_kᵀ H_k Δz_k + g_kᵀ Δz_k         z_k = (u_k, x_k)
    subject to  Δx_{k+1} = F_k Δz_k + e_k,   Δx_0 = e_init           F_k = [B_k A_k]

Backward, from P_N = H_N,xx:

    M = H_k + F_kᵀ P_{k+1} F_k,     K = -M_uu⁻¹ M_ux,      P_k = M_xx + M_xu K                      (factorise)
    h = g_k + F_kᵀ (P_{k+1} e_k + p_{k+1}),   κ = -M_uu⁻¹ h_u,   p_k = h_x + Kᵀ h_u               (solve)

and forward Δu = K Δx + κ, multipliers π_k = P_k Δx_k + p_k. This is the classic form: only the reduced Hessian M_uu
must be positive definite, as needed for exact Hessians and sensitivities. The square-root form carries Λ with P = Λ Λᵀ
instead, M = H + (ΛᵀF)ᵀ(ΛᵀF), so that no rounding makes P indefinite; all H_k must be positive semidefinite for it.
Cost: N·O((nx + nu)³) to factorise, N·O((nx + nu)²) to solve. References: Rawlings, Mayne, Diehl, *Model Predictive
Control*, 2nd ed., §8.8; G. Frison, PhD thesis, DTU 2015, §3.2. Fails where M_uu is not positive definite, and the
square-root form where P is not semidefinite; says so per lane.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from planahead.qp.lanes import (
    inverse_cholesky,
    matmul,
    matmul_transposed,
    matvec,
    matvec_transposed,
    semidefinite_cholesky,
)


class Factor(eqx.Module):
    """The factorisation; `W_k` with M_uu⁻¹ = WᵀW. `W_init` belongs to P_0 and exists only where x_0 is free."""

    W: Float[Array, "N nu nu B"]
    K: Float[Array, "N nu nx B"]
    P: Float[Array, "nodes nx nx B"]
    W_init: Float[Array, "nx nx B"] | None
    definite: Bool[Array, " B"]


def factorise(
    H: Float[Array, "nodes nz nz B"],
    F: Float[Array, "N nx nz B"],
    *,
    free_initial_state: bool = False,
    square_root: bool = False,
) -> Factor:
    """Factorise for the Hessians `H` and the dynamics `F`."""
    nu = H.shape[1] - F.shape[1]

    def carried(P, M_xx):
        """What goes to the next stage, Λ or in the classic form P; P itself; and whether P, which is what is left of
        M_xx, is semidefinite."""
        if not square_root:
            return P, P, jnp.ones(P.shape[2:], bool)
        root, semidefinite = semidefinite_cholesky(P, jnp.abs(jnp.einsum("iib->ib", M_xx)))
        return root, matmul(root, jnp.swapaxes(root, 0, 1)), semidefinite

    def backward(carry, stage):
        H_k, F_k = stage
        moved = matmul_transposed(carry, F_k)  # P is symmetric
        M = H_k + matmul_transposed(moved if square_root else F_k, moved)
        W, definite = inverse_cholesky(M[:nu, :nu])
        Y = matmul(W, M[:nu, nu:])
        K = -matmul_transposed(W, Y)
        P_new = M[nu:, nu:] - matmul_transposed(Y, Y)
        carry, P_new, semidefinite = carried(0.5 * (P_new + jnp.swapaxes(P_new, 0, 1)), M[nu:, nu:])
        return carry, (W, K, P_new, definite & semidefinite)

    carry_N, P_N, semidefinite_N = carried(H[-1, nu:, nu:], H[-1, nu:, nu:])
    _, (W, K, P, definite) = jax.lax.scan(backward, carry_N, (H[:-1], F), reverse=True)
    definite = jnp.all(definite, 0) & semidefinite_N
    W_init = None
    if free_initial_state:
        W_init, definite_init = inverse_cholesky(P[0])
        definite &= definite_init
    return Factor(W, K, jnp.concatenate([P, P_N[None]]), W_init, definite)


def solve(
    factor: Factor,
    F: Float[Array, "N nx nz B"],
    g: Float[Array, "nodes nz B"],
    e: Float[Array, "N nx B"],
    e_init: Float[Array, "nx B"],
) -> tuple[Float[Array, "nodes nz B"], Float[Array, "nodes nx B"]]:
    """The step Δz and the multipliers π_0…π_N of the dynamics, for the gradient `g` and the dynamics residuals `e`.

    The control part of Δz_N is zero. `e_init` is ignored where the initial state is free.
    """
    nu = g.shape[1] - e.shape[1]

    def backward(p, stage):
        W, K, P_next, F_k, g_k, e_k = stage
        h = g_k + matvec_transposed(F_k, matvec(P_next, e_k) + p)
        kappa = -matvec_transposed(W, matvec(W, h[:nu]))
        p_new = h[nu:] + matvec_transposed(K, h[:nu])
        return p_new, (kappa, p_new)

    p_N = g[-1, nu:]
    p_0, (kappa, p) = jax.lax.scan(backward, p_N, (factor.W, factor.K, factor.P[1:], F, g[:-1], e), reverse=True)
    p = jnp.concatenate([p, p_N[None]])
    if factor.W_init is not None:
        e_init = -matvec_transposed(factor.W_init, matvec(factor.W_init, p_0))

    def forward(dx, stage):
        K, kappa_k, F_k, e_k = stage
        dz = jnp.concatenate([matvec(K, dx) + kappa_k, dx])
        return matvec(F_k, dz) + e_k, dz

    dx_N, dz = jax.lax.scan(forward, e_init, (factor.K, kappa, F, e))
    dz = jnp.concatenate([dz, jnp.concatenate([jnp.zeros_like(g[-1, :nu]), dx_N])[None]])
    pi = jax.vmap(matvec)(factor.P, dz[:, nu:]) + p
    if factor.W_init is not None:
        pi = pi.at[0].set(0.0)
    return dz, pi
