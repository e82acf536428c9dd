"""Is everything in place, and how long does a first plan take?

The cold times are taken in a process of their own, from the start of the import to the first plan (compilation
included) and to the second: they are what a user waits for in a new session.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
from typing import Any

from packaging.requirements import Requirement

from planahead.experiments.versions import qp_backends, versions

EXTRAS = ("report", "view", "torch", "sb3", "mujoco", "rotorpy", "bench")
"""Those that are no tools for work at planahead itself."""
COLD_START = """
import time
start = time.perf_counter()
import json, jax
from planahead import make_task, solve
imported = time.perf_counter()
task = make_task("cartpole")
plan = jax.jit(lambda problem, x: solve(problem, x))
x = task.planner_state(task.environment.observe(task.environment.reset(jax.random.key(0))))
first = jax.block_until_ready(plan(task.problem, x))
planned = time.perf_counter()
jax.block_until_ready(plan(task.problem, x))
again = time.perf_counter()
print(json.dumps({"import": imported - start, "first_plan": planned - imported, "second_plan": again - planned,
                  "total": planned - start, "status": int(first.status)}))
"""


def examine() -> dict[str, Any]:
    """Versions, machine, cold times [s], Gymnasium registration, QP backends, what extras lack; `problems`: what is
    wrong, in words.
    """
    found: dict[str, Any] = versions()
    problems = []
    found["cold_start"], error = cold_start()
    if error:
        problems.append(f"the cart-pole could not be planned in a fresh process: {error}")
    found["gymnasium"], errors = gymnasium_tasks()
    problems += errors
    found["qp_backends"] = qp_backends()
    found["extras"] = {extra: missing(extra) for extra in EXTRAS}
    found["problems"] = problems
    return found


def missing(extra: str, distribution: str = "planahead") -> list[str]:
    """What of an extra is not installed, or too old, that of other packages' extras included."""
    found = []
    for requirement in map(Requirement, importlib.metadata.requires(distribution) or ()):
        marker = requirement.marker
        if marker is None or not marker.evaluate({"extra": extra}) or marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found.append(requirement.name)
        else:
            if not requirement.specifier.contains(version, prereleases=True):
                found.append(f"{requirement.name}{requirement.specifier}")
            found += [name for inner in sorted(requirement.extras) for name in missing(inner, requirement.name)]
    return list(dict.fromkeys(found))


def cold_start() -> tuple[dict[str, float] | None, str | None]:
    """Seconds to import and plan in a fresh process, or why that failed."""
    # A persistent cache of compiled programs would hide what a first session costs.
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", COLD_START], capture_output=True, text=True, timeout=600, env=environment, check=False
    )
    if done.returncode != 0:
        return None, (done.stderr.strip().splitlines() or ["no message"])[-1]
    return json.loads(done.stdout.strip().splitlines()[-1]), None


def gymnasium_tasks() -> tuple[list[str], list[str]]:
    """The tasks that `gymnasium.make` can make, by the name it knows them by, and what is wrong with the others."""
    import gymnasium

    from planahead.tasks import task_names
    from planahead.tasks.names import gymnasium_name

    made, wrong = [], []
    for task in task_names():
        name = gymnasium_name(task)
        try:
            gymnasium.make(name).close()
            made.append(name)
        except gymnasium.error.Error as error:
            wrong.append(f"Gymnasium cannot make «{name}»: {error}")
    return made, wrong
