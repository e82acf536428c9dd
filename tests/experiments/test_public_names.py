"""What the room offers can be imported, and a wrong name is told apart from a missing module."""

import pytest

from planahead import experiments


def test_every_public_name_is_there():
    assert len(dir(experiments)) == len(set(dir(experiments))) > 10
    for name in dir(experiments):
        assert getattr(experiments, name).__name__ == name


def test_another_name_is_not():
    with pytest.raises(AttributeError, match="has no attribute 'trane'"):
        _ = experiments.trane
