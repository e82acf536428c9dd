"""Laps to follow: what is between their nodes, where the nearest point is, and how a quadrotor knows where it is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.problem.rotation import from_yaw
from planahead.tasks.flight.gates import TRACKS, corners_of
from planahead.tasks.flight.lap import Lap, whereabouts
from planahead.tasks.flight.quadrotor import THRUST_LIMIT, Nominal
from planahead.tasks.flight.race import Race

NOMINAL = ("split-s-100", "split-s-90")
SHARES = {"split-s-100": 1.0, "split-s-90": 0.9, "split-s-lags-85": 0.85}


@pytest.mark.parametrize("name", NOMINAL)
def test_a_lap_is_flown_by_its_own_commands(name):
    """Every step of it is the race's own, if of another length."""
    lap, vehicle = Lap.load(name, 7), Nominal()
    spans = jnp.diff(lap.times)
    fly = jax.vmap(lambda x, u, h: vehicle.fly(x, u, jnp.zeros(3), h))
    after = fly(lap.states[:-1], lap.commands, spans)
    np.testing.assert_allclose(after, lap.states[1:], atol=2e-4)


@pytest.mark.parametrize("name", SHARES)
def test_a_lap_passes_every_gate_and_closes(name):
    race, lap = Race.on("split-s"), Lap.load(name, 7)
    each = (len(lap.times) - 1) // 7
    for gate in range(7):
        seen = np.asarray(corners_of(race.gates[gate], jnp.array(0.65)))
        offset = np.asarray(lap.states[gate * each, :3]) - seen.mean(axis=0)
        tangent, up = (seen[0] - seen[1]) / 1.3, (seen[1] - seen[2]) / 1.3
        normal = np.cross(tangent, up)
        assert abs(normal @ offset) < 1e-4, "in its plane"
        assert normal @ np.asarray(lap.states[gate * each, 7:]) > 0, "in its direction"
        assert max(abs(tangent @ offset), abs(up @ offset)) < 0.65 + 1e-4, "within its opening"
    first, last = np.asarray(lap.states[0]), np.asarray(lap.states[-1])
    np.testing.assert_allclose(np.delete(first, range(3, 7)), np.delete(last, range(3, 7)), atol=1e-4)
    assert abs(first[3:7] @ last[3:7]) == pytest.approx(1.0, abs=1e-5)
    assert float(lap.commands[:, 0].max()) == pytest.approx(SHARES[name] * THRUST_LIMIT, rel=1e-3), "at its limit"


def test_a_lap_between_nodes_and_beyond_its_end():
    lap = Lap.load("split-s-90", 7)
    middle = 0.5 * (lap.times[3] + lap.times[4])
    found = lap.at(jnp.stack([lap.times[3], middle, lap.duration + lap.times[3]]))
    np.testing.assert_allclose(found.states[0], lap.states[3], atol=1e-5)
    np.testing.assert_allclose(found.states[2], lap.states[3], atol=1e-4)
    np.testing.assert_allclose(found.states[1, :3], 0.5 * (lap.states[3, :3] + lap.states[4, :3]), atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(found.states[:, 3:7], axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(found.commands[1], lap.commands[3])


def test_the_nearest_point_is_on_the_way_to_the_next_gate():
    lap = Lap.load("split-s-90", 7)
    each = (len(lap.times) - 1) // 7
    for gate in range(7):
        node = ((gate - 1) % 7) * each + 5
        aside = lap.states[node, :3] + 0.05 * jnp.cross(lap.states[node, 7:] / 10.0, jnp.array([0.0, 0.0, 1.0]))
        time = lap.nearest(aside, jnp.asarray(gate))
        assert float(time) == pytest.approx(float(lap.times[node]), abs=0.01)


def test_survives_its_own_text():
    lap = Lap.load("split-s-90", 7)
    again = Lap.parse(lap.text(), 7)
    for ours, theirs in zip(jax.tree.leaves(lap), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="252 steps, which 5 gates do not divide"):
        Lap.parse(lap.text(), 5)
    with pytest.raises(ValueError, match="no lap 'split-t'; the known ones are: split-s-100, split-s-90, split-s-lags"):
        Lap.load("split-t", 7)


def test_attitudes_of_a_window_are_near_to_one_another_where_a_lap_ends_with_the_other_sign():
    lap = Lap.load("split-s-90", 7)
    flipped = dataclasses.replace(lap, states=lap.states.at[100:, 3:7].multiply(-1.0))
    window = lap.duration - 0.1 + 0.02 * jnp.arange(12)
    q = flipped.at(window).states[:, 3:7]
    assert float(jnp.min(jnp.sum(q[1:] * q[:-1], axis=1))) > 0.9


@pytest.mark.parametrize("track", [name for name in TRACKS if name.startswith("split-s")])
def test_an_observation_tells_gate_and_position(track):
    race = Race.on(track, starts="anywhere")
    corners = jax.vmap(lambda gate: corners_of(gate, 0.5 * race.opening))(race.gates)
    for seed in range(20):
        state = race.reset(jax.random.key(seed))
        found = whereabouts(corners, race.observe(state), from_yaw(0.3))
        assert int(found.gate) == int(state.gate)
        np.testing.assert_allclose(found.state[:3], state.x[:3], atol=1e-4)
        np.testing.assert_allclose(found.state[7:], state.x[7:10], atol=1e-6)
