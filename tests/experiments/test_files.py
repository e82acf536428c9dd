"""Names of files that would overwrite nothing."""

import pathlib

from planahead.experiments.files import unused


def test_a_name_that_is_taken_is_followed_by_a_number(tmp_path: pathlib.Path):
    path = tmp_path / "plan.png"
    for name in ("plan.png", "plan-2.png", "plan-3.png"):
        assert unused(path) == tmp_path / name
        unused(path).touch()
