"""What the taxonomy names exists, and all that exists has a place in it."""

import pytest

import planahead as pa
from planahead.experiments.bench.definition import BASELINES, EXPERT, PLANNER, Entry
from planahead.experiments.taxonomy import TAXONOMY
from planahead.learning.presets import PRESETS

ENTRIES = [entry for place in TAXONOMY for entry in place.entries]


@pytest.mark.parametrize("text", ENTRIES)
def test_every_entry_can_be_trained(text):
    assert str(Entry.parse(text)) == text


def test_every_algorithm_has_a_place():
    named = {Entry.parse(text).algorithm for text in ENTRIES}
    assert named == PRESETS.keys() | BASELINES.keys() - {PLANNER, EXPERT}


def test_what_is_put_around_a_trained_policy_is_public():
    for place in TAXONOMY:
        assert bool(place.entries) != bool(place.after)
        assert not place.after or hasattr(pa, place.after)
