"""Strictness that holds in every test and never in a user's program.

Types and shapes in the package's annotations are checked at run time, arrays of different rank never broadcast
silently, figures are drawn without a window, and warnings are errors (pyproject.toml).
"""

from collections.abc import Iterator

import jax
import matplotlib
import pytest
from jaxtyping import install_import_hook

# Before the first import of the package, which the hook has to see.
install_import_hook("planahead", "beartype.beartype")
jax.config.update("jax_numpy_rank_promotion", "raise")
matplotlib.use("Agg")


@pytest.fixture
def x64() -> Iterator[None]:
    """Compute in float64 for one test; compiled functions are cached per precision, so none leaks into the next."""
    with jax.enable_x64(True):
        yield
