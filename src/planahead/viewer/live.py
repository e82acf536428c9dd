r"""The live page: the plant in real time, drawn thirty times a second whatever it takes to plan.

    progress ← progress + speed · elapsed / time step;    at 1 the plant steps;    a picture shows blend(before, after)

A picture therefore shows the plant a step late, and moves evenly. Where a step takes longer than the time that it
simulates, the rest is dropped and the page says how much slower than real time it is. Pictures are drawn at most
`PICTURES` times a second; one that is late is left out, never queued.
"""

import contextlib
import dataclasses
import io
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from planahead.experiments.errors import UserError
from planahead.viewer.blend import blend
from planahead.viewer.canvas import Canvas
from planahead.viewer.panel import Asked, Panel
from planahead.viewer.scene import Scene
from planahead.viewer.session import Session
from planahead.viewer.shapes import Shape

if TYPE_CHECKING:
    from viser import ViserServer

PICTURES = 30.0  # Hz
WORDS = 5.0  # Hz, of the panel
PAUSE = 1.0  # s, at the end of an episode
_BRAND = (0, 114, 178)


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a page did, when it is closed."""

    seconds: float
    pictures: int
    steps: int
    solve_seconds: tuple[float, ...]
    """Of every step."""
    simulated: float
    """s of the plant, while it was not paused."""

    @property
    def rate(self) -> float:
        """Pictures per second."""
        return self.pictures / self.seconds if self.seconds > 0 else 0.0

    def sentence(self) -> str:
        solves = 1e3 * np.array(self.solve_seconds or (np.nan,))
        return (
            f"{self.pictures} pictures in {self.seconds:.1f} s: {self.rate:.1f} Hz while planning {self.steps} times; "
            f"a solve took {np.median(solves):.1f} ms (median), {np.max(solves):.1f} ms at most; "
            f"the plant went {self.simulated:.1f} s"
        )


class Loop:
    """The clock of a page: when the plant steps and when a picture is due. Draws with `draw`, words with `tell`.

    **Arguments:**

    - `session`, `scene`: what runs and how it looks.
    - `asked`: what buttons and sliders want.
    - `draw`: is given all shapes of a picture.
    - `tell`: is given the frame, pictures per second, and how many seconds of the plant pass in one.
    """

    def __init__(
        self,
        session: Session,
        scene: Scene[Any],
        asked: Asked,
        draw: Callable[[tuple[Shape, ...]], None],
        tell: Callable[[Any, float, float], None],
    ):
        self.session, self.scene, self.asked = session, scene, asked
        self._draw, self._tell = draw, tell
        self._world: Any = None
        self._around: tuple[Shape, ...] = ()
        self._before = self._after = self._shapes()
        self._progress, self._held = 1.0, 0.0
        self._next_picture = self._next_words = 0.0
        self._pictures: deque[float] = deque(maxlen=60)
        self._pace: deque[tuple[float, float]] = deque(maxlen=60)
        self.pictures = self.steps = 0
        self.simulated = 0.0
        self.solves: list[float] = []

    def advance(self, now: float, elapsed: float) -> float:
        """All that is due at `now` [s], `elapsed` after the last call; **returns** when to call again."""
        while not self.asked.orders.empty():
            time_before = self.session.frame.time
            self.asked.orders.get()(self.session)
            self._before = self._after = self._shapes()
            if self.session.frame.time != time_before:
                self._progress = 1.0
        if not self.asked.paused:
            self._run(elapsed)
        if now >= self._next_picture:
            self._next_picture = max(self._next_picture + 1 / PICTURES, now)
            self._picture(now)
        if now >= self._next_words:
            self._next_words = now + 1 / WORDS
            self._tell(self.session.frame, self._rate(), self._speed())
        left = max(1.0 - self._progress, 0.0) * self.session.world.time_step / self.asked.speed
        return self._next_picture if self.asked.paused else min(self._next_picture, now + left)

    def _run(self, elapsed: float) -> None:
        step = self.session.world.time_step
        self._progress += self.asked.speed * elapsed / step
        self._pace.append((elapsed, 0.0))
        if self._progress < 1.0:
            return
        if self.session.frame.ended:
            self._progress, self._held = 1.0, self._held + elapsed
            if self._held < PAUSE or not self.asked.restart:
                return
        self._held = 0.0
        frame = self.session.step()
        self._before, self._after = self._after, self._shapes()
        if frame.fresh:
            self._before = self._after
        self._progress = min(self._progress - 1.0, 1.0)  # what is further behind is dropped
        self.steps, self.simulated = self.steps + 1, self.simulated + step
        self.solves.append(frame.solve_seconds)
        self._pace.append((0.0, step))

    def _picture(self, now: float) -> None:
        share = min(max(self._progress, 0.0), 1.0)
        self._draw((*self._around, *blend(self._before, self._after, share)))
        self.pictures += 1
        self._pictures.append(now)

    def _shapes(self) -> tuple[Shape, ...]:
        if self._world is not self.session.world:
            self._world = self.session.world
            self._around = self.scene.surroundings(self._world)
        return self.scene.shapes(self._world, self.session.frame)

    def _rate(self) -> float:
        span = self._pictures[-1] - self._pictures[0] if len(self._pictures) > 1 else 0.0
        return (len(self._pictures) - 1) / span if span > 0 else 0.0

    def _speed(self) -> float:
        real, simulated = (sum(part) for part in zip(*self._pace, strict=True)) if self._pace else (0.0, 0.0)
        return simulated / real if real > 0 else 0.0


def open_server(host: str, port: int, title: str) -> "ViserServer":
    """A viser server. **Raises** `UserError` where viser is missing or the port is taken."""
    try:
        import viser
    except ModuleNotFoundError as error:
        raise UserError("the viewer needs viser, which is not installed: pip install 'planahead[view]'") from error
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"cannot open a page at {host}:{port}: {error.strerror or error}. Close what uses the port, or choose "
                "another one with --port; --port 0 takes any that is free."
            ) from error
    with _quiet():
        server = viser.ViserServer(host, port, label=title, verbose=False)
    server.gui.configure_theme(show_logo=False, show_share_button=False, brand_color=_BRAND, control_width="large")
    server.gui.main_panel.dock_right()
    server.scene.set_up_direction("+z")
    server.scene.configure_default_lights(True, cast_shadow=True)
    return server


def close(server: "ViserServer") -> None:
    """Stop serving."""
    with _quiet():
        server.stop()


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """Without viser's own messages about where it serves and that it stopped."""
    return contextlib.redirect_stdout(io.StringIO())


