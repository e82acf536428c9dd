"""Strictness that holds in every test and never in a user's program.

Types and shapes in the package's annotations are checked at run time, arrays of different rank never broadcast
silently, figures are drawn without a window, and warnings are errors (pyproject.toml). Compiling takes two thirds of a
first run: what XLA compiles is kept in .jax_cache, for the other processes and the next run, and XLA is told to compile
in a third of the time what then runs a tenth more slowly.
"""

import os
import pathlib
from collections.abc import Iterator
from importlib import metadata

# Before jax is imported; of the commands that tests start as well.
if metadata.version("jaxlib").startswith("0.10."):  # XLA ends a process that is given an option it does not know
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
import matplotlib
import pytest
from jaxtyping import install_import_hook

# Before the first import of the package, which the hook has to see.
install_import_hook("planahead", "beartype.beartype")
jax.config.update("jax_numpy_rank_promotion", "raise")
matplotlib.use("Agg")


MOST_MAPS = 30_000


@pytest.fixture
def x64() -> Iterator[None]:
    """Compute in float64 for one test; compiled functions are cached per precision, so none leaks into the next."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def few_compiled_programs() -> Iterator[None]:
    """Forget compiled programs before they run out of memory maps, of which Linux gives a process 65,530: XLA then dies
    while it compiles."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > MOST_MAPS:
        jax.clear_caches()
