"""What is drawn of every task: finite, named once, in place, and the plan where it says it is."""

import dataclasses
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.tasks import Environment
from planahead.tasks.flight.gates import corners_of
from planahead.viewer import Camera, Scene, scene_of
from planahead.viewer.blend import blend
from planahead.viewer.scene import scene_for
from planahead.viewer.scenes.generic import GenericScene
from planahead.viewer.shapes import Ball, Box, Line, Rod, Shape, Text, along, line_pairs
from tests.experiments.stubs import Point, PointTask
from tests.viewer.still import still


def numbers(shape: Shape) -> list[np.ndarray]:
    values = [getattr(shape, field.name) for field in dataclasses.fields(shape)]
    return [np.asarray(value, float) for value in values if not isinstance(value, str | bool)]


def named(shapes: tuple[Shape, ...], name: str) -> Any:
    (found,) = [shape for shape in shapes if shape.name == name]
    return found


@pytest.mark.parametrize("generic", [False, True], ids=["own", "generic"])
@pytest.mark.parametrize("name", pa.task_names())
def test_every_task_can_be_drawn(name: str, generic: bool):
    task = pa.make_task(name)
    scene, frame = GenericScene(task) if generic else scene_for(task), still(task)
    shapes = (*scene.surroundings(task.environment), *scene.shapes(task.environment, frame))
    assert isinstance(scene, GenericScene) == generic
    assert all(np.isfinite(part).all() for shape in shapes for part in numbers(shape))
    names = [shape.name for shape in shapes]
    assert len(set(names)) == len(names) and any("plan" in word for word in names)
    without = scene.shapes(task.environment, dataclasses.replace(frame, plan_states=None, plan_controls=None))
    assert not any(shape.name.startswith("plan/") for shape in without)


@pytest.mark.parametrize("name", pa.task_names())
def test_every_poke_fits_its_task(name: str):
    task = pa.make_task(name)
    pokes = scene_for(task).pokes
    state = task.environment.reset(jax.random.key(0))
    assert pokes and all(len(poke.kick) == len(state.x) for poke in pokes if poke.kick is not None)
    assert all(len(poke.action or ()) == task.environment.action_size for poke in GenericScene(task).pokes)


def test_the_pole_stands_on_its_cart_and_turns_counter_clockwise():
    task = pa.make_task("cartpole")
    x = np.array([0.5, np.pi / 2, 0.0, 0.0])
    frame = still(task)
    frame = dataclasses.replace(frame, state=eqx.tree_at(lambda state: state.x, frame.state, x))
    rod = named(scene_for(task).plant(task.environment, frame), "pole/rod")
    np.testing.assert_allclose(rod.end, [0.5 - 0.8, 0.0, 0.0], atol=1e-6)


def test_a_racing_plan_is_drawn_from_the_quadrotor_whatever_it_is_relative_to():
    task = pa.make_task("race-split-s")
    scene, frame = scene_for(task), still(task)
    here = np.asarray(frame.state.x[:3])
    relative = frame.plan_states
    assert relative is not None
    absolute = np.column_stack([relative[:, :3] - relative[:1, :3] + here, relative[:, 3:]])
    for plan in (relative, absolute):
        way = named(scene.ahead(task.environment, frame, plan), "plan/way").points
        np.testing.assert_allclose(way[0], here, atol=1e-5)


def test_gates_lie_around_their_openings():
    race = pa.make_task("race-split-s").environment
    shapes = scene_for(pa.make_task("race-split-s")).surroundings(race)
    corners = np.asarray(corners_of(race.gates[2], 0.5 * race.opening))
    top, bottom = (named(shapes, f"gate/3/{side}") for side in ("top", "bottom"))
    assert isinstance(top, Box)
    np.testing.assert_allclose((np.asarray(top.position) + bottom.position) / 2, corners.mean(axis=0), atol=1e-5)
    assert top.position[2] - top.size[2] / 2 == pytest.approx(corners[:, 2].max(), abs=1e-4)


