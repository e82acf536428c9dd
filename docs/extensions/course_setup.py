"""What a script of the course may have changed for the ones after it in the same process."""

from typing import Any


def default_precision(gallery: dict[str, Any], script: str) -> None:
    """float32, as JAX comes."""
    import jax

    jax.config.update("jax_enable_x64", False)
