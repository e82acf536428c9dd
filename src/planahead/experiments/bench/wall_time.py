"""What a planner costs: wall time of training with one over that of training without, same steps, same machine.

    ratio_s = seconds(algorithm, seed s) / seconds(the same learner without a planner, seed s)

Seconds are those of `results.csv`: compilation and validation included, and whatever else the machine was doing.
"""

from collections.abc import Sequence

import numpy as np

from planahead.experiments.bench.definition import Entry
from planahead.experiments.bench.results import Result, labelled
from planahead.experiments.progress import clock
from planahead.experiments.statistics import interquartile_estimate
from planahead.learning.presets import PRESETS
from planahead.learning.settings import settings_of


def without_planner(algorithm: str) -> str | None:
    """The entry of the same learner without a planner, other settings alike; `None` where there is none, and for what
    no learner trains.

    >>> without_planner("ac-mpc+hidden_units=64+value_expansion=1"), without_planner("sac"), without_planner("mpc-q")
    ('ac-mlp+hidden_units=64', None, None)
    """
    entry = Entry.parse(algorithm)
    preset = PRESETS.get(entry.algorithm)
    if preset is None or not preset.plans:
        return None
    others = (name for name, other in PRESETS.items() if other.learner is preset.learner and not other.plans)
    if (name := next(others, None)) is None:
        return None
    known = settings_of(name)
    return str(Entry(name, tuple(option for option in entry.options if option.partition("=")[0] in known)))


def wall_time_markdown(results: Sequence[Result]) -> str | None:
    """A line per task and algorithm that has a partner without a planner; `None` where none has."""
    finished = {result.key: result for result in results}
    groups: dict[tuple[str, str, str], list[tuple[Result, Result]]] = {}
    for result in results:
        base = without_planner(result.algorithm)
        partner = None if base is None else finished.get((result.task, base, result.interface, result.seed))
        if partner is not None and (partner.steps, partner.processor) == (result.steps, result.processor):
            label = labelled(result.algorithm, result.interface)
            groups.setdefault((result.task, label, partner.algorithm), []).append((result, partner))
    if not groups:
        return None
    rows = [["task", "algorithm", "over", "seeds", "steps", "wall time", "without", "ratio"]]
    rows += [["---"] * len(rows[0])]
    for (task, label, base), pairs in groups.items():
        ratio = interquartile_estimate(np.array([with_it.seconds / without.seconds for with_it, without in pairs]))
        interval = f" [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio.low < ratio.high else ""
        times = [clock(float(np.mean([pair[i].seconds for pair in pairs]))) for i in (0, 1)]
        steps = f"{max(with_it.steps for with_it, _ in pairs) // 1000}k"
        rows.append([task, label, base, str(len(pairs)), steps, *times, f"{ratio.value:.2f}{interval}"])
    head = (
        "Wall time of training with a planner over that of the same learner without one, seed by seed, same steps, "
        "same processor: interquartile means over seeds and their 95 % bootstrap intervals. Compilation and validation "
        "are in it, and whatever else the machine was doing."
    )
    return "\n\n".join([head, "\n".join(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
