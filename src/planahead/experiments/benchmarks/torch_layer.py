"""What the way through PyTorch costs: a batch of plans, and its gradient by states and parameters, asked of JAX and of
a `PlanLayer` in turn. float64.

Both sides compute ∂(Σ cost + Σ u₀²)/∂(x, φ), φ one vector for all lanes; JAX in one compiled program, the layer in two
(forward, backward), between which it hands what the derivative needs to PyTorch. Their gradients are compared.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa
from planahead.experiments.benchmarks.nonlinear import CASES
from planahead.experiments.benchmarks.timing import Row, measure_in_turn
from planahead.experiments.errors import UserError

if TYPE_CHECKING:
    import torch

BATCH = 128
CLOSE = 1e-8
"""Largest relative difference of the two gradients."""
INSTALL = "pip install '.[torch]'"


def run(repeats: int) -> list[Row]:
    """Every problem, forward and with the gradient; each row of the layer says what it takes more."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise UserError(f"bench torch times PyTorch, which is not installed: {INSTALL}") from error
    torch.set_num_threads(1)
    with jax.enable_x64(True):
        small = pa.make_task("mass-spring-damper").problem
        starts = jnp.asarray(np.random.default_rng(0).uniform(-1.0, 1.0, (BATCH, small.state_size)))
        rows = _rows("mass-spring-damper", small, starts, repeats)
        for case in CASES:
            rows += _rows(case.name, case.build(), case.starts(BATCH), repeats)
    return rows


def _rows(case: str, problem: pa.Problem, states: jax.Array, repeats: int) -> list[Row]:
    import torch

    from planahead.interop.torch import PlanLayer

    space = pa.ParameterSpace(problem)
    φ = space.flatten(problem)
    layer = PlanLayer(problem)
    x, parameters = torch.tensor(np.asarray(states)), torch.tensor(np.asarray(φ))
    x_moving, moving = (tensor.clone().requires_grad_() for tensor in (x, parameters))

    def plans(states: jax.Array, φ: jax.Array) -> pa.Plan:
        return jax.vmap(lambda state: pa.solve(space.insert(problem, φ), state))(states)

    def loss(states: jax.Array, φ: jax.Array) -> tuple[jax.Array, pa.Plan]:
        plan = plans(states, φ)
        return jnp.sum(plan.cost) + jnp.sum(plan.controls[:, 0] ** 2), plan

    solve, slopes = jax.jit(plans), jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))

    def forward() -> Any:
        return layer(x, parameters=parameters)

    def with_gradient() -> tuple["torch.Tensor", ...]:
        plan = layer(x_moving, parameters=moving)
        return torch.autograd.grad(plan.cost.sum() + plan.control.square().sum(), (x_moving, moving))

    (_, plan), gradients = slopes(states, φ)
    pairs = list(zip(gradients, with_gradient(), strict=True))
    error = max(float(np.abs(ours - theirs.numpy()).max() / np.abs(ours).max()) for ours, theirs in pairs)
    failed = int((plan.status != pa.Status.SOLVED).sum())
    calls: Sequence[tuple[str, Callable[[], Any], Callable[[], Any], float | None]] = (
        ("forward", lambda: jax.block_until_ready(solve(states, φ)), forward, None),
        ("forward + backward", lambda: jax.block_until_ready(slopes(states, φ)), with_gradient, error),
    )
    rows = []
    for what, direct, through, distance in calls:
        jax_time, torch_time = measure_in_turn((direct, through), repeats)
        more = f"{100 * (torch_time.median / jax_time.median - 1):+.1f} % of JAX's median"
        wrong = None if distance is None else int(not distance <= CLOSE)
        rows.append(Row(case, "JAX", what, BATCH, jax_time.median, jax_time.p99, failed))
        rows.append(
            Row(case, "PlanLayer", what, BATCH, torch_time.median, torch_time.p99, failed, wrong, distance, more)
        )
    return rows
