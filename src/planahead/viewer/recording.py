"""A page that plays by itself: some seconds of a session in one HTML file, for reports and mails.

The file holds viser's client and everything that was drawn, so it opens in any browser without a server. A recorded
page can be turned, zoomed and paused; there are no sliders in it, since nobody is there to plan.
"""

import html
import pathlib
from typing import Any

from planahead.experiments.files import write_text
from planahead.viewer.blend import blend
from planahead.viewer.canvas import Canvas
from planahead.viewer.live import PICTURES, close, look, open_server
from planahead.viewer.panel import headline, solve_words
from planahead.viewer.scene import Scene
from planahead.viewer.session import Frame, Session
from planahead.viewer.shapes import Text


def record(session: Session, scene: Scene[Any], path: pathlib.Path, title: str, seconds: float) -> int:
    """Write `seconds` of the session, in its own time, to `path`; **returns** how many pictures it has.

    **Raises:** `UserError` where the file cannot be written or viser is missing.
    """
    server = open_server("127.0.0.1", 0, title)
    try:
        look(server, scene)
        canvas, world = Canvas(server), session.world
        around = scene.surroundings(world)
        before = scene.shapes(world, session.frame)
        canvas.draw((*around, *before, _caption(scene, session.frame)))
        film = server.get_scene_serializer()
        step, pictures = world.time_step, 1
        between = max(1, round(PICTURES * step))
        for _ in range(max(1, round(seconds / step))):
            frame = session.step()
            after = scene.shapes(world, frame)
            before = after if frame.fresh else before
            for number in range(1, between + 1):
                canvas.draw((*around, *blend(before, after, number / between), _caption(scene, frame)))
                film.insert_sleep(step / between)
                pictures += 1
            before = after
        page = film.as_html()
    finally:
        close(server)
    write_text(path, page.replace("<title>Viser</title>", f"<title>{html.escape(title)}</title>"))
    return pictures


def _caption(scene: Scene[Any], frame: Frame) -> Text:
    return Text("caption", f"{frame.time:5.2f} s   {headline(frame)}   {solve_words(frame)}", scene.caption)
