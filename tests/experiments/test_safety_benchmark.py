"""The benchmark of safety filters counts what happened, and writes it."""

import csv
import io
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from planahead.experiments.benchmarks import safety_filter as bench
from planahead.experiments.benchmarks.rows import csv_text, markdown
from planahead.policies import ActionBox, Decision, DirectPolicy, Policy
from planahead.tasks import make_task

TASK = make_task("obstacles")
WORLD = TASK.environment
BOX = ActionBox(WORLD.action_low, WORLD.action_high)


class Found(NamedTuple):
    """What the benchmark reads of a filter's answer."""

    action: Array
    proposal: Array
    fallback: Array
    certified: Array


@final
class Stopping(Policy):
    """Wants to push, and is stopped instead by what is no certificate."""

    def initial_memory(self) -> None:
        return None

    def settings(self) -> dict[str, Any]:
        return {}

    def decide(self, observation: Float[Array, " 4"], memory: Any = None, key: PRNGKeyArray | None = None) -> Decision:
        del memory, key
        action = -observation[2:] / WORLD.time_step
        found = Found(action, jnp.full(2, 4.0), observation[0] > -1.5, jnp.array(False))
        return Decision(action, jnp.zeros(()), filtered=found)


def test_steps_without_a_filter_end_by_their_violations():
    network = DirectPolicy(WORLD.observation_scale, BOX, hidden=(4,), key=jax.random.key(0))
    rows = []
    for uniform in (True, False):
        proposals = bench.Proposals(network, BOX, jnp.array(uniform))
        counts, seconds = bench.simulate(TASK, proposals, jax.random.key(1), 7_500)
        rows.append(bench.row("obstacles", "uniform", "none", counts, seconds))
        assert rows[-1].steps == 8_000  # whole calls
        assert 0 < rows[-1].violations == rows[-1].violated_episodes <= rows[-1].episodes
        assert rows[-1].corrected is None and rows[-1].milliseconds > 0
    assert rows[0].violations != rows[1].violations
    read = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert [int(line["violations"]) for line in read] == [row.violations for row in rows]
    assert read[0]["corrected"] == ""
    assert f"| obstacles | uniform | none | {rows[0].violations} of 8000 |" in markdown(
        bench.HEADINGS, [bench.cells_of(row) for row in rows]
    )


def test_what_a_filter_did_is_counted():
    counts, seconds = bench.simulate(TASK, Stopping(), jax.random.key(0), 1_000)
    row = bench.row("obstacles", "uniform", "filter", counts, seconds)
    assert row.violations == 0 and row.steps == row.uncertified == 1_000
    assert row.corrected == 1.0
    assert row.fallback is not None and 0.3 < row.fallback < 0.7
    assert bench.cells_of(row)[3:8] == ("0 of 1000", "0 of 0", "100.00 %", f"{100 * row.fallback:.2f} %", "1000")
