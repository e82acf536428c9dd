"""Parameters: their boxes, one value per stage, and the flat vector φ with its unit coordinates."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.problem import at_stage, map_stages, scan_stages

pytestmark = pytest.mark.usefixtures("x64")


class Weighed(pa.Problem):
    """x⁺ = gain x + u, with parameters of every kind."""

    horizon: int = pa.static(3)
    state_size: int = pa.static(1)
    control_size: int = pa.static(1)
    gain: pa.Array = pa.parameter(0.5, low=-1.0, high=2.0)
    weights: pa.Array = pa.parameter([1.0, 10.0], low=0.1, high=1e3, scale="log")
    fixed: pa.Array = pa.parameter(3.0, low=3.0, high=3.0)
    free: pa.Array = pa.parameter(0.0)

    def dynamics(self, x, u):
        return self.gain * x + u


BOXED = ("gain", "weights", "fixed")


def test_parameters_go_into_a_vector_and_back():
    problem = Weighed()
    space = pa.ParameterSpace(problem, ("weights", "gain"))
    np.testing.assert_array_equal(space.flatten(problem), [1.0, 10.0, 0.5])
    changed: Any = space.insert(problem, jnp.array([2.0, 3.0, 0.25]))
    np.testing.assert_array_equal(space.flatten(changed), [2.0, 3.0, 0.25])
    assert changed.free == problem.free
    with pytest.raises(ValueError, match=r"φ has shape \(2,\); the 3 entries of weights, gain are expected"):
        space.insert(problem, jnp.zeros(2))


def test_unit_coordinates_are_linear_or_geometric_and_have_an_inverse():
    space = pa.ParameterSpace(Weighed(), BOXED)
    np.testing.assert_allclose(space.from_unit(-jnp.ones(4)), space.low, rtol=1e-14)
    np.testing.assert_allclose(space.from_unit(jnp.ones(4)), space.high, rtol=1e-14)
    np.testing.assert_allclose(space.from_unit(jnp.zeros(4)), [0.5, 10.0, 10.0, 3.0], rtol=1e-14)
    unit = jnp.array([0.3, -0.8, 0.6, 0.0])
    np.testing.assert_allclose(space.to_unit(space.from_unit(unit)), unit, atol=1e-14)


def test_every_box_can_be_covered_linearly():
    declared, linear = pa.ParameterSpace(Weighed(), BOXED), pa.ParameterSpace(Weighed(), BOXED, scale="linear")
    ends = jnp.stack([-jnp.ones(declared.size), jnp.ones(declared.size)])
    np.testing.assert_allclose(jax.vmap(linear.from_unit)(ends), jax.vmap(declared.from_unit)(ends), rtol=1e-5)
    np.testing.assert_allclose(linear.from_unit(jnp.zeros(linear.size)), 0.5 * (linear.low + linear.high), rtol=1e-6)
    with pytest.raises(ValueError, match="scale='log'; 'declared' or 'linear' was expected"):
        pa.ParameterSpace(Weighed(), BOXED, scale="log")


def test_a_box_of_a_single_point_has_numbers_for_coordinates_and_derivatives():
    space = pa.ParameterSpace(Weighed(), "fixed")
    assert space.names == ("fixed",)
    assert float(space.to_unit(jnp.array([3.0]))[0]) == 0.0 and float(space.from_unit(jnp.array([0.7]))[0]) == 3.0
    everything = pa.ParameterSpace(Weighed(), BOXED)
    slope = jax.jacobian(lambda values: everything.to_unit(values))(everything.flatten(Weighed()))
    assert np.isfinite(slope).all() and np.all(np.diag(slope)[:3] > 0) and slope[3, 3] == 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("weight", "Weighed has no parameter 'weight'; its parameters are: gain, weights, fixed, free"),
        (("gain", "gain"), "parameter 'gain' is named more than once"),
    ],
)
def test_names_that_do_not_name_a_parameter_each_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        pa.ParameterSpace(Weighed(), names)


def test_open_boxes_have_no_unit_coordinates():
    with pytest.raises(ValueError, match="parameter free has no finite box, so it has no unit coordinates"):
        pa.ParameterSpace(Weighed()).to_unit(jnp.zeros(5))


@pytest.mark.parametrize(
    ("default", "box", "message"),
    [
        (3.0, {"low": 0.0, "high": 1.0}, r"parameter default 3.0 is outside .* widen the box"),
        (1.0, {"low": 2.0, "high": 0.0}, r"parameter box \[2.0, 0.0\] has low above high; swap them"),
        (float("nan"), {}, r"parameter default nan is not a number"),
        (1.0, {"low": float("nan")}, r"parameter box \[nan, inf\] has an end that is not a number"),
        (1.0, {"low": [0.0, 0.0]}, r"parameter default of shape \(\) has low of shape \(2,\)"),
        (1.0, {"low": 0.0, "high": 2.0, "scale": "log"}, r"scale='log' needs 0 < low and a finite high"),
    ],
)
def test_what_is_wrong_with_a_box_is_said(default, box, message):
    with pytest.raises(ValueError, match=message):
        pa.parameter(default, **box)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon": 0}, "Weighed.horizon is 0; an integer of at least 1 is expected"),
        ({"horizon": 2.5}, "Weighed.horizon is 2.5; an integer of at least 1 is expected"),
        ({"control_size": 0}, "Weighed.control_size is 0"),
        ({"gain": float("nan")}, "Weighed.gain is not a number: nan"),
    ],
)
def test_problems_that_cannot_be_planned_are_not_built(settings, message):
    with pytest.raises(ValueError, match=message):
        Weighed(**settings)


def test_problems_are_built_of_traced_numbers():
    built = jax.vmap(lambda gain: Weighed(gain=gain))(jnp.array([1.0, jnp.nan]))
    np.testing.assert_array_equal(built.gain, [1.0, np.nan])


def test_per_stage_values_arrive_sliced():
    problem = Weighed(gain=cast(Any, pa.PerStage(jnp.arange(4.0))))
    assert [float(at_stage(problem, k).gain) for k in (0, 2, -1)] == [0.0, 2.0, 3.0]
    mapped = map_stages(lambda stage, extra: stage.gain + extra, problem, 10 * jnp.ones(3))
    np.testing.assert_array_equal(mapped, [10.0, 11.0, 12.0])
    states, gains = scan_stages(
        lambda x, stage, u: (stage.dynamics(x, u), stage.gain), problem, jnp.ones(1), jnp.ones((3, 1))
    )
    np.testing.assert_array_equal(states[:, 0], [1.0, 1.0, 2.0, 5.0])
    np.testing.assert_array_equal(gains, [0.0, 1.0, 2.0])


def test_a_global_parameter_becomes_one_per_stage():
    problem: Any = pa.per_stage(Weighed(), "weights")
    assert problem.weights.values.shape == (4, 2) and pa.per_stage(problem, "weights") is problem
    space = pa.ParameterSpace(problem, "weights")
    assert space.size == 8 and all(space.flatten(space.insert(problem, jnp.ones(8))) == 1)
    np.testing.assert_array_equal(at_stage(problem, 2).weights, Weighed().weights)
    with pytest.raises(ValueError, match="Weighed has no parameter 'wieght'; its parameters are: gain"):
        pa.per_stage(Weighed(), "wieght")


def test_stages_that_are_not_listed_keep_their_values():
    problem: Any = pa.per_stage(pa.per_stage(Weighed(), "weights"), "weights", range(1, 3))
    space = pa.ParameterSpace(problem, "weights")
    assert space.shapes == ((2, 2),) and space.low.tolist() == [0.1] * 4
    changed: Any = space.insert(problem, jnp.array([2.0, 3.0, 4.0, 5.0]))
    np.testing.assert_array_equal(changed.weights.values, [[1.0, 10.0], [2.0, 3.0], [4.0, 5.0], [1.0, 10.0]])
    np.testing.assert_array_equal(space.flatten(changed), [2.0, 3.0, 4.0, 5.0])
    assert changed.weights.stages == range(1, 3)


@pytest.mark.parametrize("stages", [range(0, 5), range(-1, 2), range(2, 2), range(0, 4, 2), range(3, 1)])
def test_stages_that_do_not_exist_are_refused(stages):
    with pytest.raises(
        ValueError, match=r"got stages=range\(.*\); a range\(first, last \+ 1\) within 0…3 was expected"
    ):
        pa.per_stage(Weighed(), "gain", stages)
