"""The page in a real browser: it opens, something moves, buttons and sliders act, and a recording plays by itself.

Screenshots go to `tests/viewer/screenshots/` (ignored by git), or where `PLANAHEAD_SCREENSHOTS` says, to be looked at.
"""

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from planahead.experiments.command import main
from tests.viewer.browser import Tab, browser, chromium

pytest.importorskip("viser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="no Chromium on PATH; on Debian: apt-get install chromium"),
]

PANEL = 890  # pixels, where the panel begins
TASKS = {"cartpole": 0.3, "windmaze-hard": 3.0, "obstacles": 0.8, "race-split-s": 1.5}
"""Until when to wait for a picture, s after a reset."""
FRAMES = (
    "new Promise(done => { let n = 0; const start = performance.now(); const count = () => { n += 1;"
    "performance.now() - start > 3000 ? done(n / 3) : requestAnimationFrame(count); }; requestAnimationFrame(count); })"
)


@pytest.fixture(scope="module")
def pictures() -> pathlib.Path:
    folder = pathlib.Path(os.environ.get("PLANAHEAD_SCREENSHOTS", pathlib.Path(__file__).parent / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def served(task: str) -> Iterator[str]:
    """`planahead view` of a task in a process of its own; its address."""
    arguments = [sys.executable, "-m", "planahead.experiments.command", "view", task, "--port", "0", "--seconds", "300"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = next((found[0] for line in process.stdout if (found := re.findall(r"http://\S+", line))), None)
            assert address is not None, "the page was not opened"
            yield address
        finally:
            process.terminate()


def open_page(tab: Tab, address: str) -> None:
    tab.open(address)
    tab.wait_for("document.querySelector('canvas') !== null && document.body.innerText.includes('real time')", 90)
    dismiss(tab)


def dismiss(tab: Tab) -> None:
    """The note that WebGL is rendered in software, which may come late."""
    for _ in range(4):
        time.sleep(0.5)
        tab.value("document.querySelector('.mantine-Notification-closeButton')?.click()")
    time.sleep(0.5)


def drawn(tab: Tab) -> np.ndarray:
    """The picture beside the panel, [height, width, 3]."""
    return np.asarray(Image.open(io.BytesIO(tab.picture())).convert("RGB"))[:, :PANEL].astype(int)


def seconds_shown(tab: Tab) -> float:
    (found, *_) = re.findall(r"time\s+([\d.]+) s", tab.text())
    return float(found)


def waits_until(tab: Tab, seconds: float) -> None:
    """Until the page shows so much time of an episode."""
    end = time.monotonic() + 150
    while not seconds <= seconds_shown(tab) < seconds + 2.0:
        assert time.monotonic() < end, f"the page did not come to {seconds} s"
        time.sleep(0.05)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_moves_on_its_page(task: str, pictures: pathlib.Path):
    with served(task) as address, browser() as tab:
        open_page(tab, address)
        tab.click_on("0.25×")  # on a busy machine a click takes a second, in which a pole would come up
        tab.click_on("reset")
        waits_until(tab, TASKS[task])
        tab.click_on("pause")
        tab.wait_for("document.body.innerText.includes('paused')")
        time.sleep(1.0)
        before = drawn(tab)
        tab.picture(pictures / f"{task}.png")
        assert "ms" in tab.text() and "iteration" in tab.text()
        assert len(np.unique(before.reshape(-1, 3), axis=0)) > 100  # not blank
        orange = (before[..., 0] > 180) & (before[..., 1] > 110) & (before[..., 2] < 90)
        assert orange.sum() > 20, "no plan is seen ahead of the plant"

        shown = seconds_shown(tab)
        time.sleep(1.0)
        assert seconds_shown(tab) == shown  # paused
        tab.click_on("step")
        tab.wait_for(f"!document.body.innerText.includes({f'{shown:.2f} s,'!r})")
        time.sleep(1.0)
        assert np.abs(drawn(tab) - before).max(axis=2).astype(bool).mean() > 1e-4  # something moved
        tab.click_on("pause")
        time.sleep(1.0)
        print(f"{task}: the browser draws {tab.value(FRAMES):.0f} times a second, in software")
        (rate, *_) = re.findall(r"drawn\s+(\d+) Hz", tab.text())
        assert int(rate) > 0


def write(tab: Tab, label: str, number: str) -> None:
    """Type a number into the field beside the slider of this label."""
    place = tab.value(
        "(() => { const words = [...document.querySelectorAll('label')].find(node => node.innerText.trim() === "
        f"{label!r}); let row = words; while (row && !row.querySelector('input[type=text]')) row = row.parentElement;"
        "if (!row) return null; const field = row.querySelector('input[type=text]');"
        "field.scrollIntoView({block: 'center'}); field.focus(); field.select(); return field.value; })()"
    )
    assert place is not None, f"no slider is called «{label}»"
    tab.ask("Input.insertText", text=number)
    for kind in ("keyDown", "keyUp"):
        tab.ask("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13)


def cost_shown(tab: Tab) -> str:
    (found, *_) = re.findall(r"plan's cost\s+(\S+)", tab.text())
    return found


def test_a_poke_and_a_slider_act():
    success = "document.body.innerText.includes('success')"
    with served("cartpole") as address, browser() as tab:
        open_page(tab, address)
        tab.click_on("reset")
        tab.wait_for(success, 90)
        tab.click_on("pause")
        tab.wait_for("document.body.innerText.includes('paused')")
        time.sleep(1.0)
        tab.click_on("pole →")
        tab.click_on("step")
        tab.wait_for(f"!{success}")  # the pole stands no more
        time.sleep(1.0)
        cost = cost_shown(tab)
        write(tab, "angle reference", "0.6")
        tab.wait_for(f"!document.body.innerText.includes({cost!r})")  # planned anew, though paused
        tab.click_on("all sliders back")
        tab.wait_for(f"document.body.innerText.includes({cost!r})")


def test_a_recording_plays_without_a_server(tmp_path: pathlib.Path, pictures: pathlib.Path):
    path = tmp_path / "film.html"
    assert main(("view", "obstacles", "--record", str(path), "--seconds", "4")) == 0
    with browser() as tab:
        tab.open(path.as_uri())
        tab.wait_for("document.querySelector('canvas') !== null")
        dismiss(tab)
        time.sleep(1.0)
        first = drawn(tab)
        time.sleep(1.3)
        second = drawn(tab)
        tab.picture(pictures / "recording.png")
        assert tab.value("performance.getEntriesByType('resource').filter(r => r.name.startsWith('http')).length") == 0
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 100
    assert np.abs(second - first).max(axis=2).astype(bool).mean() > 1e-4


def test_a_run_is_watched_and_its_report_read(tmp_path: pathlib.Path, pictures: pathlib.Path):
    run = tmp_path / "run"
    settings = ("--steps", "1000", "--validate-every", "500", "--validation-episodes", "3", "--episodes", "5")
    assert main(("train", "sac-zop", "mass-spring-damper", *settings, "--run", str(run))) == 0
    with browser(height=1400) as tab:
        tab.open((run / "report.html").as_uri())
        tab.wait_for("document.readyState === 'complete'")
        page = np.asarray(Image.open(io.BytesIO(tab.picture(pictures / "report.png"))).convert("RGB")).astype(int)
        assert "sac-zop" in tab.text() and len(np.unique(page.reshape(-1, 3), axis=0)) > 100
    with served(str(run)) as address, browser() as tab:
        open_page(tab, address)
        assert "mass-spring-damper" in tab.text().splitlines() and "iteration" in tab.text()
        tab.picture(pictures / "run.png")
