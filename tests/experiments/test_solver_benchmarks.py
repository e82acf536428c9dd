"""The solver benchmarks solve what they time, and count what fails."""

import csv
import pathlib

import numpy as np
import pytest

from planahead.experiments import command
from planahead.experiments.benchmarks import inference, peers, scaling, table1
from planahead.experiments.benchmarks.nonlinear import CASES
from planahead.experiments.benchmarks.results import absent, summaries, table, write_csv
from planahead.experiments.benchmarks.scaling_figure import scaling_figure
from planahead.experiments.benchmarks.timing import Row, fastest, restrict_threads
from planahead.experiments.errors import UserError


@pytest.mark.parametrize("name", table1.SETS)
def test_both_sets_are_solved_as_the_reference_says(name):
    nominal, adjoint = table1.ours(table1.ProblemSet.load(name), repeats=1)
    assert nominal.failed == nominal.wrong == 0 and nominal.error is not None and nominal.error < 1e-7
    assert adjoint.failed == adjoint.wrong == 0 and adjoint.error is not None and adjoint.error < 1e-6


@pytest.mark.long
def test_networks_are_timed_beside_the_planners_that_they_imitate():
    rows = inference.imitated("mass-spring-damper", repeats=1)
    assert [(row.solver, row.problems) for row in rows] == [
        *(("network", 1), ("expert", 1)),
        *(("network", inference.BATCH), ("expert", inference.BATCH)),
    ]
    assert all(row.failed == 0 and row.median is not None and row.median > 0 for row in rows)


def test_a_peer_that_is_missing_or_wrong_is_a_row():
    given = table1.ProblemSet.load("u1")

    def missing(*problem):
        raise ModuleNotFoundError("No module named 'nosuch'", name="nosuch")

    def zeros(*problem):
        return lambda x0: peers.Answer(np.zeros((20, 4)), solved=True)

    gone = table1.theirs(given, peers.Peer("absent", missing), 1)
    assert gone.median is None and gone.note == "nosuch is not installed: pip install '.[bench]'"
    wrong = table1.theirs(given, peers.Peer("wrong", zeros), 1)
    assert wrong.failed == 0 and wrong.wrong == 128
    assert fastest([gone, wrong]) is None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_starts_begin_with_the_published_one(case):
    starts = np.asarray(case.starts(5))
    np.testing.assert_allclose(starts[0], case.start, atol=1e-6)
    assert np.abs(starts - starts[0]).max() <= case.spread + 1e-6


def test_exponents_are_those_of_the_larger_half():
    grows = {"batch": 1, "horizon": 2}
    sizes = [(axis, n) for axis in grows for n in (1, 10, 100, 1000)]
    rows = [
        Row(
            f"{axis} {n} (…)", scaling.OURS, "solve", n, 3.0 * n ** grows[axis] + 0.1, None, note=f"{n**0.5} iterations"
        )
        for axis, n in sizes
    ]
    for axis, power in grows.items():
        words = scaling.along(rows, axis, scaling.OURS).growth(axis)
        assert words == f"time grows as {axis}^{power}.00, an iteration as {axis}^{power - 0.5:.2f}"


def test_the_picture_of_scaling_shows_both_where_they_were_timed():
    rows = [
        Row(f"{axis} {n} (…)", solver, "solve", 128, slope * n, None, note="9.0 iterations")
        for axis in ("batch", "horizon", "states")
        for n in (2, 4, 8, 16)
        for solver, slope in ((scaling.OURS, 1.0), *(((scaling.PEER.name, 5.0),) if axis == "states" else ()))
    ]
    lines = [[line.get_label() for line in axes.lines] for axes in scaling_figure(rows).axes]
    assert lines == [[scaling.OURS, "linear"]] * 2 + [[scaling.OURS, f"{scaling.PEER.name}, one by one"]]


def test_rows_are_written_and_shown(tmp_path: pathlib.Path):
    rows = [
        Row("u1", "planahead", "solve", 128, 2.0, 3.0, failed=0, wrong=0),
        Row("u1", "x", "solve", 128, None, None, note="gone"),
    ]
    write_csv(tmp_path / "rows.csv", rows)
    with (tmp_path / "rows.csv").open() as file:
        first, second = csv.DictReader(file)
    assert first["median"] == "2.0" and second["median"] == "" and second["note"] == "gone"
    assert summaries(rows)[0]["solver"] == "planahead" and table(rows, "title").row_count == 1


def test_solvers_that_did_not_run_are_named_once_under_their_reason():
    rows = [Row(case, solver, "solve", 1, None, None, note="gone") for case in "ab" for solver in "xy"]
    assert absent([*rows, Row("a", "z", "solve", 1, 1.0, 1.0, note="here")]) == ["x, y: gone"]


def test_threads_are_a_matter_of_the_process():
    with pytest.raises(UserError, match="--threads 10000: this process may use"):
        restrict_threads(10_000)


@pytest.mark.parametrize("name", ["table1", "nmpc", "scaling", "latency", "torch"])
def test_solver_benchmarks_are_commands(name):
    found = command.parse(["bench", name, "--repeats", "3", "--peers", "False"])
    assert found.name == f"bench {name}"
