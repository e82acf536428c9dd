"""`planahead.view`: a task in motion, with what its planner sees ahead of it."""

import pathlib
from collections.abc import Callable
from typing import Any

from planahead.experiments.files import require_writable
from planahead.policies import Policy
from planahead.tasks import Task
from planahead.viewer.live import Summary, close, open_server, run
from planahead.viewer.pilot import pilot_of
from planahead.viewer.recording import record
from planahead.viewer.scene import Scene, scene_for
from planahead.viewer.session import Session

HOST, PORT = "127.0.0.1", 8080


def view(
    task: Task,
    policy: Policy | None = None,
    *,
    scene: Scene[Any] | None = None,
    seed: int = 0,
    host: str = HOST,
    port: int = PORT,
    seconds: float | None = None,
    opened: Callable[[str], None] = print,
) -> Summary:
    """Open a page on which `task` runs, until it is interrupted.

    **Arguments:**

    - `policy`: what acts; a planner unless given, see `pilot.py`.
    - `scene`: how it is drawn; what belongs to the task's world unless given, see `scene_of`.
    - `host`, `port`: where the page is served; port 0 takes any that is free.
    - `seconds`: after how long to close it.
    - `opened`: is told the page's address.

    **Raises:** `UserError` where viser is missing or the port is taken.
    """
    server = open_server(host, port, f"planahead: {task.name}")
    try:
        shown = scene_for(task) if scene is None else scene
        session = Session(task, pilot_of(task) if policy is None else policy, spans=shown.spans, seed=seed)
        opened(f"http://{host}:{server.get_port()}")
        return run(session, shown, server, task.name, seconds)
    finally:
        close(server)


def record_page(
    task: Task,
    path: pathlib.Path | str,
    policy: Policy | None = None,
    *,
    scene: Scene[Any] | None = None,
    seed: int = 0,
    seconds: float = 10.0,
) -> int:
    """Write `seconds` of `task` to the HTML file `path`, which plays in any browser; arguments and errors as `view`.

    **Returns:** how many pictures it has.
    """
    path = pathlib.Path(path)
    require_writable(path, "--record")  # before anything is compiled
    shown = scene_for(task) if scene is None else scene
    session = Session(task, pilot_of(task) if policy is None else policy, spans=shown.spans, seed=seed)
    return record(session, shown, path, f"planahead: {task.name}", seconds)
