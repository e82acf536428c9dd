"""What a benchmark says of its ablations: a table and a picture for each, from rows, curves and episodes alone.

    OUT/ablations.md          a table per ablation, a line per variant
    OUT/ablation-NAME.png     its learning curves

A variant is the cells of one task and one algorithm; one that is in several ablations is trained once.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from planahead.experiments.bench.definition import Ablation
from planahead.experiments.bench.outcomes import COMMON, Outcomes, episodes_path, read_episodes
from planahead.experiments.bench.results import Result
from planahead.experiments.bench.summary import Summary, headings


def ablation_path(out: pathlib.Path, ablation: Ablation) -> pathlib.Path:
    """Of its picture."""
    return out / f"ablation-{ablation.name.replace(' ', '-')}.png"


def variants_of(ablation: Ablation, results: Sequence[Result]) -> dict[str, list[Result]]:
    """The finished cells of every variant that has some."""
    found = {label: [r for r in results if (r.task, r.algorithm) == pair] for label, pair in ablation.variants.items()}
    return {label: cells for label, cells in found.items() if cells}


def variant_summaries(ablation: Ablation, summaries: Sequence[Summary]) -> list[Summary]:
    """The lines of an ablation's table, each under the name of its variant."""
    found = {(summary.task, summary.algorithm): summary for summary in summaries}
    named = ((label, found.get(pair)) for label, pair in ablation.variants.items())
    return [dataclasses.replace(s, algorithm=label, interface="global") for label, s in named if s is not None]


def ablations_markdown(
    out: pathlib.Path, ablations: Sequence[Ablation], results: Sequence[Result], summaries: Sequence[Summary]
) -> str:
    """All tables that have a line."""
    parts = [
        "Interquartile means over seeds, in brackets their 95 % bootstrap intervals, as in summary.md; beside them "
        "what successful episodes came to, as in outcomes.md. Training violations count all steps of the training."
    ]
    for ablation in ablations:
        lines = variant_summaries(ablation, summaries)
        if not lines:
            continue
        outcomes = {label: _outcomes(out, cells) for label, cells in variants_of(ablation, results).items()}
        names = list(dict.fromkeys(name for found in outcomes.values() if found for name in found.outcomes))
        rows = [[ablation.name, *headings()[1:], *names]]
        rows += [["---"] * len(rows[0])]
        for line in lines:
            found = outcomes[line.algorithm]
            rows.append([*line.cells(), *(found.shown(name) if found else "–" for name in names)])
        parts += [f"## {ablation.name}", "\n".join(f"| {' | '.join(row)} |" for row in rows)]
    return "\n\n".join(parts) + "\n"


def _outcomes(out: pathlib.Path, results: Sequence[Result]) -> Outcomes | None:
    """`None` where no episode was kept."""
    paths = [episodes_path(out, result.name) for result in results]
    tables = [read_episodes(path) for path in paths if path.exists()]
    return Outcomes.of(tables) if tables and set(tables[0]) - set(COMMON) else None
