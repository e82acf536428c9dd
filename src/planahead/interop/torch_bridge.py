r"""A JAX function as a step of PyTorch's automatic differentiation.

    forward     y, s, pull = run(f, x)            y = f(x) moves with x, s (a status, a count) does not
    backward    x̄ = pull(ȳ) = (∂f/∂x)ᵀ ȳ         reverse mode, once

`f` is an equinox module and `x` a tuple of tensors or `None`, among them what is not differentiated. Each of `run` and
`pull` is one compiled program per shape, type and set of tensors that ask for a gradient; `pull` carries what the
forward pass has kept.

Tensors and arrays share memory (DLPack), which either library would be free to overwrite: PyTorch's own check of
changed tensors guards what the backward pass needs, and every result is waited for before it is handed out.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import torch

FLOATS = {torch.float32: jnp.float32, torch.float64: jnp.float64}


class Outputs(NamedTuple):
    """What a bridged function returns."""

    moving: tuple[Any, ...]
    """Arrays of floating-point numbers, differentiated."""
    still: tuple[Any, ...]
    """Arrays that carry no gradient."""


Tensors = Sequence[torch.Tensor | None]


def call(function: eqx.Module, inputs: Tensors) -> tuple[torch.Tensor, ...]:
    """`function(*arrays)`, which returns `Outputs`: its tensors, the moving ones first.

    **Raises:** `RuntimeError` where a second derivative is asked for. What the tensors have to be: `check_tensor`.
    """
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs):
        return _Call.apply(function, *inputs)  # pyright: ignore[reportReturnType]
    moving, still = jax.block_until_ready(_run(function, _arrays(inputs)))
    return tuple(map(_tensor, (*moving, *still)))


def check_tensor(what: str, tensor: Any, shape: Sequence[int | None], dtype: torch.dtype | None = None) -> None:
    """**Raises** an error in words unless `tensor` is one that JAX can read; `None` is an axis of any length.

    `TypeError` for what is no tensor, `ValueError` for a shape, a type or a device that does not fit.
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{what} is a {type(tensor).__name__}; a torch.Tensor is expected (use torch.as_tensor).")
    if len(tensor.shape) != len(shape) or any(
        size not in (None, came) for size, came in zip(shape, tensor.shape, strict=True)
    ):
        wanted = ", ".join("B" if size is None else str(size) for size in shape)
        hint = "; add the batch axis with [None]" if tensor.dim() == len(shape) - 1 and shape[:1] == (None,) else ""
        raise ValueError(f"{what} has shape {tuple(tensor.shape)}; expected ({wanted}){hint}.")
    if tensor.dtype not in FLOATS:
        raise ValueError(f"{what} is {tensor.dtype}; a plan needs torch.float32 or torch.float64 (use {what}.float()).")
    if dtype is not None and tensor.dtype != dtype:
        raise ValueError(f"{what} is {tensor.dtype} and state is {dtype}; convert one of them.")
    if tensor.dtype == torch.float64 and jnp.result_type(float) != jnp.float64:
        raise ValueError(
            f"{what} is torch.float64, but JAX computes in float32; call jax.config.update('jax_enable_x64', True) "
            f"first, or use {what}.float()."
        )
    if tensor.device.type != "cpu" and jax.default_backend() == "cpu":
        raise ValueError(
            f"{what} is on {tensor.device}, but JAX computes on the CPU; use {what}.cpu(), or install JAX for that "
            "device."
        )


class _Call(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: eqx.Module, *inputs: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        wanted = tuple(ctx.needs_input_grad[1:])
        (moving, still), ctx.pull = jax.block_until_ready(_run_with_pullback(function, wanted, _arrays(inputs)))
        moved, unmoved = tuple(map(_tensor, moving)), tuple(map(_tensor, still))
        ctx.wanted, ctx.moving = wanted, len(moved)
        ctx.mark_non_differentiable(*unmoved)
        ctx.save_for_backward(*inputs, *moved, *unmoved)
        return (*moved, *unmoved)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
        # Reading them raises where one was overwritten since: `pull` shares their memory.
        inputs = ctx.saved_tensors[: len(ctx.wanted)]
        moving = cotangents[: ctx.moving]
        gradients = iter(_Pullback.apply(ctx.pull, ctx.moving, *moving, *inputs))  # pyright: ignore[reportArgumentType]
        return None, *(next(gradients) if wanted else None for wanted in ctx.wanted)


class _Pullback(torch.autograd.Function):
    """x̄ from ȳ. Under `create_graph=True` it is recorded, with `inputs` only to be found in that record."""

    @staticmethod
    def forward(ctx: Any, pull: Any, number: int, *tensors: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        return tuple(map(_tensor, jax.block_until_ready(_pull(pull, _arrays(tensors[:number])))))

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
        raise RuntimeError(
            "a gradient of a plan was differentiated again; plans have first derivatives only. Leave out "
            "create_graph=True, detach the gradient, or differentiate planahead.value in JAX, which can be twice."
        )


@eqx.filter_jit
def _run(function: Any, arrays: Sequence[jax.Array | None]) -> Outputs:
    return function(*arrays)


@eqx.filter_jit
def _run_with_pullback(
    function: Any, wanted: tuple[bool, ...], arrays: Sequence[jax.Array | None]
) -> tuple[Outputs, Any]:
    def moved(asked: Sequence[jax.Array]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        given = iter(asked)
        outputs = function(*(next(given) if want else array for want, array in zip(wanted, arrays, strict=True)))
        return outputs.moving, outputs.still

    asked = [array for want, array in zip(wanted, arrays, strict=True) if want]
    moving, pull, still = jax.vjp(moved, asked, has_aux=True)
    return Outputs(moving, still), pull


@jax.jit
def _pull(pull: Any, cotangents: Sequence[jax.Array]) -> Sequence[jax.Array]:
    return pull(tuple(cotangents))[0]


def _arrays(tensors: Tensors) -> tuple[jax.Array | None, ...]:
    return tuple(None if tensor is None else jnp.from_dlpack(tensor.detach().contiguous()) for tensor in tensors)


def _tensor(array: jax.Array) -> torch.Tensor:
    return torch.from_dlpack(array)
