"""Every derivative of a plan against central differences, in float64: relative error at most 1e-5.

Pairs: each output (states, controls, cost, multipliers), contracted with random weights w, by each input (every array
leaf of the problem, the state, the pinned control) along a random direction d: the adjoint gives wᵀ(∂y/∂p)d.

The difference is the five-point rule [8 (y₁ - y₋₁) - (y₂ - y₋₂)] / 12h, wrong by h⁴ y⁽⁵⁾/30 and by the solver's
residual ε as ε/h. With h = 2e-4 the first vanishes and, with ε = 1e-10, the second stays below 1e-6 for derivatives
of order one. The active set must not change within 2h: points are chosen strict (`Optimum.strictness`). Weakly active
points are studied with `tau`, which makes the plan smooth there on a scale of √tau ≈ 0.03; h = 4e-4 resolves that.
"""

import numpy as np

from tests.planning.reference_problems import Reference
from tests.planning.study import OUTPUTS, Study, best_plans, each_reference, pinned_plan, study

STENCIL = np.array([1.0, -8.0, 8.0, -1.0]) / 12
RELATIVE_ERROR = 1e-5


def assert_all_pairs_agree(study: Study) -> None:
    failed = (study.plans.status != 0) | ~study.plans.gradient_valid
    assert not failed.any(), f"{failed.sum()} of {failed.size} solves failed: {np.unique(study.plans.status)}"
    wrong = []
    for output in OUTPUTS:
        contracted = study.output(output) @ study.weights[output]
        for i, name in enumerate(study.inputs):
            difference = STENCIL @ contracted[1 + 4 * i : 5 + 4 * i] / study.step
            adjoint = float(np.sum(study.gradients[output][i] * study.directions[i]))
            # What is much smaller than the weights is a cancellation of many terms, or a derivative that is zero.
            scale = max(abs(difference), 2e-2 * np.linalg.norm(study.weights[output]))
            if not abs(adjoint - difference) <= RELATIVE_ERROR * scale:
                wrong.append(f"∂{output}/∂{name}: {adjoint:.9g} by the adjoint, {difference:.9g} by differences")
    assert not wrong, "\n".join(wrong)


@each_reference(heavy_is_slow=True)
def test_best_plan_with_active_constraints(reference: Reference):
    assert_all_pairs_agree(best_plans(reference)[reference.state])


@each_reference(where=lambda reference: reference.inactive is not None, heavy_is_slow=True)
def test_best_plan_without_active_constraints(reference: Reference):
    assert reference.inactive is not None
    assert_all_pairs_agree(best_plans(reference)[reference.inactive])


@each_reference(heavy_is_slow=True)
def test_pinned_first_control(reference: Reference):
    assert_all_pairs_agree(pinned_plan(reference))


@each_reference(
    "bounded_control",
    "hard_state_bound",
    "nonlinear_constraint",
    "cart_pole_balance",
    "network_dynamics",
    heavy_is_slow=True,
)
def test_smoothed_plan_where_a_constraint_is_about_to_become_active(reference: Reference):
    assert reference.weak is not None
    assert_all_pairs_agree(study(reference, (reference.weak,), tau=1e-3)[reference.weak])
