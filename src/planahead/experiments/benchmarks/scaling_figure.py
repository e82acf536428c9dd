"""The picture of `bench scaling`: time over batch, horizon and states, and where one problem at a time catches up."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from planahead.experiments.benchmarks.scaling import MIDDLE, OURS, PEER, along
from planahead.experiments.benchmarks.timing import Row
from planahead.experiments.style import BLUE, GREY, ORANGE, STYLE

AXES = ("batch", "horizon", "states")


def scaling_figure(rows: Sequence[Row]) -> Figure:
    """A panel per axis, both scales logarithmic; dashed, what grows linearly from where the fit begins."""
    with rc_context(STYLE):
        figure = Figure(figsize=(10.5, 3.6), layout="constrained")
        for axes, axis in zip(figure.subplots(1, 3), AXES, strict=True):
            _panel(axes, rows, axis)
    return figure


def _panel(axes: Axes, rows: Sequence[Row], axis: str) -> None:
    ours, peer = along(rows, axis, OURS), along(rows, axis, PEER.name)
    axes.plot(ours.sizes, ours.times, "o-", color=BLUE, markersize=4, label=OURS)
    if axis == "states":
        axes.plot(peer.sizes, peer.times, "s-", color=ORANGE, markersize=4, label=f"{PEER.name}, one by one")
    else:
        half = len(ours.sizes) // 2
        linear = ours.times[half] * ours.sizes / ours.sizes[half]
        axes.plot(ours.sizes, linear, "--", color=GREY, linewidth=1.1, label="linear")
        words = ours.growth(axis).replace(", ", "\n")
        axes.text(0.97, 0.04, words, transform=axes.transAxes, ha="right", va="bottom", fontsize=8.5)
    others = ", ".join(f"{name} {size}" for name, size in zip(AXES, MIDDLE, strict=True) if name != axis)
    axes.set(title=f"{axis.capitalize()} ({others})", xlabel=axis, ylabel="ms for the batch")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(ours.sizes, [f"{int(size)}" for size in ours.sizes], rotation=30 if np.max(ours.sizes) > 999 else 0)
    axes.minorticks_off()
    axes.legend(loc="upper left")
