"""A real learner, killed by the system in the middle of its work, goes on to the same bytes."""

import json
import pathlib
import subprocess
import sys
import time

import pytest

from planahead.experiments.command import main
from planahead.experiments.run_directory import RunDirectory

OPTIONS = ["steps_per_chunk=400", "warm_up_steps=160", "batch_size=16", "hidden_units=16", "replay_size=1600"]
TRAIN = [
    "train",
    "sac",
    "mass-spring-damper",
    "--steps",
    "3200",
    "--validate-every",
    "800",
    "--validation-episodes",
    "2",
]


@pytest.mark.long
def test_killed_in_the_middle(tmp_path: pathlib.Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    last_words = ["--episodes", "2", "--options", *OPTIONS]
    command = [sys.executable, "-m", "planahead.experiments.command", *TRAIN, "--run", "killed", *last_words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    metrics = tmp_path / "killed" / "metrics.csv"
    try:
        while process.poll() is None and (not metrics.exists() or metrics.read_text().count("\n") < 4):
            time.sleep(0.005)  # until the header and three chunks are there: one chunk beyond the checkpoint
    finally:
        process.kill()
        process.wait()
    assert process.stderr is not None
    assert process.returncode == -9, f"it ended before it could be killed: {process.stderr.read().decode()}"
    process.stderr.close()
    rows = metrics.read_text().count("\n")
    assert 4 <= rows < 9 and not (tmp_path / "killed" / "report.html").exists()

    assert main(["train", "sac", "mass-spring-damper", "--run", "killed", "--resume", "--episodes", "2"]) == 0
    assert main([*TRAIN, "--run", "whole", *last_words]) == 0
    for table in ("metrics.csv", "validations.csv"):
        assert (tmp_path / "killed" / table).read_bytes() == (tmp_path / "whole" / table).read_bytes()
    for checkpoint in ("last", "best"):
        killed, whole = (
            (tmp_path / run / "checkpoints" / checkpoint).read_bytes().partition(b"\n")[2]
            for run in ("killed", "whole")
        )
        assert killed == whole

    run = RunDirectory.open(tmp_path / "killed")
    shares = {"success_rate", "failed_solves", "violations_per_step", "violations_per_episode"}
    assert shares | {"return"} <= set(run.read("metrics")[0])
    rows = json.loads(run.evaluation_path.read_text())["rows"]
    assert [(row["policy"], row["starts"], row["episodes"]) for row in rows] == [("best", "own", 2), ("last", "own", 2)]
