"""Success over what is changed in the world, a panel per change and a line per policy."""

import itertools
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from planahead.experiments.bench.figures import VARIANTS, legend_below
from planahead.experiments.bench.robustness import Flights
from planahead.experiments.style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE

COLOURS = {"ac-mlp (stage)": BLUE, "ac-mpc (stage)": ORANGE, "tracking": GREY, "contouring": GREEN, "l1": PURPLE}


def robustness_figure(rows: Sequence[Flights]) -> Figure:
    """Shares of episodes that succeed, and their intervals as `Flights` has them; dashed where there are no seeds."""
    sweeps = list(dict.fromkeys(row.condition.sweep for row in rows))
    groups = list(dict.fromkeys(row.group for row in rows))
    taken = {COLOURS[group] for group in groups if group in COLOURS}
    rest = itertools.cycle(colour for colour in VARIANTS if colour not in taken)
    colours = {group: COLOURS.get(group) or next(rest) for group in groups}
    with rc_context(STYLE):
        figure = Figure(figsize=(9.5, 5.6), layout="constrained")
        panels = figure.subplots(2, -(-len(sweeps) // 2), squeeze=False, sharey=True).ravel()
        for axes, sweep in zip(panels, sweeps, strict=False):
            for group in groups:
                line = [row for row in rows if row.group == group and row.condition.sweep == sweep]
                values = [row.condition.value for row in line]
                ends = [row.interval for row in line]
                axes.plot(
                    values,
                    [100 * row.share for row in line],
                    "-" if any(len(row.shares) > 1 for row in rows if row.group == group) else "--",
                    marker="o",
                    markersize=4,
                    color=colours[group],
                    label=group,
                )
                low, high = [100 * end.low for end in ends], [100 * end.high for end in ends]
                axes.fill_between(values, low, high, color=colours[group], alpha=0.15, linewidth=0)
            axes.set(title=sweep.partition(" [")[0], xlabel=sweep, ylim=(-4, 104))
        for axes in panels[len(sweeps) :]:
            axes.set_visible(False)
        for axes in panels[:: len(panels) // 2]:
            axes.set_ylabel("episodes that succeed [%]")
        legend_below(figure, panels[0])
    return figure
