"""A planner inside PyTorch: the same plans and the same derivatives as in JAX, and errors in words."""

import copy
import pathlib
import pickle
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa

pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")

import torch

from planahead.interop.torch import PlanLayer, TorchGuess
from planahead.interop.torch_bridge import _arrays, _tensor, check_tensor

B = 3


class Hill(pa.Problem):
    """A mass on a bumpy line, with a bound that becomes active."""

    horizon: int = pa.static(4)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    weight: pa.Array = pa.parameter(0.1, low=0.01, high=10.0, scale="log")
    target: pa.Array = pa.parameter([0.5, 0.0], low=-1.0, high=1.0)

    def dynamics(self, x, u):
        return x + 0.2 * jnp.stack([x[1], u[0] - jnp.sin(2.0 * x[0])])

    def stage_residual(self, x, u):
        return jnp.concatenate([x - self.target, jnp.sqrt(self.weight) * u])

    def terminal_residual(self, x):
        return 2.0 * (x - self.target)

    def control_bounds(self):
        return pa.Bounds(-2.0, 2.0)


STATES = np.array([[0.1, 0.3], [0.4, -0.2], [-3.0, 0.0]])
"""The last one is far enough away for the bound to be active."""


def states(**options: Any) -> torch.Tensor:
    return torch.tensor(STATES, **{"dtype": torch.float32, **options})


@pytest.fixture(scope="module")
def layer() -> PlanLayer[Hill]:
    return PlanLayer(Hill())


def in_jax(φ: Any = None) -> pa.Plan:
    space, problem = pa.ParameterSpace(Hill()), Hill()
    problem = problem if φ is None else space.insert(problem, jnp.asarray(φ))
    return jax.vmap(lambda state: pa.solve(problem, state))(jnp.asarray(STATES, float))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_plans_are_those_of_jax(dtype):
    with jax.enable_x64(dtype == torch.float64):
        expected, plan = in_jax(), PlanLayer(Hill())(states(dtype=dtype))
    for name in ("states", "controls", "cost", "residual", "violation"):
        value = getattr(plan, name)
        assert value.dtype == dtype
        np.testing.assert_allclose(value.numpy(), getattr(expected, name), rtol=1e-6, atol=1e-6)
    for name in ("status", "gradient_valid", "iterations"):
        np.testing.assert_array_equal(getattr(plan, name).numpy(), getattr(expected, name))
    assert torch.equal(plan.control, plan.controls[:, 0]) and torch.equal(plan.action, plan.control)
    assert plan.controls[2, 0, 0].item() == pytest.approx(2.0, abs=1e-4) and not plan.failed.any()
    assert plan.explain().startswith("3 lanes:\n  3 x SOLVED (lanes 0, 1, 2).")


def test_float32_tensors_are_planned_with_in_the_precision_of_jax(x64):
    plan, exact = PlanLayer(Hill())(states()), in_jax()
    assert plan.cost.dtype == torch.float32
    np.testing.assert_allclose(plan.cost.numpy(), exact.cost, rtol=1e-6)


def test_pinning_the_first_control_gives_q(x64):
    layer = PlanLayer(Hill())
    best = layer(states(dtype=torch.float64))
    pinned = best.control - 0.1  # inside the bounds, which a pinned control need not mind
    plan = layer(states(dtype=torch.float64), pinned)
    assert torch.equal(plan.control, pinned) and (plan.cost > best.cost).all()
    torch.testing.assert_close(layer.value(states(dtype=torch.float64)), best.cost)
    torch.testing.assert_close(layer.value(states(dtype=torch.float64), pinned), plan.cost)
    torch.testing.assert_close(layer(states(dtype=torch.float64), best.control).cost, best.cost)


def outputs(plan: Any) -> tuple[torch.Tensor, ...]:
    return plan.states, plan.controls, plan.action, plan.cost


# The step is the cube root of the solver's 1e-11 relative to values of 1, the tolerance its square, with a margin.
CHECK: dict[str, Any] = {"eps": 1e-4, "atol": 1e-5, "rtol": 1e-4}


