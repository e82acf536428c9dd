"""A room imports only from the rooms before it (`CONTRIBUTING.md`), at the top of a file or inside of a function."""

import ast
import pathlib

import planahead

PACKAGE = pathlib.Path(planahead.__file__).parent
ROOMS = ("problem", "qp", "tape", "planning", "policies", "tasks", "learning", "experiments", "interop", "viewer")
DOORS = {
    ("experiments/commands/view.py", "viewer"),
    ("experiments/benchmarks/stable_baselines.py", "interop"),
    ("experiments/benchmarks/stable_baselines_learners.py", "interop"),
    ("experiments/benchmarks/torch_layer.py", "interop"),
}
"""The command line opens every room: what these need is imported when a command runs."""
WRITTEN = "experiments/new_task"
"""What `planahead new` writes lies outside of the package."""


def imported(source: str) -> set[str]:
    """The rooms that a file imports from."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names |= {module.split(".")[1] for module in modules if module.startswith("planahead.")}
    return names & set(ROOMS)


def test_a_room_imports_from_the_rooms_before_it():
    found = set()
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            name = path.relative_to(PACKAGE).as_posix()
            if not name.startswith(WRITTEN):
                others = imported(path.read_text(encoding="utf-8"))
                found |= {(name, other) for other in others if ROOMS.index(other) > ROOMS.index(room)}
    assert found == DOORS


def test_every_room_is_in_its_place():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ROOMS)
