"""With what a run was made: enough to make it again."""

import importlib.metadata
import os
import platform
import shlex
import sys
from typing import Any

import jax

PACKAGES = ("planahead", "jax", "jaxlib", "equinox", "optax", "numpy", "gymnasium", "matplotlib")


def package_versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "backend": jax.default_backend(),
        "devices": [str(device) for device in jax.devices()],
        "qp_kernel": qp_backends()["native"],
        "x64": bool(jax.config.jax_enable_x64),  # pyright: ignore[reportAttributeAccessIssue]
    }


def qp_backends() -> dict[str, str]:
    """Every solver of quadratic programs, and what is to be said of it."""
    from planahead.qp import native

    return {"portable": "pure JAX, everywhere", "native": native.description()}


def versions() -> dict[str, Any]:
    """Python, packages, machine and the command, as `versions.json` keeps them."""
    return {
        "command": shlex.join(sys.argv),
        "python": platform.python_version(),
        "packages": package_versions(),
        "machine": machine(),
    }


def _processor() -> str:
    """The processor's own name where the system tells it (Linux), and its architecture otherwise."""
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
