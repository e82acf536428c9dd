"""Which derivatives of a solution exist, and what happens to the others.

A solve is differentiated by the implicit function theorem, once, and only in lanes that reached a solution. What has
no derivative raises, in words, where JAX would hand back a zero; what has none in one lane of a batch is zero in that
lane and counted (`gradient_valid`).
"""

from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool

_NO_SECOND = (
    "planahead: second derivatives of a plan are not available (the derivative of `solve` and `solve_qp` is implicit "
    "and is not differentiated again, so those of `value` and `action_value` end with the second); use finite "
    "differences of the gradient, or jax.lax.stop_gradient where it is a constant."
)


@jax.custom_jvp
def _given(leaf: Array) -> Array:
    return leaf


@_given.defjvp
def _differentiated(primals: Any, tangents: Any) -> Any:
    raise TypeError(_NO_SECOND)


def first_order(tree: Any) -> Any:
    """`tree` as the forward pass of a derivative takes it: differentiating that pass once more raises `TypeError`."""
    return jax.tree.map(lambda leaf: _given(leaf) if eqx.is_inexact_array(leaf) else leaf, tree)


@jax.custom_vjp
def where_valid(valid: Bool[Array, ""], tree: Any) -> Any:
    """`tree` itself, whose derivative is zero where not `valid`.

    Whatever is computed from it may be NaN, and so may its derivatives: they come through here last, and are replaced,
    not multiplied.
    """
    return _one_in_each_lane(valid, tree)


def _one_in_each_lane(valid: Array, tree: Any) -> Any:
    """Give what all lanes share to every lane for itself, or cotangents would be summed over lanes before they are
    seen."""
    return jax.tree.map(lambda leaf: jnp.where(valid, leaf, leaf) if eqx.is_inexact_array(leaf) else leaf, tree)


def _forward(valid: Array, tree: Any) -> tuple[Any, Array]:
    return _one_in_each_lane(valid, first_order(tree)), valid


def _backward(valid: Array, cotangent: Any) -> tuple[None, Any]:
    return None, zero_unless(valid, cotangent)


where_valid.defvjp(_forward, _backward)


def zero_unless(valid: Bool[Array, ""], cotangent: Any) -> Any:
    """Cotangents of one lane, zero where not `valid`. Those of integers are of no type that numbers have, and stay."""
    return jax.tree.map(lambda leaf: jnp.where(valid, leaf, 0.0) if eqx.is_inexact_array(leaf) else leaf, cotangent)


def refuse(name: str, cotangent: Any) -> None:
    """Raise where a derivative of the output `name` is asked for, e.g. of `Plan.residual`."""
    if not isinstance(cotangent, SymbolicZero):
        raise TypeError(
            f"planahead: {name} has no derivative (it says how the solve ended, and is not a function of the problem). "
            f"Take jax.lax.stop_gradient of it where it enters a loss; through a scan carry plan.shift() or "
            "plan.guess(), not the whole plan."
        )


def numbers(cotangent: Any) -> Any:
    """A tree of cotangents with zeros in the place of symbols for them."""

    def number(leaf: Any) -> Any:
        return jnp.zeros(leaf.shape, cast(Any, leaf).dtype) if isinstance(leaf, SymbolicZero) else leaf

    return jax.tree.map(number, cotangent, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))


def underivable(name: str, value: Array, of: Any) -> Array:
    """`value`, computed from `of` by the way: asking for its derivative by `of` raises, as `refuse` says."""

    @jax.custom_vjp
    def given(value: Array, of: Any) -> Array:
        return value

    def forward(value: Any, of: Any) -> tuple[Array, None]:
        return value.value, None

    def backward(_: None, cotangent: Any) -> tuple[None, None]:
        refuse(name, cotangent)
        return None, None

    given.defvjp(forward, backward, symbolic_zeros=True)
    return given(jax.lax.stop_gradient(value), of)
