r"""Docstrings are Markdown; autodoc reads reStructuredText. The few differences between the two as they are used here:

    Markdown                                    reStructuredText
    an indented block after a line of prose     `::`, and the block
    ```lang … ```                               `.. code-block:: lang`, and the block
    a list right after a line of prose          a blank line between
    |V| in prose                                \|V\|, which else names a substitution

A single backtick is code in both (`default_role` in conf.py).
"""

import re
from typing import Any

_FENCE = re.compile(r"^(\s*)```(\w*)\s*$")
_ITEM = re.compile(r"^\s*(-|\d+\.) ")


def restructured(lines: list[str]) -> list[str]:
    """A docstring's lines, in reStructuredText."""
    made: list[str] = []
    fence: str | None = None
    listed = False
    for line in lines:
        opened = _FENCE.match(line)
        if opened and fence is None:
            fence = opened[1]
            made += ["", f"{fence}.. code-block:: {opened[2] or 'text'}", ""]
        elif opened:
            fence = None
            made.append("")
        elif fence is not None:
            made.append(f"    {line}")
        else:
            if line.strip() and not line.startswith(" "):
                if _ITEM.match(line) and not listed and made and made[-1].strip():
                    made.append("")
                listed = bool(_ITEM.match(line))
            if line.startswith("    ") and not listed and _starts_a_block(made):
                made += ["::", ""]
            made.append(line if line.startswith("    ") else _without_substitutions(line))
    return made


def _without_substitutions(line: str) -> str:
    """With the bars of prose, and not those of code, escaped."""
    parts = line.split("`")
    return "`".join(part.replace("|", r"\|") if number % 2 == 0 else part for number, part in enumerate(parts))


def _starts_a_block(before: list[str]) -> bool:
    """Whether an indented line after `before` begins a block of its own."""
    if not before or before[-1].strip():
        return False
    prose = next((line for line in reversed(before) if line.strip()), "")
    return bool(prose) and not prose.startswith(" ") and prose.strip() != "::"


def _process(app: Any, what: str, name: str, object_: Any, options: Any, lines: list[str]) -> None:
    lines[:] = restructured(lines)


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}
