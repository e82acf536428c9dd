"""The page without a browser: its clock, its orders, what it says to mistakes, and what it leaves on a server."""

import pathlib
import socket
import sys
from typing import Any

import numpy as np
import pytest

import planahead as pa
from planahead.experiments.command import main
from planahead.experiments.errors import UserError
from planahead.viewer import Session
from planahead.viewer.canvas import Canvas
from planahead.viewer.live import PAUSE, PICTURES, Loop, close, open_server
from planahead.viewer.panel import Asked, Panel, headline
from planahead.viewer.scene import scene_for
from planahead.viewer.shapes import Ball, Line, Shape, Text

viser = pytest.importorskip("viser")


class Watched:
    """A loop with a clock that is turned by hand."""

    def __init__(self, name: str = "mass-spring-damper", **options: Any):
        task = pa.make_task(name, **options)
        self.session, self.asked = Session(task, seed=1), Asked()
        self.drawn: list[tuple[Shape, ...]] = []
        self.told: list[Any] = []
        scene = scene_for(task)
        self.loop = Loop(self.session, scene, self.asked, self.drawn.append, lambda *words: self.told.append(words))
        self.now = 0.0

    def run(self, seconds: float, tick: float = 0.01) -> None:
        for _ in range(round(seconds / tick)):
            self.now += tick
            self.loop.advance(self.now, tick)

    def block(self, picture: int) -> float:
        return float(next(s for s in self.drawn[picture] if s.name == "block").position[0])  # pyright: ignore


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_the_plant_runs_in_real_time_and_pictures_come_thirty_times_a_second(watched: Watched):
    watched.run(2.0)
    assert abs(watched.loop.steps - 20) <= 1 and abs(len(watched.drawn) - 2 * PICTURES) <= 2
    _, rate, pace = watched.told[-1]
    assert rate == pytest.approx(PICTURES, rel=0.1) and pace == pytest.approx(1.0, rel=0.2)


def test_a_plant_that_steps_faster_than_pictures_are_drawn_keeps_real_time():
    """Race's steps take 20 ms; the loop is called when it asks to be."""
    watched = Watched("race-horizontal")
    elapsed = 0.0
    while watched.now < 1.0:
        elapsed = max(watched.loop.advance(watched.now, elapsed) - watched.now, 0.001)
        watched.now += elapsed
    assert watched.loop.steps == pytest.approx(50, abs=2) and len(watched.drawn) == pytest.approx(PICTURES, abs=2)


def test_pictures_between_two_steps_move_evenly(watched: Watched):
    watched.run(1.0)
    places = np.array([watched.block(n) for n in range(len(watched.drawn))])
    assert np.count_nonzero(np.diff(places)) > 2 * watched.loop.steps  # more pictures than steps, all different


def test_late_calls_drop_pictures_and_backlog(watched: Watched):
    watched.run(3.0, tick=0.25)  # as if every solve took 0.25 s, for steps of 0.1 s
    assert watched.loop.steps == len(watched.drawn) == 12
    assert watched.told[-1][2] == pytest.approx(0.4, rel=0.1)


def test_pause_stops_the_plant_and_a_step_is_one_step(watched: Watched):
    watched.asked.paused = True
    watched.run(0.5)
    assert watched.loop.steps == 0 and watched.session.frame.time == 0
    watched.asked.orders.put(Session.step)
    watched.run(0.05)
    assert watched.session.frame.time == pytest.approx(0.1)
    assert watched.block(-1) == pytest.approx(float(watched.session.frame.state.x[0]))


def test_half_the_speed_is_half_the_steps(watched: Watched):
    watched.asked.speed = 0.5
    watched.run(2.0)
    assert abs(watched.loop.steps - 10) <= 1


def test_an_episode_that_ended_is_held_for_a_moment_and_for_good_where_that_is_asked():
    watched = Watched()
    watched.run(5.0 + 0.5 * PAUSE)
    assert watched.session.frame.truncated
    watched.run(PAUSE)
    assert watched.session.frame.episode == 2
    watched.asked.restart = False
    watched.run(8.0)
    assert watched.session.frame.episode == 2 and watched.session.frame.truncated


