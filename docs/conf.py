"""How Sphinx makes the site: `make docs` builds it into docs/_build."""

import os
import sys
from pathlib import Path

import planahead

sys.path.insert(0, str(Path(__file__).parent / "extensions"))
os.environ.setdefault("MPLBACKEND", "Agg")

project = "planahead"
copyright = "The planahead developers"
release = version = planahead.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "myst_parser",
    "generated_tables",
    "markdown_docstrings",
]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
default_role = "code"  # a single backtick in a docstring is code, as in Markdown
suppress_warnings = ["myst.xref_missing"]  # pages of results are written for GitHub, and link to files beside them

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes are in the text
autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples/course",
    "gallery_dirs": "course",
    "filename_pattern": r"/\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "parallel": 2,
    "reset_modules": ("matplotlib", "course_setup.default_precision"),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "image_srcset": ["2x"],
}

html_theme = "furo"
html_title = "planahead"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