def look(server: "ViserServer", scene: Scene[Any]) -> None:
    """Where pages opened from now on look from."""
    camera = server.initial_camera
    camera.position, camera.look_at, camera.fov = scene.camera.position, scene.camera.look_at, np.radians(50.0)


def run(
    session: Session, scene: Scene[Any], server: "ViserServer", title: str, seconds: float | None = None
) -> Summary:
    """Serve the page until it is interrupted, or for so many `seconds`."""
    asked = Asked()
    look(server, scene)
    canvas, panel = Canvas(server), Panel(server, session, scene, title, asked)
    loop = Loop(session, scene, asked, canvas.draw, panel.tell)
    begin = last = time.perf_counter()
    focus = scene.focus(session.world, session.frame)
    try:
        while seconds is None or last - begin < seconds:
            now = time.perf_counter()
            due = loop.advance(now, now - last)
            last = now
            focus = _follow(server, scene, session, asked, focus)
            # A little at least: viser's own thread needs the interpreter too.
            time.sleep(max(0.001, min(due - time.perf_counter(), 1 / PICTURES)))
    except KeyboardInterrupt:
        pass
    return Summary(time.perf_counter() - begin, loop.pictures, loop.steps, tuple(loop.solves), loop.simulated)


def _follow(server: "ViserServer", scene: Scene[Any], session: Session, asked: Asked, before: np.ndarray) -> np.ndarray:
    """Move cameras as far as the plant moved, smoothed over a few pictures."""
    goal = scene.focus(session.world, session.frame)
    if not asked.follow:
        return goal
    focus = before + 0.2 * (goal - before)
    if np.abs(focus - before).max() > 1e-4:
        for client in server.get_clients().values():
            client.camera.position = np.asarray(client.camera.position) + focus - before  # and what it looks at
    return focus
