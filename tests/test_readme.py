"""What the README shows is true: its example runs and ends as its last comment says, and its commands exist."""

import pathlib
import re
import shlex

import jax.numpy as jnp
import pytest

import planahead as pa
from planahead.experiments.command import parse
from planahead.experiments.commands.command import Command

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_example_ends_as_its_last_comment_says(x64):
    (example,) = blocks("python")
    lines = [line for line in example.splitlines() if line.strip()]
    assert len(lines) <= 15 and lines[-1].startswith("#")
    names: dict = {}
    exec(example, names)
    assert pa.Status(int(names["plan"].status)) == pa.Status.SOLVED

    plan = names["plan"]
    assert (plan.controls[:3] < -0.99).all() and plan.controls[3] > -0.99
    assert (plan.states[1:4, 1] < plan.states[:3, 1]).all()  # faster, towards the target

    def end(target):
        return pa.solve(names["Cart"](target=target), jnp.array([0.3, 0.0])).states[-1, 0]

    slope = float(end(1e-4) - end(-1e-4)) / 2e-4
    assert float(names["slope"]) == pytest.approx(slope, rel=1e-5)
    assert f"{slope:.2f}" in lines[-1]


@pytest.mark.parametrize(
    "line", [line for block in blocks("sh") for line in block.splitlines() if line.startswith("planahead")]
)
def test_the_commands_exist(line: str):
    words = shlex.split(line, comments=True)[1:]
    assert isinstance(parse(words), Command)


def test_the_pictures_exist():
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (pathlib.Path(__file__).parents[1] / picture).is_file(), picture
