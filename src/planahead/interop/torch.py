r"""A planner as a layer of a PyTorch network.

    (x, φ)    -> plan,  cost = V(x; φ) = min over all controls
    (x, u, φ) -> plan,  cost = Q(x, u; φ), the same with the first control pinned to u

    ∂(states, controls, cost) / ∂(x, u, φ)     by the implicit function theorem, for whole batches at once

φ are parameters of the problem, in physical units or in [-1, 1] of their boxes (`ParameterSpace`): tensors that a
network writes, numbers that the layer itself learns as φ = box(tanh y), or the problem's own.

The solve is JAX's: float32 tensors are planned with in JAX's precision, float64 ones need its 64-bit mode. What crosses
the border shares memory (`torch_bridge.py`).

A process that was forked after JAX started cannot compute with JAX any more: its threads are gone, and the first solve
waits for ever. A layer refuses to work there. Workers of a `DataLoader` that plan take
`multiprocessing_context="spawn"` (or "forkserver"); forked ones may build a layer for themselves, if JAX has not run
in the process that they come from.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Array

from planahead.interop.torch_bridge import Outputs, call, check_tensor
from planahead.interop.torch_plan import TorchGuess as TorchGuess, TorchPlan as TorchPlan
from planahead.planning import SQP, Guess, action_value, cold_start, solve, value
from planahead.policies.acting import first_action
from planahead.policies.distributions import unsquash
from planahead.policies.failure import plan_failed
from planahead.policies.stochastic import ANCHOR_MARGIN
from planahead.problem import ParameterSpace, Problem
from planahead.problem.parameter_space import Scale

P = TypeVar("P", bound=Problem)
Parameters = torch.Tensor | Mapping[str, torch.Tensor]


class PlanLayer(torch.nn.Module, Generic[P]):
    """Plans for a batch of states, differentiable in all that they depend on.

    **Arguments:**

    - `problem`: what is planned; its costs are minimised.
    - `names`: which of its parameters φ consists of; all declared ones by default.
    - `learn`: the layer itself owns φ, as one `nn.Parameter` y with φ = box(tanh y), the same for all states. It
        starts from the problem's values, moved inside to 1 % of the box where they lie closer to its edge.
    - `scale`: of the boxes, see `ParameterSpace`.
    - `planner`: how it is solved.
    - `planner_state`: a JAX function from an observation to the planner's initial state; the layer is then called with
        observations in the place of states.

    **Raises:** `ValueError` for parameter names that do not exist, and for `learn` where a box is not finite.

    >>> import torch, planahead as pa
    >>> layer = PlanLayer(pa.make_task("mass-spring-damper").problem, names=["stiffness"])
    >>> stiffness = torch.tensor([2.0], requires_grad=True)
    >>> plan = layer(torch.tensor([[1.0, 0.0], [0.5, 0.0]]), parameters=stiffness)
    >>> plan.controls.shape, plan.failed.tolist()
    (torch.Size([2, 20, 1]), [False, False])
    >>> plan.cost.sum().backward()
    >>> bool(stiffness.grad < 0)  # a stiffer spring brings the mass back by itself
    True
    """

    def __init__(
        self,
        problem: P,
        names: Sequence[str] | str | None = None,
        *,
        learn: bool = False,
        scale: Scale = "declared",
        planner: SQP | None = None,
        planner_state: Callable[[Array], Array] | None = None,
    ):
        super().__init__()
        self.problem = problem
        self.space = ParameterSpace(problem, names, scale)
        self.planner = SQP() if planner is None else planner
        self.planner_state = planner_state
        self._default = np.array(self.space.flatten(problem))
        self._process = os.getpid()
        self.free: torch.nn.Parameter | None = None
        """y, unbounded; `None` unless the layer learns."""
        if learn:
            start = unsquash(self.space.to_unit(self.space.flatten(problem)), ANCHOR_MARGIN)
            self.free = torch.nn.Parameter(torch.tensor(np.asarray(start), dtype=torch.get_default_dtype()))

    def forward(
        self,
        state: torch.Tensor,
        control: torch.Tensor | None = None,
        *,
        parameters: Parameters | None = None,
        unit: torch.Tensor | None = None,
        guess: TorchGuess | TorchPlan | None = None,
    ) -> TorchPlan:
        """Solve one problem for every row of `state`.

        **Arguments:**

        - `state`: initial states, `(B, nx)`; observations, `(B, observation)`, where the layer has a `planner_state`.
        - `control`: pins the first controls, `(B, nu)`; their bounds are dropped.
        - `parameters`: φ in physical units, `(B, nφ)` or `(nφ,)` for all rows; or tensors by name, each of the
            parameter's shape with or without a leading axis B, the others at their default.
        - `unit`: φ as coordinates in [-1, 1] of the boxes instead, `(B, nφ)` or `(nφ,)`: what a `tanh` writes.
        - `guess`: what the solves start from, for instance the last plan's `shift()`.

        **Raises:** `ValueError` and `TypeError` for what is no tensor of the right shape, type and device;
        `RuntimeError` in a process that was forked from the one in which the layer was built. A solve that fails raises
        nothing: see `status`, `failed` and `gradient_valid` of the plan.
        """
        written, is_unit = self._checked(state, control, parameters, unit)
        warm = guess.guess() if isinstance(guess, TorchPlan) else guess
        trajectory = (None, None, None) if warm is None else self._checked_guess(warm, state)
        program = _Solve(self.problem, self.space, self.planner, self.planner_state, is_unit)
        return TorchPlan(*call(program, (state, control, written, *trajectory)))

    def value(
        self,
        state: torch.Tensor,
        control: torch.Tensor | None = None,
        *,
        parameters: Parameters | None = None,
        unit: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """V(state) or Q(state, control) alone, `(B,)`: NaN with a zero gradient where the solve failed.

        Its gradient is the envelope theorem's, which needs no factorisation. Arguments as for a call of the layer.
        """
        written, is_unit = self._checked(state, control, parameters, unit)
        (cost,) = call(
            _Value(self.problem, self.space, self.planner, self.planner_state, is_unit), (state, control, written)
        )
        return cost

    def tuned_problem(self) -> P:
        """The problem with the parameters that the layer has learned so far."""
        if self.free is None:
            return self.problem
        unit = jnp.asarray(torch.tanh(self.free).detach().numpy(force=True), float)
        return cast(P, self.space.insert(self.problem, self.space.from_unit(unit)))

    def extra_repr(self) -> str:
        kind, names = type(self.problem).__name__, ", ".join(self.space.names)
        return f"{kind}, horizon={self.problem.horizon}, parameters=[{names}], learn={self.free is not None}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._process = os.getpid()  # it arrived here by a pickle, with arrays of this process

    def _checked(self, state: Any, control: Any, parameters: Any, unit: Any) -> tuple[torch.Tensor | None, bool]:
        """φ, and whether it is in unit coordinates; or an error that says what does not fit."""
        if os.getpid() != self._process:
            raise RuntimeError(
                "this process was forked from the one in which the layer was built, and JAX, which has threads, cannot "
                "go on in it. Start it with multiprocessing_context='spawn', or build the layer in it, before JAX runs "
                "in its parent."
            )
        check_tensor("state", state, (None, self.problem.state_size if self.planner_state is None else None))
        if control is not None:
            check_tensor("control", control, (state.shape[0], self.problem.control_size), state.dtype)
        if sum((parameters is not None, unit is not None, self.free is not None)) > 1:
            raise ValueError(
                "φ came more than once; give either parameters= (physical units) or unit= (in [-1, 1]), and neither to "
                "a layer with learn=True."
            )
        if self.free is not None:
            return torch.tanh(self.free.to(state)), True
        if isinstance(parameters, Mapping):
            parameters = self._by_name(parameters, state)
        what, written = ("parameters", parameters) if unit is None else ("unit", unit)
        if written is None:
            return None, False
        size = self.space.size
        shape = (size,) if isinstance(written, torch.Tensor) and written.dim() == 1 else (state.shape[0], size)
        check_tensor(what, written, shape, state.dtype)
        return written, unit is not None

    def _by_name(self, given: Mapping[str, Any], state: torch.Tensor) -> torch.Tensor:
        """φ of tensors by name."""
        unknown = [name for name in given if name not in self.space.names]
        if unknown:
            raise ValueError(
                f"the layer has no parameter {', '.join(map(repr, unknown))}; its parameters are: "
                f"{', '.join(self.space.names)}."
            )
        default, rows, start = torch.as_tensor(self._default).to(state), state.shape[0], 0
        entries = []
        for name, shape in zip(self.space.names, self.space.shapes, strict=True):
            stop = start + int(np.prod(shape))
            entry = given.get(name)
            if entry is None:
                entries.append(default[start:stop].expand(rows, -1))
            else:
                batched = isinstance(entry, torch.Tensor) and entry.dim() == len(shape) + 1
                check_tensor(name, entry, (rows, *shape) if batched else shape, state.dtype)
                entries.append(entry.reshape(rows if batched else 1, -1).expand(rows, -1))
            start = stop
        return torch.cat(entries, 1)

    def _checked_guess(self, guess: Any, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if not isinstance(guess, TorchGuess):
            raise TypeError(
                f"guess is a {type(guess).__name__}; a TorchGuess or a TorchPlan (plan.shift()) is expected."
            )
        rows, problem = state.shape[0], self.problem
        check_tensor("guess.states", guess.states, (rows, problem.horizon + 1, problem.state_size), state.dtype)
        check_tensor("guess.controls", guess.controls, (rows, problem.horizon, problem.control_size), state.dtype)
        known = guess.known
        if known.dtype != torch.bool or known.shape != (rows,):
            raise ValueError(
                f"guess.known is {known.dtype} of shape {tuple(known.shape)}; expected torch.bool of shape ({rows},)."
            )
        return guess.states.detach(), guess.controls.detach(), known


class _Program(eqx.Module):
    """What is compiled: a problem, and how φ is written into it."""

    problem: Problem
    space: ParameterSpace
    planner: SQP
    planner_state: Callable[[Array], Array] | None
    unit: bool = eqx.field(static=True)

    def start(self, state: Array) -> Array:
        state = jnp.asarray(state, float)
        return state if self.planner_state is None else self.planner_state(state)

    def written(self, parameters: Array | None) -> Problem:
        if parameters is None:
            return self.problem
        parameters = jnp.asarray(parameters, float)
        return self.space.insert(self.problem, self.space.from_unit(parameters) if self.unit else parameters)

    @staticmethod
    def axis(array: Array | None, batched: int) -> int | None:
        return 0 if array is not None and array.ndim == batched else None


class _Solve(_Program):
    def __call__(self, state: Array, control: Any, parameters: Any, states: Any, controls: Any, known: Any) -> Outputs:
        def lane(state: Array, control: Any, parameters: Any, states: Any, controls: Any, known: Any) -> Outputs:
            problem, state, guess = self.written(parameters), self.start(state), None
            if states is not None:
                guess = Guess(states, controls).where(known, cold_start(problem, state))
            plan = solve(problem, state, control, guess=guess, planner=self.planner)
            return Outputs(
                moving=(plan.states, plan.controls, first_action(problem, plan), plan.cost),
                still=(
                    plan.status,
                    plan.gradient_valid,
                    plan_failed(plan, self.planner),
                    plan.iterations,
                    plan.residual,
                    plan.violation,
                ),
            )

        given = (state, control, parameters, states, controls, known)
        axes = tuple(self.axis(array, ndim) for array, ndim in zip(given, (2, 2, 2, 3, 3, 1), strict=True))
        return _like(state, jax.vmap(lane, in_axes=axes)(*given))


class _Value(_Program):
    def __call__(self, state: Array, control: Any, parameters: Any) -> Outputs:
        def lane(state: Array, control: Any, parameters: Any) -> Outputs:
            problem, state = self.written(parameters), self.start(state)
            if control is None:
                return Outputs((value(problem, state, planner=self.planner),), ())
            return Outputs((action_value(problem, state, control, planner=self.planner),), ())

        axes = tuple(self.axis(array, 2) for array in (state, control, parameters))
        return _like(state, jax.vmap(lane, in_axes=axes)(state, control, parameters))


def _like(state: Array, outputs: Outputs) -> Outputs:
    """Numbers in the precision that they were asked in."""
    return jax.tree.map(lambda leaf: leaf.astype(state.dtype) if eqx.is_inexact_array(leaf) else leaf, outputs)
