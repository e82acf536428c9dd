"""Sliders change numbers in place: what was not moved stays, and nothing else does."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.problem import TerminalValue
from planahead.viewer.choices import Span, sliders_of
from planahead.viewer.panel import scale_of
from planahead.viewer.sliders import Slider, at, changes_of, turned


def test_an_entry_that_moves_leaves_its_neighbours():
    problem = pa.make_task("obstacles").problem
    sliders = [
        slider for slider in sliders_of(pa.make_task("obstacles").environment, problem).aims if "target" in slider.label
    ]
    assert [slider.entry for slider in sliders] == [0, 1]
    changed = turned(problem, changes_of(sliders, [sliders[0].start, 0.7], problem))
    np.testing.assert_allclose(changed.target, [problem.target[0], 0.7], rtol=1e-6)
    np.testing.assert_array_equal(changed.position_weight, problem.position_weight)


def test_a_factor_multiplies_a_long_vector_and_its_neutral_place_is_one():
    task = pa.make_task("chain")
    (factor,) = [slider for slider in sliders_of(task.environment, task.problem).aims if slider.factor]
    same = turned(task.problem, changes_of([factor], [factor.start], task.problem))
    twice = turned(task.problem, changes_of([factor], [2.0], task.problem))
    np.testing.assert_array_equal(same.state_weight_root, task.problem.state_weight_root)
    np.testing.assert_allclose(twice.state_weight_root, 2 * task.problem.state_weight_root)


def test_a_parameter_per_stage_moves_at_all_stages():
    problem = pa.per_stage(pa.make_task("cartpole").problem, "angle_reference")
    (slider,) = [
        s for s in sliders_of(pa.make_task("cartpole").environment, problem).aims if s.path == ("angle_reference",)
    ]
    changed = turned(problem, changes_of([slider], [1.5], problem))
    assert isinstance(changed.angle_reference, pa.PerStage)
    np.testing.assert_allclose(changed.angle_reference.values, 1.5)


def test_what_an_observation_decides_stays_until_it_is_moved():
    task = pa.make_task("windmaze-hard")
    problem = task.expert(jnp.array([0.25, 0.8, 0.0, 0.0, 0.0, 0.0]))
    later = task.expert(jnp.array([2.0, 0.1, 0.0, 0.0, 0.0, 0.0]))
    sliders = [s for s in sliders_of(task.environment, problem).aims if s.path == ("state_reference",)]
    changes = changes_of(sliders, [s.start for s in sliders[:-1]] + [0.5], problem)
    before, after = at(later, ("state_reference",)), at(turned(later, changes), ("state_reference",))
    np.testing.assert_allclose(after[:3], before[:3])
    assert float(after[3]) == 0.5


def test_beliefs_are_apart_from_aims():
    task = pa.make_task("cartpole")
    sliders = sliders_of(task.environment, task.problem)
    assert {slider.path for slider in sliders.beliefs} == {
        ("gravity",),
        ("cart_mass",),
        ("pole_mass",),
        ("pole_length",),
    }
    assert ("angle_weight",) in {slider.path for slider in sliders.aims}


def test_a_wrapped_problem_has_the_sliders_of_the_one_inside():
    task = pa.make_task("mass-spring-damper")
    plain = sliders_of(task.environment, task.problem)

    class Elsewhere(TerminalValue):
        """Holds a task, whose constants are nobody's to turn."""

        task: pa.Task

        @property
        def squares(self) -> bool:
            return True

    for problem in (pa.QuadraticTerminalCost(task.problem), pa.EndingInValue(task.problem, Elsewhere(task))):
        found = sliders_of(task.environment, problem)
        for ours, theirs in zip(found, plain, strict=True):
            assert [slider.path for slider in ours] == [slider.path for slider in theirs]
        (weight,) = [slider for slider in found.aims if slider.path == ("limit_weight",)]
        changed = turned(problem, changes_of([weight], [7.0], problem))
        assert float(at(changed, ("base", "limit_weight"))) == 7.0


def test_spans_choose_the_constants_of_a_world_those_inside_of_its_parts_too():
    world = pa.make_task("hover").environment
    spans = [Span("wind.wind_force", -4.0, 4.0), Span("vehicle.mass", 0.4, 1.2), Span("vehicle.no_such", 0.0, 1.0)]
    sliders = sliders_of(world, None, spans).world
    assert [slider.label for slider in sliders] == ["wind force x", "wind force y", "wind force z", "mass"]
    windy = turned(world, changes_of(sliders, [0.0, 2.0, 0.0, 0.8], world))
    np.testing.assert_allclose(windy.wind.wind_force, [0.0, 2.0, 0.0])
    assert float(windy.vehicle.mass) == pytest.approx(0.8)


@pytest.mark.parametrize("name", pa.task_names())
def test_every_slider_of_every_task_starts_at_its_number_and_fits_on_a_page(name: str):
    task = pa.make_task(name)
    sliders = sliders_of(task.environment, task.problem)
    assert sliders.world
    for slider, module in [
        *((s, task.environment) for s in sliders.world),
        *((s, task.problem) for s in (*sliders.aims, *sliders.beliefs)),
    ]:
        leaf = at(module, slider.path)
        leaf = leaf.listed[0] if isinstance(leaf, pa.PerStage) else leaf
        number = 1.0 if slider.factor else float(np.asarray(leaf)[() if slider.entry is None else slider.entry])
        assert slider.low <= slider.start <= slider.high and slider.start == pytest.approx(number)
        low, high, step, start = scale_of(slider)
        assert low <= start <= high and 0 < step < high - low


def test_ends_that_make_no_slider_are_refused():
    with pytest.raises(
        ValueError, match=r"slider «mass» goes from 2.0 to 1.0; finite ends were expected, the lower one first"
    ):
        Slider("mass", ("mass",), 2.0, 1.0, 1.5)
    with pytest.raises(ValueError, match=r"slider «mass» spans decades and begins at 0.0; begin above 0"):
        dataclasses.replace(Slider("mass", ("mass",), 0.1, 1.0, 0.5), low=0.0, decades=True)
