"""The command line as a user meets it: what it prints, what it writes, and what it says to mistakes."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
from importlib import metadata
from typing import Any

import pytest

from planahead.experiments import training
from planahead.experiments.checkpoint import read_checkpoint_info
from planahead.experiments.command import COMMANDS, main
from planahead.experiments.run_directory import RunDirectory

TRAIN = [
    "train",
    "stub",
    "point",
    "--steps",
    "600",
    "--validate-every",
    "300",
    "--validation-episodes",
    "3",
    "--episodes",
    "30",
]


@pytest.fixture(autouse=True)
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said about a mistake; nothing else may be."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and "Traceback" not in captured.err
    return " ".join(captured.err.split())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_help_has_examples(capsys: pytest.CaptureFixture[str], command: type):
    with pytest.raises(SystemExit) as exit:
        main([command.name, "--help"])  # pyright: ignore[reportAttributeAccessIssue]
    text = capsys.readouterr().out
    assert exit.value.code == 0
    assert "examples:" in text and f"  planahead {command.name}" in text and "--json FILE" in text  # pyright: ignore


def test_examples_can_be_parsed():
    from planahead.experiments.command import parse

    examples = [(command, example) for command in COMMANDS for example in command.examples]
    assert len(examples) >= len(COMMANDS)
    for command, example in examples:
        if "--resume" not in example:  # which would look for the run
            assert isinstance(parse([command.name, *example.split()]), command)


@pytest.mark.parametrize(
    ("arguments", "text"), [(["trian"], "trian"), ([], "usage: planahead"), (["--help"], "doctor")]
)
def test_overview_and_unknown_commands(capsys: pytest.CaptureFixture[str], arguments: list[str], text: str):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    captured = capsys.readouterr()
    assert text in captured.out + captured.err
    assert exit.value.code == (2 if arguments == ["trian"] else 0)


MISTAKES = [
    (
        "train stub pendulum",
        "there is no task «pendulum»; the known ones are «cartpole», «chain», «hover», «linear», «mass-spring-damper»,",
    ),
    ("plan cartpol", "there is no task «cartpol» (did you mean cartpole?); the known ones are"),
    ("train dqn point", "there is no algorithm «dqn»; the known ones are «stub». See: planahead list"),
    ("plan pendulum", "there is no task «pendulum»"),
    ("evaluate nowhere", "«nowhere» is not a folder. Make a run there with: planahead train ALGORITHM TASK"),
    ("report .", "«.» holds no run (it has no config.json)"),
    ("train stub point --resume --run nowhere", "«nowhere» is not a folder"),
    ("train stub point --options rate=fast", "--options rate=fast: rate='fast': a number was expected"),
    ("train stub point --options speed=1", "--options speed=1:"),
    ("train stub point --steps 0", "steps is 0; at least 1 was expected"),
    ("train stub point --episodes 0", "--episodes is 0; at least 1 was expected"),
    ("evaluate . --episodes 0", "--episodes is 0; at least 1 was expected"),
    (
        "bench swing-down",
        "there is no benchmark «swing-down»; known are «swing-up», «mpc-prior», «mpc-prior-tuned», «expert», «mpc-rl»,",
    ),
    (
        "bench swing-up --algorithms dqn",
        "there is no algorithm «dqn»; the known ones are «stub», «planner», «expert», «planner-tuned».",
    ),
    ("bench swing-up --algorithms stub+speed=1", "--algorithms stub+speed=1: speed=1: a number was expected"),
    ("bench swing-up --algorithms stub+fast", "--algorithms got «fast»; name=value was expected, e.g. --algorithms"),
    ("bench swing-up --algorithms planner+rate=1.0", "--algorithms got «planner+rate=1.0»; planner has no settings."),
    ("bench swing-up --tasks pendulum", "--tasks got «pendulum»; the known ones are «cartpole»,"),
    ("bench swing-up --interfaces local", "--interfaces got «local»; the known ones are «global», «stage»."),
    ("bench swing-up --jobs 0", "--jobs is 0; at least 1 was expected"),
    ("bench swing-up --steps 0", "--steps is 0; at least 1 was expected"),
    ("bench robustness --simulator gazebo", "--simulator got «gazebo»; the known ones are «planahead», «rotorpy»."),
    ("train stub point --task-options speed=1", "--task-options speed=1: task 'point' has no option 'speed'"),
    ("train stub point --task-options speed", "--task-options got «speed»; name=value was expected, e.g. --task-op"),
    (
        "plan point --problem horizn=3",
        "the problem of «point» has no field «horizn» (did you mean horizon?); the known ones are «discount»",
    ),
    ("plan point --problem horizon", "--problem got «horizon»; name=value was expected, e.g. --problem horizon=20"),
    ("plan point --picture plan.xyz", "cannot draw «plan.xyz»: its ending names no known format; use .png, .svg"),
    ("plan cartpole --problem horizon=2.5", "--problem horizon=2.5: a whole number was expected, e.g. horizon=5."),
    ("plan cartpole --problem horizon=abc", "--problem horizon=abc: a whole number was expected, e.g. horizon=5."),
    ("plan cartpole --problem horizon=0", "--problem horizon=0: at least 1 was expected, e.g. horizon=5."),
    (
        "plan cartpole --problem angle_reference=abc",
        "--problem angle_reference=abc: a finite number was expected, e.g. angle_reference=0.0.",
    ),
    ("plan cartpole --problem angle_weight=1e999", "--problem angle_weight=inf: a finite number was expected"),
    (
        "plan cartpole --problem state_size=7",
        "--problem state_size=7: the equations of the problem fix it at 4; leave it out.",
    ),
    (
        "plan cartpole --problem time_step=-1",
        "--problem time_step=-1: a number above 0 was expected, e.g. time_step=0.05.",
    ),
    ("plan cartpole --problem pole_mass=-1", "CartPoleProblem got pole_mass=-1.0; expected a finite number above 0."),
    (
        "plan mass-spring-damper --problem state_weight_root=1",
        "--problem state_weight_root=1: it has the shape (2,), and a single number came; set it in Python instead.",
    ),
    ("list --json nowhere/x.json", "the folder «nowhere» does not exist; create it first"),
    ("list --json .", "--json .: that is a folder; name a file in it, e.g. result.json."),
]


@pytest.mark.usefixtures("stub_names")
class TestWithTheStub:
    def test_train_evaluate_report(self, capsys: pytest.CaptureFixture[str]):
        assert main([*TRAIN, "--run", "run", "--json", "result.json"]) == 0
        text = capsys.readouterr().out
        assert "validation at 300 steps" in text and "report: run/report.html" in text
        result = json.loads(pathlib.Path("result.json").read_text())
        assert (result["algorithm"], result["task"], result["steps"]["last"]) == ("stub", "point", 600)
        assert (result["policy"], result["starts"], result["episodes"]) == ("best", "perturbed", 30)
        assert [(row["policy"], row["starts"], row["episodes"]) for row in result["rows"]] == [
            ("best", "perturbed", 30), ("best", "single", 1), ("last", "perturbed", 30), ("last", "single", 1),
        ]  # fmt: skip
        assert main(["evaluate", "run", "--episodes", "30", "--json", "again.json"]) == 0
        again = json.loads(pathlib.Path("again.json").read_text())
        assert again["rows"] == result["rows"]
        assert json.loads(pathlib.Path("run/evaluation.json").read_text()) == again
        pathlib.Path("run/report.html").unlink()
        assert main(["report", "run", "--episodes", "2"]) == 0
        assert pathlib.Path("run/report.html").exists()
        assert json.loads(pathlib.Path("run/evaluation.json").read_text()) == again  # it is the user's

    def test_in_another_world_the_policy_is_the_same_and_nothing_is_kept(self, capsys: pytest.CaptureFixture[str]):
        main([*TRAIN, "--run", "run"])
        before = pathlib.Path("run/evaluation.json").read_text()
        options = ["--task-options", "drift=0.2"]
        assert main(["evaluate", "run", "--episodes", "3", *options, "--json", "windy.json"]) == 0
        windy = json.loads(pathlib.Path("windy.json").read_text())
        assert windy["task_options"] == ["drift=0.2"] and windy["mean_return"] < json.loads(before)["mean_return"]
        assert pathlib.Path("run/evaluation.json").read_text() == before
        assert "stub on point drift=0.2" in " ".join(capsys.readouterr().out.split())
        assert "task 'point' has no option 'gale'" in refused(capsys, "evaluate", "run", "--task-options", "gale=1")

    def test_an_evaluation_is_shown_before_it_is_written(self, capsys: pytest.CaptureFixture[str]):
        main([*TRAIN, "--run", "run"])
        path = pathlib.Path("run/evaluation.json")
        path.unlink()
        path.mkdir()  # root may write everywhere, but nobody can put a file over a folder
        capsys.readouterr()
        assert main(["evaluate", "run", "--episodes", "3"]) == 2
        captured = capsys.readouterr()
        assert "stub on point" in captured.out
        assert "cannot write «run/evaluation.json»: Is a directory" in captured.err
        assert "The table above is the evaluation; --json FILE keeps it elsewhere." in captured.err
        assert main(["evaluate", "run", "--episodes", "3", "--json", "kept.json"]) == 0
        assert "not kept in the run: cannot write «run/evaluation.json»" in capsys.readouterr().out
        assert json.loads(pathlib.Path("kept.json").read_text())["episodes"] == 3

    def test_a_policy_that_would_be_another_is_neither_resumed_nor_evaluated(self, capsys: pytest.CaptureFixture[str]):
        main([*TRAIN, "--run", "run"])
        config = pathlib.Path("run/config.json")
        config.write_text(config.read_text().replace('"law": "proportional"', '"law": "bang-bang"'))
        capsys.readouterr()
        for command in (["train", "stub", "point", "--run", "run", "--resume"], ["evaluate", "run"]):
            said = refused(capsys, *command)
            assert "other settings of the policy: law is 'bang-bang' there, 'proportional' came" in said

    def test_two_processes_never_train_the_same_run(self, capsys: pytest.CaptureFixture[str]):
        main([*TRAIN, "--run", "run"])
        lock = pathlib.Path("run/lock")
        lock.write_text(json.dumps({"pid": os.getppid(), "host": socket.gethostname()}))
        before = pathlib.Path("run/config.json").read_bytes()
        capsys.readouterr()
        said = refused(capsys, "train", "stub", "point", "--run", "run", "--resume", "--steps", "900")
        assert "the run «run» is in use: its lock «run/lock» is held by process" in said
        assert pathlib.Path("run/config.json").read_bytes() == before

    def test_resume_takes_the_stored_settings_and_may_raise_the_goal(self, capsys: pytest.CaptureFixture[str]):
        assert main([*TRAIN, "--seed", "4", "--run", "run", "--options", "rate=0.2"]) == 0
        assert main(["train", "stub", "point", "--run", "run", "--resume", "--steps", "900", "--episodes", "3"]) == 0
        settings = RunDirectory.open(pathlib.Path("run")).settings()
        assert (settings.steps, settings.seed, settings.options) == (900, 4, ("rate=0.2",))
        assert read_checkpoint_info(pathlib.Path("run/checkpoints/last")).step == 900
        capsys.readouterr()
        said = refused(capsys, "train", "stub", "point", "--run", "run", "--resume", "--seed", "5")
        assert "was made with other settings: seed is 4 there, 5 came. Only --steps may change" in said

    def test_resume_refuses_a_learner_that_has_changed(self, capsys: pytest.CaptureFixture[str]):
        main([*TRAIN, "--run", "run"])
        config = pathlib.Path("run/config.json")
        config.write_text(config.read_text().replace('"rate": 0.1', '"rate": 0.3'))
        capsys.readouterr()
        said = refused(capsys, "train", "stub", "point", "--run", "run", "--resume")
        assert "other settings of the learner: rate is 0.3 there, 0.1 came" in said

    def test_a_run_is_never_overwritten(self, capsys: pytest.CaptureFixture[str]):
        main([*TRAIN, "--run", "run"])
        before = {path: path.read_bytes() for path in pathlib.Path("run").rglob("*") if path.is_file()}
        capsys.readouterr()
        assert "«run» already holds a run, and a run is never overwritten" in refused(capsys, *TRAIN, "--run", "run")
        assert {path: path.read_bytes() for path in pathlib.Path("run").rglob("*") if path.is_file()} == before

    def test_a_truncated_checkpoint(self, capsys: pytest.CaptureFixture[str]):
        main([*TRAIN, "--run", "run"])
        path = pathlib.Path("run/checkpoints/last")
        path.write_bytes(path.read_bytes()[:-7])
        capsys.readouterr()
        assert "is damaged" in refused(capsys, "train", "stub", "point", "--run", "run", "--resume", "--steps", "900")

    @pytest.mark.parametrize(("damaged", "whole"), [("last", "best"), ("best", "last")])
    def test_the_other_checkpoint_is_evaluated(self, capsys: pytest.CaptureFixture[str], damaged: str, whole: str):
        main([*TRAIN, "--run", "run"])
        path = pathlib.Path("run/checkpoints") / damaged
        path.write_bytes(path.read_bytes()[:-7])
        capsys.readouterr()
        reason = f"checkpoint «run/checkpoints/{damaged}» is damaged"
        assert main(["evaluate", "run", "--episodes", "3", "--json", "result.json"]) == 0
        assert f"left out: {reason}" in capsys.readouterr().out
        result = json.loads(pathlib.Path("result.json").read_text())
        assert [row["policy"] for row in result["rows"]] == [whole, whole]
        assert result["policy"] == whole and result["steps"][damaged] is None and reason in result["unreadable"][0]
        assert main(["report", "run", "--episodes", "3"]) == 0
        assert f"left out: {reason}" in capsys.readouterr().out
        assert f"<b>Left out:</b> {reason}" in pathlib.Path("run/report.html").read_text()
        other = pathlib.Path("run/checkpoints") / whole
        other.write_bytes(b"")
        said = refused(capsys, "evaluate", "run")
        assert reason in said and f"«run/checkpoints/{whole}» is not a checkpoint" in said

    @pytest.mark.parametrize(("arguments", "message"), MISTAKES)
    def test_mistakes(self, capsys: pytest.CaptureFixture[str], arguments: str, message: str):
        assert message in refused(capsys, *arguments.split())
        assert list(pathlib.Path().iterdir()) == []  # nothing was begun

    def test_a_folder_that_cannot_be_written(self, capsys: pytest.CaptureFixture[str]):
        pathlib.Path("file").touch()
        said = refused(capsys, *TRAIN, "--run", "file/run")
        assert "cannot create the folder «file/run/checkpoints»: Not a directory" in said

    def test_ctrl_c_saves_and_says_how_to_go_on(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ):
        advance = training._advance

        def interrupting(*arguments: Any) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            return advance(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(training, "_advance", interrupting)
            assert main([*TRAIN, "--run", "run", "--seed", "2"]) == 130
        said = capsys.readouterr().out
        assert "stopping after this chunk, then saving" in said and "stopped and saved at step 100; go on with:" in said
        (line,) = [line.strip() for line in said.splitlines() if line.strip().startswith("planahead train")]
        assert line == "planahead train stub point --run run --resume"
        assert main([*line.split()[1:], "--episodes", "3"]) == 0
        assert read_checkpoint_info(pathlib.Path("run/checkpoints/last")).step == 600

    def test_a_programming_error_keeps_its_traceback(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("planahead.experiments.experiment.task_sentences", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(["list"])

    def test_list(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path):
        monkeypatch.undo()
        assert main(["list", "--json", str(tmp_path / "names.json")]) == 0
        names = json.loads((tmp_path / "names.json").read_text())
        assert {"cartpole", "mass-spring-damper"} <= set(names["tasks"])
        assert {"sac", "sac-zop", "sac-fop", "sac-foa"} <= set(names["algorithms"])
        text = capsys.readouterr().out
        assert all(name in text for name in (*names["tasks"], *names["algorithms"]))

    def test_bench_goes_on_and_keeps_what_it_has(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ):
        from planahead.experiments.bench import definition, named, running

        line = definition.Benchmark("a line", {"point": definition.Conditions()}, ("stub",), (0, 1))
        monkeypatch.setattr(named, "BENCHMARKS", {"line": line})
        arguments = ["bench", "line", "--steps", "1000", "--episodes", "5", "--out", "out"]
        assert main([*arguments, "--seeds", "1"]) == 0
        first = pathlib.Path("out/results.csv").read_text().splitlines()
        assert main([*arguments, "--seeds", "0", "--json", "bench.json"]) == 0
        lines = pathlib.Path("out/results.csv").read_text().splitlines()
        assert lines[0].startswith("task,algorithm,interface,seed,steps,steps_to_goal,seconds_to_goal,seconds")
        assert [line.split(",")[:4] for line in lines[1:]] == [["point", "stub", "global", seed] for seed in "01"]
        assert lines[2] == first[1]
        (cell,) = json.loads(pathlib.Path("bench.json").read_text())["cells"]
        assert cell["success_best"] == 1.0 and 0 < cell["seconds_to_goal"] <= cell["seconds"]
        assert pathlib.Path("out/learning-point.png").stat().st_size > 10_000
        assert "interquartile mean" in capsys.readouterr().out.lower()

        # What is committed is enough: in a fresh clone there are no runs.
        shutil.rmtree("out/runs")
        pathlib.Path("out/learning-point.png").unlink()
        monkeypatch.setattr(running, "train", lambda *arguments: pytest.fail("a finished cell was trained again"))
        assert main(arguments) == 0
        assert pathlib.Path("out/results.csv").read_text().splitlines() == lines
        assert pathlib.Path("out/learning-point.png").exists()
        assert main(["bench", "line", "--report-only", "--out", "out"]) == 0
        assert main(["bench", "line", "--report-only", "--out", "elsewhere"]) == 2
        assert "«elsewhere» holds no finished cell" in capsys.readouterr().err


@pytest.mark.parametrize("columns", ["wide", "-3", "0"])
def test_a_width_that_is_no_width(monkeypatch: pytest.MonkeyPatch, columns: str):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["list"]) == 0


def test_plan_draws_the_untrained_planner():
    assert main(["plan", "mass-spring-damper", "--problem", "horizon=4", "--episodes", "5", "--json", "plan.json"]) == 0
    result = json.loads(pathlib.Path("plan.json").read_text())
    assert result["rows"][0]["episodes"] == 5 and result["rows"][0]["failed_solves"] == 0.0
    assert pathlib.Path("plan-mass-spring-damper.png").stat().st_size > 20_000


def test_task_and_algorithm_the_wrong_way_round(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "cartpole", "sac-zop"]) == 2
    assert "«sac-zop» is an algorithm, and a task was expected here" in " ".join(capsys.readouterr().err.split())
    assert main(["train", "cartpole", "chain"]) == 2
    assert "«cartpole» is a task, and an algorithm was expected here" in " ".join(capsys.readouterr().err.split())


def test_the_installed_program_answers():
    program = pathlib.Path(sys.executable).with_name("planahead")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and "doctor" in done.stdout


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"planahead {metadata.version('planahead')}"


def test_view_shows_a_run_and_says_what_it_did(stub_names: None, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("viser")
    assert main([*TRAIN, "--run", "run"]) == 0
    assert main(["view", "run", "--port", "0", "--seconds", "1", "--json", "seen.json"]) == 0
    seen = json.loads(pathlib.Path("seen.json").read_text())
    assert seen["task"] == "point" and seen["steps"] > 5 and seen["pictures_per_second"] > 5
    words = refused(capsys, "view", "run", "--task-options", "drift=0.1")
    assert "--task-options is for a task; a run has those it was trained with" in words
    assert "«.» holds no run" in refused(capsys, "view", ".")
