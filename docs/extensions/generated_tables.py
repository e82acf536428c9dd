"""What the package says of itself, so that no page repeats it by hand. A line of a page that reads

    {{ taxonomy }}           becomes the roles of the planner, with what implements each (`planahead list`)
    {{ algorithms }}         every algorithm with its sentence
    {{ tasks }}              every task with its sentence
    {{ settings NAME }}      everything that can be set of an algorithm or a task (`planahead list NAME`)
    {{ statuses }}           how a solve can end, in the words of `Status`
    {{ results NAME }}       the README of benchmarks/NAME below its title, with its pictures
    {{ readme HEADING }}     a section of the project's README
    {{ public ROOM }}        every public name that comes from a room, with its docstring

before the page is read as Markdown. A name that does not exist ends the build.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_LINE = re.compile(r"^\{\{ (\w+)(?: (.+?))? \}\}$", re.MULTILINE)


def taxonomy() -> str:
    from planahead.experiments.taxonomy import TAXONOMY

    return _table(
        ("role of the planner", "what is learned of it", "how", "algorithms"),
        [
            (
                place.role,
                place.architecture,
                place.methods,
                ", ".join(f"`{entry}`" for entry in place.entries or (place.after,)),
            )
            for place in TAXONOMY
        ],
    )


def algorithms() -> str:
    from planahead.experiments.experiment import algorithm_sentences

    return _table(("algorithm", ""), [(f"`{name}`", text) for name, text in algorithm_sentences().items()])


def tasks() -> str:
    from planahead.experiments.experiment import task_sentences

    return _table(("task", ""), [(f"`{name}`", text) for name, text in task_sentences().items()])


def settings(name: str) -> str:
    from planahead.experiments.explanations import explain

    told = explain(name)
    rows = [(f"`{option.name}`", f"`{option.default}`", option.meaning) for option in told.options]
    return _table((f"`{told.flag}` NAME=VALUE", "default", "meaning"), rows)


def statuses() -> str:
    from planahead import Status

    return _table(("`Status`", "number", "what it says"), [(f"`{s.name}`", int(s), s.sentence) for s in Status])


def results(name: str) -> str:
    folder = ROOT / "benchmarks" / name
    text = (folder / "README.md").read_text()
    text = re.sub(r"\A# .*\n", "", text)
    text = re.sub(r"\]\((?!http)([\w./+-]+)\)", rf"](../../benchmarks/{name}/\1)", text)
    shown = [path for path in sorted(folder.glob("*.png")) if path.name not in text]
    return "\n\n".join([text, *(f"![{path.stem}](../../benchmarks/{name}/{path.name})" for path in shown)])


def readme(heading: str) -> str:
    _, _, after = (ROOT / "README.md").read_text().partition(f"\n## {heading}\n")
    if not after:
        raise ValueError(f"README.md has no section «{heading}»")
    return after.partition("\n## ")[0]


def public(room: str) -> str:
    import planahead

    found = {name: getattr(planahead, name) for name in dir(planahead) if not name.startswith("_")}
    here = [name for name, value in found.items() if _from(value).startswith(f"planahead.{room}")]
    if not here:
        raise ValueError(f"planahead has no public name from {room}")
    kinds = {name: "class" if isinstance(found[name], type) else "function" for name in here}
    ordered = sorted(here, key=lambda name: kinds[name] == "class")  # what is called before what it returns
    return "\n\n".join(f"```{{eval-rst}}\n.. auto{kinds[name]}:: planahead.{name}\n```" for name in ordered)


GENERATED = {made.__name__: made for made in (taxonomy, algorithms, tasks, settings, statuses, results, readme, public)}


def _from(value: Any) -> str:
    return getattr(value, "__module__", None) or ""


def _table(heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    def line(cells: tuple[Any, ...]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(heads), line(("---",) * len(heads)), *map(line, rows)])


def _replaced(found: re.Match[str]) -> str:
    if found[1] not in GENERATED:
        raise ValueError(f"{found[0]}: the known tables are {', '.join(GENERATED)}")
    return GENERATED[found[1]](*([] if found[2] is None else [found[2]]))


def _read(app: Any, page: str, source: list[str]) -> None:
    source[0] = _LINE.sub(_replaced, source[0])


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
