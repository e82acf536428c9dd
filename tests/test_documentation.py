"""The site's pages against the package; `make docs` runs the course and treats warnings as errors."""

import pathlib
import re

from planahead.learning import algorithm_names

ROOT = pathlib.Path(__file__).parents[1]
METHODS = [path.read_text() for path in sorted((ROOT / "docs" / "methods").glob("*.md")) if path.stem != "index"]


def test_every_algorithm_is_explained_on_a_page():
    told = set(re.findall(r"`([a-z][a-z0-9-]*)", "\n".join(METHODS)))
    assert set(algorithm_names()) <= told


def test_every_benchmark_has_its_page():
    benchmarks = {path.parent.name for path in (ROOT / "benchmarks").glob("*/README.md")}
    assert benchmarks == {path.stem for path in (ROOT / "docs" / "results").glob("*.md")} - {"index"}


def test_every_method_is_in_the_index():
    index = (ROOT / "docs" / "methods" / "index.md").read_text()
    pages = [path.stem for path in (ROOT / "docs" / "methods").glob("*.md") if path.stem != "index"]
    assert pages and all(f"\n{page}\n" in index for page in pages)
