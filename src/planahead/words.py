"""What messages of every room say alike."""

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What is nearly `name` among what is known, to stand behind it in a message; nothing where nothing is.

    >>> did_you_mean("carpole", ["cartpole", "chain"]), did_you_mean("x", ["cartpole"])
    (' (did you mean cartpole?)', '')
    """
    return "".join(f" (did you mean {near}?)" for near in difflib.get_close_matches(name, known, n=1, cutoff=0.7))


def shown(numbers: Any) -> str:
    """A number, or one axis of them, to four digits.

    >>> shown([0.123456, 2.0]), shown(1e6 / 3)
    ('[0.1235, 2]', '3.333e+05')
    """
    short = ", ".join(f"{number:.4g}" for number in np.ravel(numbers))
    return f"[{short}]" if np.ndim(numbers) else short