def test_a_port_in_use_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"cannot open a page at 127.0.0.1:{port}: .* choose another one with --port"
        ):
            open_server("127.0.0.1", port, "a page")


def test_without_viser_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(UserError, match=r"needs viser, which is not installed: pip install 'planahead\[view\]'"):
        open_server("127.0.0.1", 0, "a page")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("carpole",), "«carpole» is neither a task nor the folder of a run; the tasks are «cartpole», «chain»"),
        (("no_such_module:Task",), "there is no module 'no_such_module' in this folder or among what is installed"),
        (("cartpole", "--record", "film.mp4"), "--record film.mp4: a page is written, so the name should end in .html"),
        (("cartpole", "--seconds", "0"), "--seconds is 0; a number above 0 was expected"),
        (("cartpole", "--task-options", "gust=1"), "has no option 'gust'"),
        (("cartpole", "--record", "nowhere/film.html"), "the folder «nowhere» does not exist"),
    ],
)
def test_mistakes_on_the_command_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str):
    assert main(("view", *arguments)) == 2
    captured = capsys.readouterr()
    assert message in " ".join(captured.err.split()) and "Traceback" not in captured.err


def test_a_thing_on_the_page_is_made_once_and_moved():
    server = open_server("127.0.0.1", 0, "a page")
    try:
        canvas = Canvas(server)
        words = Text("words", "one", (0, 0, 0))
        canvas.draw([Ball("ball", 0.1, (0, 0, 0), "#0072B2"), words, Line("line", np.zeros((1, 3)), "#000000")])
        ball = canvas._handles["ball"]
        assert set(canvas._handles) == {"ball", "words"}  # one point is no line
        canvas.draw([Ball("ball", 0.2, (1, 0, 0), "#0072B2")])
        assert canvas._handles["ball"] is ball and ball.radius == 0.2 and tuple(ball.position) == (1, 0, 0)
        assert canvas._handles["words"].visible is False
        canvas.draw([words, Ball("ball", float("nan"), (np.nan, 0, 0), "#0072B2")])
        assert canvas._handles["words"].visible is True and ball.visible is False
    finally:
        close(server)


def test_sliders_and_buttons_of_a_panel_reach_the_session(watched: Watched):
    server = open_server("127.0.0.1", 0, "a page")
    try:
        panel = Panel(server, watched.session, scene_for(watched.session.task), "a page", watched.asked)
        handle, start = panel._sliders[0]
        assert (handle.label, start) == ("mass", 1.0)
        handle.value = 2.5
        for callback in handle._impl.update_cb:
            callback(None)
        watched.asked.paused = True
        watched.run(0.05)
        assert float(watched.session.world.mass) == 2.5  # pyright: ignore[reportAttributeAccessIssue]
        panel._turn_back()
        watched.run(0.05)
        assert float(watched.session.world.mass) == 1.0 and handle.value == 1.0  # pyright: ignore
        panel.tell(watched.session.frame, 30.0, 1.0)
        assert headline(watched.session.frame) in panel._words.content and "ms" in panel._words.content
    finally:
        close(server)


def test_a_recorded_page_is_whole(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "film.html"
    assert main(("view", "mass-spring-damper", "--record", str(path), "--seconds", "1")) == 0
    page = path.read_text()
    assert "<title>planahead: mass-spring-damper</title>" in page and "__VISER_EMBED_DATA__" in page
    assert 'src="http' not in page and "31 pictures" in capsys.readouterr().out


def test_a_task_of_ones_own_goes_by_its_module_and_class(tmp_path: pathlib.Path):
    path = tmp_path / "film.html"
    own = "planahead.tasks.mass_spring_damper:MassSpringDamperTask"
    assert main(("view", own, "--task-options", "matched=true", "--record", str(path), "--seconds", "0.1")) == 0
    assert "<title>planahead: mass-spring-damper</title>" in path.read_text()


def test_a_page_closes_after_its_time_and_says_what_it_did(capsys: pytest.CaptureFixture[str]):
    assert main(("view", "mass-spring-damper", "--port", "0", "--seconds", "0.5")) == 0
    words = capsys.readouterr().out
    assert "http://127.0.0.1:" in words and "Hz while planning" in words and "a solve took" in words
