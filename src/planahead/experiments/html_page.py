"""What reports are made of: pages that hold all they show, tables and paragraphs, with everything escaped."""

import html
import importlib.resources
from collections.abc import Sequence

_SORTING = """
document.querySelectorAll('table.sortable th').forEach((head, column) => head.addEventListener('click', () => {
  const body = head.closest('table').tBodies[0], rows = [...body.rows], key = row => row.cells[column].textContent;
  const falling = head.dataset.order === 'rising';
  rows.sort((a, b) => key(a).localeCompare(key(b), undefined, {numeric: true}) * (falling ? -1 : 1));
  head.dataset.order = falling ? 'falling' : 'rising';
  rows.forEach(row => body.appendChild(row));
}));
"""
"""A click on a heading sorts the rows by it, a second one the other way round."""


def page(title: str, body: Sequence[str]) -> str:
    """The whole file; `title` is text, `body` is markup."""
    style = importlib.resources.files("planahead.experiments").joinpath("report.css").read_text()
    return "\n".join(
        [
            "<!doctype html>",
            "<html lang=en><head><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width, initial-scale=1'>",
            f"<title>{text(title)} · planahead</title>",
            f"<style>{style}</style></head><body>",
            f"<h1>{text(title)}</h1>",
            *body,
            f"<script>{_SORTING}</script>" if any("sortable" in part for part in body) else "",
            "</body></html>\n",
        ]
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, sortable: bool = False) -> str:
    """Of text, the first two columns to the left."""
    head = "".join(f"<th>{text(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    kind = "'left sortable'" if sortable else "left"
    return f"<div class=wide><table class={kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def paragraph(content: str) -> str:
    return f"<p>{text(content)}</p>"


def soft(content: str) -> str:
    """In grey."""
    return f"<p class=soft>{text(content)}</p>"


def text(content: object) -> str:
    """What it says, whatever characters it has."""
    return html.escape(str(content))
