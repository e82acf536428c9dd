"""What a `PlanLayer` returns: a batch of plans as tensors, and the guess that the next call may start from."""

import dataclasses

import torch

from planahead.planning.plan import explain_lanes


@dataclasses.dataclass(frozen=True)
class TorchGuess:
    """Where a batch of solves starts. It carries no gradient."""

    states: torch.Tensor
    """`(B, N + 1, nx)`."""
    controls: torch.Tensor
    """`(B, N, nu)`."""
    known: torch.Tensor
    """`(B,)`, bool; a lane in which it is false starts cold."""

    def forget(self, lanes: torch.Tensor) -> "TorchGuess":
        """The same guess, but cold in `lanes`, `(B,)` bool: those whose episode has just ended, for instance."""
        return dataclasses.replace(self, known=self.known & ~lanes)


@dataclasses.dataclass(frozen=True)
class TorchPlan:
    """A batch of plans. Gradients flow from `states`, `controls`, `action` and `cost`; they are zero in the lanes where
    `gradient_valid` is false.
    """

    states: torch.Tensor
    """`(B, N + 1, nx)`."""
    controls: torch.Tensor
    """`(B, N, nu)`; always finite and inside the control bounds, but for a pinned one."""
    action: torch.Tensor
    """`(B, action)`: the first control as the problem's `action` translates it for the plant, which is that control
    itself unless the problem says otherwise. Not clipped to the plant's bounds."""
    cost: torch.Tensor
    """`(B,)`, minimised: V(state), or Q(state, control) where a control was pinned."""
    status: torch.Tensor
    """`(B,)`, int: a `planahead.Status`."""
    gradient_valid: torch.Tensor
    """`(B,)`, bool."""
    failed: torch.Tensor
    """`(B,)`, bool: whether the plan is not to be trusted; one that ran out of iterations next to the solution is."""
    iterations: torch.Tensor
    """`(B,)`, int."""
    residual: torch.Tensor
    """`(B,)`: the largest optimality residual, relative to the magnitude of its terms."""
    violation: torch.Tensor
    """`(B,)`: the largest violation of a hard constraint or of the dynamics."""

    @property
    def control(self) -> torch.Tensor:
        """`(B, nu)`: the first control."""
        return self.controls[:, 0]

    def guess(self) -> TorchGuess:
        """These plans, to solve the same or similar problems again. Lanes that failed start cold."""
        return TorchGuess(self.states.detach(), self.controls.detach(), ~self.failed)

    def shift(self) -> TorchGuess:
        """The guess for the next time step: everything one stage earlier, the last control and state repeated."""
        states, controls = self.states.detach(), self.controls.detach()
        later = [torch.cat([trajectory[:, 1:], trajectory[:, -1:]], 1) for trajectory in (states, controls)]
        return TorchGuess(later[0], later[1], ~self.failed)

    def explain(self) -> str:
        """In words, status by status: how the solves ended, and what to try."""
        return explain_lanes(self.status.tolist())