@pytest.mark.long
@pytest.mark.parametrize("batched", [True, False], ids=["φ per lane", "one φ"])
def test_gradients_are_those_of_differences(x64, batched):
    """By state, pinned control and parameters, of everything that moves; V's by state and parameters."""
    layer = PlanLayer(Hill(), planner=pa.SQP(tolerance=1e-11))
    x = states(dtype=torch.float64).requires_grad_()
    φ = torch.tensor([0.1, 0.5, 0.0], dtype=torch.float64)
    φ = (φ + 0.01 * torch.arange(B)[:, None] if batched else φ).requires_grad_()
    u = torch.tensor([[0.3], [-0.4], [1.6]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, φ: outputs(layer(x, parameters=φ)), (x, φ), **CHECK)
    assert torch.autograd.gradcheck(lambda x, u, φ: outputs(layer(x, u, parameters=φ)), (x, u, φ), **CHECK)
    assert torch.autograd.gradcheck(lambda x, u, φ: layer.value(x, u, parameters=φ), (x, u, φ), **CHECK)


def test_unit_coordinates_are_those_of_the_boxes(x64):
    layer, φ = PlanLayer(Hill()), torch.tensor([0.2, 0.3, -0.1], dtype=torch.float64)
    unit = torch.tensor(np.array(layer.space.to_unit(jnp.asarray(φ.numpy()))), requires_grad=True)
    x = states(dtype=torch.float64)
    plan = layer(x, unit=unit)
    torch.testing.assert_close(plan.cost, layer(x, parameters=φ).cost)
    assert torch.autograd.gradcheck(lambda unit: layer(x, unit=unit).cost, (unit,), **CHECK)


def test_parameters_come_by_name_too(layer):
    weight = torch.tensor([0.1, 0.2, 0.3], requires_grad=True)
    plan = layer(states(), parameters={"weight": weight})
    rows = torch.stack([torch.tensor([w, 0.5, 0.0]) for w in (0.1, 0.2, 0.3)])
    torch.testing.assert_close(plan.cost, layer(states(), parameters=rows).cost)
    plan.cost.sum().backward()
    assert weight.grad is not None and (weight.grad > 0).all()
    target = torch.tensor([0.2, 0.1])
    everywhere = layer(states(), parameters={"target": target}).cost
    torch.testing.assert_close(everywhere, layer(states(), parameters=torch.tensor([0.1, 0.2, 0.1])).cost)


def test_a_layer_learns_its_parameters_inside_their_boxes():
    """The weight and the target behind another planner's controls are found again."""
    teacher = PlanLayer(Hill())(states(), parameters=torch.tensor([1.0, 0.2, 0.0])).controls
    layer = PlanLayer(Hill(), ["weight", "target"], learn=True)
    assert [tuple(p.shape) for p in layer.parameters()] == [(3,)] and set(layer.state_dict()) == {"free"}
    np.testing.assert_allclose(layer.tuned_problem().weight, 0.1, rtol=1e-5)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        (layer(states()).controls - teacher).square().sum().backward()
        optimiser.step()
    found = layer.tuned_problem()
    np.testing.assert_allclose(found.weight, 1.0, rtol=0.05)
    np.testing.assert_allclose(found.target, [0.2, 0.0], atol=0.02)


def test_a_warm_start_saves_iterations_and_changes_no_plan():
    problem = pa.make_task("cartpole").problem
    layer = PlanLayer(problem)
    x = torch.tensor([[0.0, 0.4, 0.0, 0.0], [0.1, -0.3, 0.0, 0.0]])
    cold = layer(x)
    warm, again = layer(x, guess=cold), layer(x, guess=cold.shift())
    torch.testing.assert_close(warm.cost, cold.cost, rtol=1e-4, atol=1e-4)
    assert (warm.iterations < cold.iterations).all() and not again.failed.any()
    forgotten = layer(x, guess=cold.guess().forget(torch.tensor([True, False])))
    assert torch.equal(forgotten.iterations, torch.stack([cold.iterations[0], warm.iterations[1]]))
    assert not cold.shift().states.requires_grad


def test_a_failed_lane_says_so_and_has_no_gradient(layer):
    x = states()
    x[1, 0] = torch.nan
    x.requires_grad_()
    plan = layer(x)
    assert plan.failed.tolist() == [False, True, False] and plan.gradient_valid.tolist() == [True, False, True]
    assert plan.shift().known.tolist() == [True, False, True]
    alone = layer(states())
    assert torch.equal(plan.controls[::2], alone.controls[::2]) and torch.isfinite(plan.controls).all()
    plan.controls.sum().backward()
    assert x.grad is not None and (x.grad[1] == 0).all() and (x.grad[0] != 0).any()
    assert torch.isnan(layer.value(x)).tolist() == [False, True, False]


def test_memory_is_shared_where_it_can_be():
    x = states()
    (array,) = _arrays((x,))
    assert array is not None and array.unsafe_buffer_pointer() == x.data_ptr()
    assert _tensor(array).data_ptr() == x.data_ptr()


def test_any_layout_is_read(layer):
    """Transposed, sliced at an odd address, expanded; and cotangents that a sum expands."""
    expected = layer(states()).cost
    wide = torch.zeros(B, 3)
    wide[:, 1:] = states()
    for x in (states().T.contiguous().T, wide[:, 1:]):
        assert not x.is_contiguous()
        torch.testing.assert_close(layer(x).cost, expected)
    flat = torch.zeros(2 * B + 1)
    flat[1:] = states().ravel()
    torch.testing.assert_close(layer(flat[1:].reshape(B, 2)).cost, expected)
    torch.testing.assert_close(layer(states()[:1].expand(B, 2)).cost, expected[:1].expand(B))


def test_tensors_that_were_overwritten_are_no_silent_error(layer):
    for overwrite in ("x", "plan.controls", "plan.gradient_valid"):
        x = states().requires_grad_()
        moved = x * 1.0
        plan = layer(moved)
        with torch.no_grad():
            {"x": moved, "plan.controls": plan.controls, "plan.gradient_valid": plan.gradient_valid}[overwrite].zero_()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            plan.cost.sum().backward()


def test_second_derivatives_are_refused_in_words(layer):
    x = states().requires_grad_()
    (slope,) = torch.autograd.grad(layer(x).cost.sum(), x, create_graph=True)
    torch.testing.assert_close(slope, torch.autograd.grad(layer(x).cost.sum(), x)[0])
    with pytest.raises(RuntimeError, match="a gradient of a plan was differentiated again; plans have first"):
        slope.sum().backward()


def test_a_shape_and_a_type_are_compiled_once():
    traced = []

    class Counted(Hill):
        def dynamics(self, x, u):
            traced.append(1)
            return super().dynamics(x, u)

    layer = PlanLayer(Counted())

    def step(rows: int) -> int:
        x = states()[:rows].requires_grad_()
        layer(x, parameters=torch.tensor([0.2, 0.1, 0.0], requires_grad=True)).cost.sum().backward()
        return len(traced)

    first = step(B)
    assert 0 < first == step(B) < step(2)


def test_a_layer_can_be_copied_and_sent(layer):
    expected = layer(states()).cost
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(other(states()).cost, expected)
    learner = PlanLayer(Hill(), learn=True)
    learner.load_state_dict({"free": torch.ones(3)})
    assert "Hill, horizon=4, parameters=[weight, target], learn=True" in repr(learner)
    np.testing.assert_allclose(learner.tuned_problem().target, np.tanh(1.0), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((torch.zeros(2),), {}, ValueError, r"state has shape \(2,\); expected \(B, 2\); add the batch axis"),
        ((torch.zeros(B, 3),), {}, ValueError, r"state has shape \(3, 3\); expected \(B, 2\)"),
        ((torch.zeros(B, 2, dtype=torch.float16),), {}, ValueError, "state is torch.float16; a plan needs torch.float"),
        ((torch.zeros(B, 2, dtype=torch.float64),), {}, ValueError, "JAX computes in float32; call jax.config.update"),
        ((torch.zeros(B, 2, device="meta"),), {}, ValueError, "state is on meta, but JAX computes on the CPU"),
        ((torch.zeros(B, 2), torch.zeros(B, 2)), {}, ValueError, r"control has shape \(3, 2\); expected \(3, 1\)"),
        ((torch.zeros(B, 2),), {"unit": torch.zeros(2)}, ValueError, r"unit has shape \(2,\); expected \(3\)"),
        (
            (torch.zeros(B, 2),),
            {"parameters": torch.zeros(3), "unit": torch.zeros(3)},
            ValueError,
            "φ came more than once; give either parameters=",
        ),
        (
            (torch.zeros(B, 2),),
            {"parameters": {"mass": torch.zeros(1)}},
            ValueError,
            "the layer has no parameter 'mass'; its parameters are: weight, target",
        ),
        (
            (torch.zeros(B, 2),),
            {"parameters": torch.zeros(3, dtype=torch.int32)},
            ValueError,
            "parameters is torch.int32; a plan needs",
        ),
        (
            (torch.zeros(B, 2),),
            {"guess": TorchGuess(torch.zeros(B, 4, 2), torch.zeros(B, 4, 1), torch.ones(B, dtype=torch.bool))},
            ValueError,
            r"guess.states has shape \(3, 4, 2\); expected \(3, 5, 2\)",
        ),
        (
            (torch.zeros(B, 2),),
            {"guess": TorchGuess(torch.zeros(B, 5, 2), torch.zeros(B, 4, 1), torch.ones(B))},
            ValueError,
            r"guess.known is torch.float32 of shape \(3,\); expected torch.bool of shape \(3,\)",
        ),
    ],
)
def test_wrong_use_is_an_error_that_says_so(layer, arguments, options, error, text):
    with pytest.raises(error, match=text):
        layer(*arguments, **options)


