"""What the tests of both backends share."""

import pytest

import planahead as pa
from planahead.qp import native

every_backend = pytest.mark.parametrize(
    "which",
    [
        pytest.param("native", marks=pytest.mark.skipif(not native.available(), reason=native.description())),
        "portable",
    ],
)


RICCATI = ("classic", "square-root")


def names(statuses) -> list[str]:
    return [pa.Status(int(status)).name for status in statuses]
