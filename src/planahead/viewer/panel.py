"""The panel beside the picture: what the planner is doing in words, buttons, and the sliders.

Buttons and sliders are turned in viser's threads; what they ask for is put on a queue, and whoever runs the loop takes
it from there between two steps.
"""

import dataclasses
import math
import queue
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from planahead.qp import Status
from planahead.viewer.scene import Scene
from planahead.viewer.session import Frame, Session
from planahead.viewer.sliders import Slider

if TYPE_CHECKING:
    from viser import ViserServer

SPEEDS = ("0.1×", "0.25×", "0.5×", "1×", "2×")


@dataclasses.dataclass
class Asked:
    """What was asked for and is to be done by the loop."""

    paused: bool = False
    follow: bool = False
    restart: bool = True
    """Whether an episode that ended is followed by another."""
    speed: float = 1.0
    orders: "queue.SimpleQueue[Callable[[Session], Any]]" = dataclasses.field(default_factory=queue.SimpleQueue)
    """What is to be done to the session, in order."""


class Panel:
    """Words, buttons and sliders on a server."""

    def __init__(self, server: "ViserServer", session: Session, scene: Scene[Any], title: str, asked: Asked):
        self._gui, self._asked, self._session = server.gui, asked, session
        self._sliders: list[Any] = []
        self._gui.set_panel_label(title)
        self._words = self._gui.add_markdown("")
        self._buttons(scene)
        groups = session.sliders
        headings = (
            ("World", groups.world),
            ("What the planner wants", groups.aims),
            ("What it believes", groups.beliefs),
        )
        for number, (heading, sliders) in enumerate(headings):
            if sliders:
                with self._gui.add_folder(heading, expand_by_default=number < 2 and len(sliders) <= 9):
                    for slider in sliders:
                        self._slider(slider)

    def _buttons(self, scene: Scene[Any]) -> None:
        gui, asked = self._gui, self._asked
        run = gui.add_button_group("", ("pause", "step", "reset"))
        run.on_click(lambda event: self._run(event.target.value))
        if scene.pokes:
            pokes = gui.add_button_group("poke", tuple(poke.label for poke in scene.pokes))
            by_label = {poke.label: poke for poke in scene.pokes}
            pokes.on_click(
                lambda event: asked.orders.put(lambda session, poke=by_label[event.target.value]: session.poke(poke))
            )
        speed = gui.add_button_group("speed", SPEEDS)
        speed.on_click(lambda event: setattr(asked, "speed", float(event.target.value.removesuffix("×"))))
        follow = gui.add_checkbox("follow", asked.follow, hint="the camera goes with the plant")
        follow.on_update(lambda event: setattr(asked, "follow", event.target.value))
        restart = gui.add_checkbox("start again when an episode ends", asked.restart)
        restart.on_update(lambda event: setattr(asked, "restart", event.target.value))
        back = gui.add_button("all sliders back")
        back.on_click(lambda _: self._turn_back())

    def _run(self, word: str) -> None:
        if word == "pause":
            self._asked.paused = not self._asked.paused
            return
        if word == "step":
            self._asked.paused = True
        self._asked.orders.put(Session.step if word == "step" else Session.reset)

    def _slider(self, slider: Slider) -> None:
        """One that spans decades is turned by its decimal logarithm."""
        low, high, step, start = scale_of(slider)
        handle = self._gui.add_slider(slider.label + (", log₁₀" if slider.decades else ""), low, high, step, start)

        def turned(_: Any) -> None:
            place = float(handle.value)
            # Where the slider was at first is the number that it stands for, which need not be a round one.
            number = 10.0**place if slider.decades else place
            value = slider.start if place == start else min(max(number, slider.low), slider.high)
            self._asked.orders.put(lambda session: (session.turn(slider, value), session.replan()))

        handle.on_update(turned)
        self._sliders.append((handle, start))

    def _turn_back(self) -> None:
        for handle, start in self._sliders:
            handle.value = start
        self._asked.orders.put(lambda session: (session.turn_back(), session.replan()))

    def tell(self, frame: Frame, rate: float, pace: float) -> None:
        """Words about a frame; `rate` is pictures per second, `pace` seconds of the plant per second."""
        state = "paused" if self._asked.paused else f"{pace:.2g}× real time"
        self._words.content = "\n".join(
            [
                f"**{headline(frame)}**",
                "",
                "| | |",
                "|:--|:--|",
                f"| time | {frame.time:.2f} s, episode {frame.episode} |",
                f"| solve | {solve_words(frame)} |",
                *([f"| plan's cost | {frame.cost:.4g} |"] if frame.status is not None else []),
                f"| return | {frame.total_reward:.2f} |",
                f"| drawn | {rate:.0f} Hz, {state} |",
            ]
        )


def scale_of(slider: Slider) -> tuple[float, float, float, float]:
    """Low end, high end, step and start of a slider on the page, with few digits.

    >>> scale_of(Slider("angle", ("angle",), -6.2832, 6.2832, 0.0))
    (-6.3, 6.3, 0.1, 0.0)
    >>> scale_of(Slider("weight", ("weight",), 0.01, 100.0, 8.0, decades=True))
    (-2.0, 2.0, 0.01, 0.9)
    """
    ends = (slider.low, slider.start, slider.high)
    low, start, high = (math.log10(end) for end in ends) if slider.decades else ends
    digits = 2 - math.floor(math.log10(high - low))
    low, start, high = (round(end, digits) for end in (low, start, high))
    return low, high, round(10.0**-digits, max(digits, 0)), min(max(start, low), high)


def headline(frame: Frame) -> str:
    """How it is going, in a few words.

    >>> import planahead as pa
    >>> headline(Session(pa.make_task("mass-spring-damper")).frame)
    'plan solved'
    """
    words = []
    if frame.terminated or frame.truncated:
        words.append("episode over" if frame.terminated else "time is up")
    if frame.success:
        words.append("success")
    if frame.violation:
        words.append("violation")
    if frame.corrected:
        words.append("corrected by the safety filter")
    if frame.failed:
        words.append("solve failed")
    if frame.status is not None and not frame.failed:
        fine = frame.status is Status.SOLVED
        words.append("plan solved" if fine else f"plan: {frame.status.name.lower().replace('_', ' ')}")
    return ", ".join(words) if words else "acting without a plan"


def solve_words(frame: Frame) -> str:
    """How long the decision took."""
    took = f"{1e3 * frame.solve_seconds:.1f} ms"
    if frame.status is None:
        return took
    return f"{took}, {frame.iterations} iteration{'s' if frame.iterations != 1 else ''}"