def test_what_is_no_tensor_is_an_error_that_says_so(layer):
    with pytest.raises(TypeError, match=r"state is a list; a torch\.Tensor is expected"):
        check_tensor("state", [[0.0, 0.0]], (None, 2))
    with pytest.raises(TypeError, match="guess is a int; a TorchGuess or a TorchPlan"):
        layer._checked_guess(3, states())


def test_two_precisions_in_one_call_are_an_error(x64, layer):
    with pytest.raises(ValueError, match=r"parameters is torch.float32 and state is torch.float64; convert one"):
        layer(states(dtype=torch.float64), parameters=torch.zeros(3))


def test_parameters_that_a_layer_learns_do_not_come_from_outside():
    with pytest.raises(ValueError, match="neither to a layer with learn=True"):
        PlanLayer(Hill(), learn=True)(states(), parameters=torch.zeros(3))


def in_workers(method: str) -> subprocess.CompletedProcess[str]:
    program = str(pathlib.Path(__file__).parent / "workers.py")
    return subprocess.run([sys.executable, program, method], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.long
def test_spawned_workers_plan():
    done = in_workers("spawn")
    assert done.stdout.splitlines() == ["the same"], done.stderr


def test_forked_workers_are_refused_in_words_and_do_not_hang():
    done = in_workers("fork")
    assert done.returncode != 0 and "this process was forked from the one in which the layer was built" in done.stderr