def test_a_slider_moves_the_surroundings():
    task = pa.make_task("windmaze-hard")
    scene, world = scene_for(task), task.environment
    still_air = dataclasses.replace(world, wind_force=jnp.zeros(()))
    assert any(shape.name == "wind" for shape in scene.surroundings(world))
    assert not any(shape.name == "wind" for shape in scene.surroundings(still_air))


def test_a_task_of_ones_own_is_drawn_generically_until_it_has_a_scene():
    assert isinstance(scene_for(PointTask()), GenericScene)

    @final
    class Mine(Scene):
        camera, caption = Camera((0, -1, 0), (0, 0, 0)), (0.0, 0.0, 0.0)

        def surroundings(self, world: Environment[Any]) -> tuple[Shape, ...]:
            return ()

        def plant(self, world: Environment[Any], frame: Any) -> tuple[Shape, ...]:
            return ()

        def ahead(self, world: Environment[Any], frame: Any, plan: np.ndarray) -> tuple[Shape, ...]:
            return ()

    assert scene_of.dispatch(Point) is scene_of.dispatch(object)
    scene_of.register(Point)(lambda world: Mine())
    try:
        assert isinstance(scene_for(PointTask()), Mine)
    finally:
        scene_of.register(Point)(lambda world: None)


def test_blending_moves_what_both_have_and_takes_the_rest_as_it_is():
    before = (Rod("rod", (0, 0, 0), (0, 0, 1), 0.1, "#000000"), Line("line", np.zeros((2, 3)), "#000000"))
    after = (
        Rod("rod", (1, 0, 0), (1, 0, 3), 0.1, "#000000"),
        Line("line", np.ones((3, 3)), "#000000"),
        Text("words", "new", (0, 0, 0)),
    )
    rod, line, words = blend(before, after, 0.5)
    assert isinstance(rod, Rod) and isinstance(line, Line) and words == after[2]
    np.testing.assert_allclose([rod.start, rod.end], [[0.5, 0, 0], [0.5, 0, 2]])
    np.testing.assert_array_equal(line.points, np.ones((3, 3)))
    assert blend(before, after, 1.0) == after


def test_attitudes_blend_the_shorter_way_round():
    quarter = np.array([np.cos(np.pi / 4), 0, 0, np.sin(np.pi / 4)])
    before, after = Box("a", (1, 1, 1), (0, 0, 0), "#000000"), Box("a", (1, 1, 1), (0, 0, 0), "#000000", -quarter)
    (between,) = blend([before], [after], 0.5)
    assert isinstance(between, Box)
    expected = np.array([np.cos(np.pi / 8), 0, 0, np.sin(np.pi / 8)])
    np.testing.assert_allclose(abs(between.attitude @ expected), 1.0, atol=1e-12)


@pytest.mark.parametrize("direction", [(0, 0, 1), (0, 0, -1), (1, 0, 0), (0.3, -2.0, 0.5)])
def test_rods_point_along_their_ends(direction: tuple[float, float, float]):
    middle, length, (w, *v) = along((1, 2, 3), np.array([1, 2, 3]) + direction)
    axis = np.array([0.0, 0.0, 1.0])
    turned = axis + 2 * w * np.cross(v, axis) + 2 * np.cross(v, np.cross(v, axis))
    np.testing.assert_allclose(length * turned, direction, atol=1e-12)
    np.testing.assert_allclose(middle, np.array([1, 2, 3]) + 0.5 * np.array(direction))


def test_a_line_is_through_its_points_or_between_pairs():
    points = np.arange(12.0).reshape(4, 3)
    assert len(line_pairs(Line("a", points, "#000000"))) == 3
    assert len(line_pairs(Line("a", points, "#000000", pairs=True))) == 2
    assert len(line_pairs(Line("a", points[:1], "#000000"))) == 0
    assert isinstance(Ball("b", 1.0, (0, 0, 0), "#000000"), Shape)
