"""What messages of every room say alike."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What is nearly `name` among what is known, to stand behind it in a message; nothing where nothing is.

    >>> did_you_mean("carpole", ["cartpole", "chain"]), did_you_mean("x", ["cartpole"])
    (' (did you mean cartpole?)', '')
    """
    return "".join(f" (did you mean {near}?)" for near in difflib.get_close_matches(name, known, n=1, cutoff=0.7))
