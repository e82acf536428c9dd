"""The first example of docs/pytorch.md runs."""

import pathlib
import re

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "pytorch.md").read_text()


@pytest.mark.long
def test_the_example_runs(capsys):
    names: dict = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], names)
    assert names["reference"].grad.abs() > 0
    assert capsys.readouterr().out.startswith("1 lane:\n  1 x SOLVED")
