"""With what a run was made: enough to make it again."""

import functools
import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

import jax

PACKAGES = ("planahead", "jax", "jaxlib", "equinox", "optax", "numpy", "gymnasium", "matplotlib")


def package_versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


@functools.cache  # of the source that this process runs, whatever happens to it meanwhile
def commit() -> str | None:
    """The commit of the checkout that this package is imported from, with «+» where its source has been changed since;
    `None` for an installation without one.
    """
    folder = pathlib.Path(__file__).parents[1]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "__init__.py") is None:  # a site-packages inside somebody's own repository
        return None
    found, changed = git("rev-parse", "--short=10", "HEAD"), git("status", "--porcelain", "--untracked-files=no", ".")
    return None if found is None else f"{found}{'+' if changed else ''}"


def machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": processor(),
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
    """Python, packages, machine, the command and where it was typed, as `versions.json` keeps them."""
    return {
        "command": shlex.join(sys.argv),
        "folder": os.getcwd(),
        "commit": commit(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "machine": machine(),
    }


def processor() -> str:
    """The processor's own name where the system tells it (Linux), and its architecture otherwise."""
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
