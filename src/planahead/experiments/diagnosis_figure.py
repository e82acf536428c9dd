"""The picture of a diagnosis: how well the plan answers, what it can reach, and how much of the action box that is."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from planahead.experiments.diagnosis import Diagnosis
from planahead.experiments.style import BLUE, GREY, ORANGE, RED, STYLE
from planahead.policies.sensitivity import VANISHING

LOWEST = -7  # exponent below which a singular value is drawn as zero
SHOWN = 60  # states in the middle panel: more would merge


def diagnosis_figure(found: Diagnosis, title: str, action_names: Sequence[str], whose: str) -> Figure:
    """σ_min at the policy's φ and over the box; the first actions within reach; their share of the action box.

    `whose` says in a legend whose parameters and actions these are: "the policy's".
    """
    names = [f"{name.partition(' [')[0]}, share of its bound" for name in action_names]
    with rc_context(STYLE):
        figure = Figure(figsize=(11.5, 4.0), layout="constrained")
        singular, reachable, shares = figure.subplots(1, 3, width_ratios=(1.15, 1.3, 0.9))
        _singular_values(singular, found, whose)
        if found.actions.shape[1] == 1:
            _intervals(reachable, found, names[0], whose)
        else:
            _clouds(reachable, found, names, whose)
        shares.hist(100 * found.reach, bins=np.linspace(0, 100, 21).tolist(), color=BLUE, alpha=0.85)
        median = 100 * float(np.median(found.reach))
        shares.axvline(median, color=ORANGE, label=f"median {median:.0f} %")
        shares.set(title="Share of the action box in reach", xlabel="reach [%]", ylabel="states", xlim=(0, 100))
        shares.legend()
        figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)
    return figure


def _singular_values(axes: Axes, found: Diagnosis, whose: str) -> None:
    bins = np.linspace(LOWEST - 0.5, 1, 31)
    sets = (
        ("over the parameter box", found.box_smallest[~found.box_failed], GREY),
        (f"at {whose} parameters", found.smallest[found.usable], BLUE),
    )
    for label, values, colour in sets:
        exponents = np.clip(np.log10(np.maximum(values, 10.0 ** (LOWEST - 0.25))), bins[0], bins[-1])
        weights = np.full(len(exponents), 100 / max(1, len(exponents)))
        axes.hist(exponents, bins=bins.tolist(), weights=weights, color=colour, alpha=0.6, label=label)
    axes.axvspan(bins[0], np.log10(VANISHING), color=RED, alpha=0.08, linewidth=0)
    axes.text(
        0.03, 0.8, "blind", transform=axes.transAxes, color=RED, ha="left", va="top", fontsize=9.5, fontweight="bold"
    )
    ticks = [LOWEST - 0.25, -5, -3, -1, 1]
    axes.set_xticks(ticks, ["0", *(f"$10^{{{tick}}}$" for tick in (-5, -3, -1, 1))])
    axes.set(title="Smallest singular value of ∂u₀/∂φ", xlabel="in units of both boxes", ylabel="plans [%]")
    axes.set_ylim(top=1.35 * axes.get_ylim()[1])
    axes.legend(loc="upper left")


def _intervals(axes: Axes, found: Diagnosis, name: str, whose: str) -> None:
    """One control: what is within reach from every state is an interval; states are ordered by the policy's action."""
    chosen = np.flatnonzero(found.usable)[:SHOWN]
    order = chosen[np.argsort(found.actions[chosen, 0], kind="stable")]
    masked = np.where(found.box_failed[order], np.nan, found.box_actions[order, :, 0])
    rows = np.arange(len(order))
    kept = ~np.isnan(masked).all(axis=1)
    axes.vlines(
        rows[kept],
        np.nanmin(masked[kept], axis=1),
        np.nanmax(masked[kept], axis=1),
        color=BLUE,
        alpha=0.45,
        linewidth=2.6,
        label="within reach",
    )
    spurious, blind = found.spurious[order], found.blind[order] & ~found.spurious[order]
    for mask, colour, marker, label in (
        (~spurious & ~blind, ORANGE, "o", whose),
        (blind, GREY, "s", "blind"),
        (spurious, RED, "X", "spurious stationary point"),
    ):
        if mask.any():
            axes.plot(rows[mask], found.actions[order][mask, 0], marker, color=colour, markersize=4.5, label=label)
    for end in (-1, 1):
        axes.axhline(end, color=GREY, linewidth=0.9, linestyle="--", zorder=1)
    axes.set(title="First actions", xlabel="visited states, by action", ylabel=name, ylim=(-1.12, 1.5))
    axes.set_yticks([-1, -0.5, 0, 0.5, 1])
    axes.set_xticks([])
    axes.legend(loc="upper left", ncols=2, columnspacing=1.0, handletextpad=0.4)


def _clouds(axes: Axes, found: Diagnosis, names: Sequence[str], whose: str) -> None:
    """Several controls: the first two of every action that was reached, and the policy's own."""
    reached = found.box_actions[~found.box_failed]
    axes.plot(reached[:, 0], reached[:, 1], ".", color=BLUE, markersize=2, alpha=0.25, label="within reach")
    good, blind = found.usable & ~found.blind, found.blind
    for mask, colour, marker, label in ((good, ORANGE, "o", whose), (blind, RED, "X", "blind")):
        if mask.any():
            axes.plot(found.actions[mask, 0], found.actions[mask, 1], marker, color=colour, markersize=4, label=label)
    axes.set(title="First actions", xlabel=names[0], ylabel=names[1])
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.5))
    axes.add_patch(_box())
    axes.legend(loc="upper left", ncols=2, columnspacing=1.0, handletextpad=0.4)


def _box():
    from matplotlib.patches import Rectangle

    return Rectangle((-1, -1), 2, 2, fill=False, edgecolor=GREY, linestyle="--", linewidth=0.9)
