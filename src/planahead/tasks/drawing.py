"""A picture of a plant, made with what the environment itself draws of one state (`Environment.draw`).

Matplotlib is imported when the first picture is made, and used without its global state: nothing here needs a display.
"""

from typing import Any

import numpy as np

from planahead.tasks.environment import Environment


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
