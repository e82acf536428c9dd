"""Pictures of a plant, made with what the environment itself draws of one state (`Environment.draw`).

Matplotlib is imported when the first picture is made, and used without its global state: nothing here needs a display.
"""

import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from planahead.tasks.environment import Environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def film_strip(environment: Environment, states: Any, moments: int = 8) -> "Figure":
    """Pictures side by side, evenly spread over an episode, four in a row.

    **Arguments:**

    - `states`: the environment's states with a leading time axis `[T, ...]`, as `jax.lax.scan` stacks them.
    - `moments`: number of pictures, fewer if `T` is smaller.
    """
    from matplotlib.figure import Figure

    count = len(jax.tree.leaves(states)[0])
    steps = np.unique(np.linspace(0, count - 1, moments).round().astype(int))
    columns, rows = min(4, len(steps)), math.ceil(len(steps) / 4)
    figure = Figure(figsize=(2.6 * columns, 1.6 * rows), layout="constrained")
    for axes, step in zip(figure.subplots(rows, columns, squeeze=False).flat, steps, strict=False):
        environment.draw(axes, jax.tree.map(lambda leaf, step=step: leaf[step], states))
        axes.set_title(f"{step * environment.time_step:.2f} s", fontsize="small")
    for axes in figure.axes[len(steps) :]:
        axes.remove()
    return figure


def render(environment: Environment, state: Any, width: int = 480, height: int = 320) -> np.ndarray:
    """One state as an image, `uint8 [height, width, 3]`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dots_per_inch = 100
    figure = Figure(figsize=(width / dots_per_inch, height / dots_per_inch), dpi=dots_per_inch, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    environment.draw(figure.subplots(), state)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
