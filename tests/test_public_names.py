"""What the package offers can be imported, is what a type checker sees, and costs nothing before it is used."""

import ast
import pathlib
import subprocess
import sys
from types import ModuleType

import pytest

import planahead as pa
from planahead import experiments, tasks

LAZY = [pa, tasks, experiments]


def checked_names(package: ModuleType) -> set[str]:
    """The names under `if TYPE_CHECKING`."""
    assert package.__file__ is not None
    tree = ast.parse(pathlib.Path(package.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {
        alias.asname or alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


@pytest.mark.parametrize("package", LAZY, ids=lambda package: package.__name__)
def test_every_name_is_there_and_known_to_a_type_checker(package: ModuleType):
    rooms = {name for name in dir(package) if isinstance(getattr(package, name), ModuleType)}
    assert set(dir(package)) - rooms == checked_names(package)
    assert dir(package) == sorted(dir(package)) and len(dir(package)) > 10


def test_the_rooms_are_attributes():
    folder = pathlib.Path(pa.__path__[0])
    rooms = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert rooms == {name for name in dir(pa) if isinstance(getattr(pa, name), ModuleType)}
    assert pa.planning.solve is pa.solve  # pyright: ignore[reportAttributeAccessIssue]


def test_what_a_user_writes_is_public():
    assert {"ActionBox", "Decision", "StochasticPolicy", "Problem", "solve", "make_task", "SAC"} <= set(dir(pa))


def test_a_star_imports_every_name():
    names: dict[str, object] = {}
    exec("from planahead import *", names)
    assert set(names) - {"__builtins__"} == checked_names(pa)


def test_the_citation_has_the_version():
    citation = pathlib.Path(__file__).parents[1] / "CITATION.cff"
    assert f"version: {pa.__version__}\n" in citation.read_text()


@pytest.mark.parametrize("package", LAZY, ids=lambda package: package.__name__)
def test_another_name_is_not(package: ModuleType):
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'trane'"):
        _ = package.trane


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["trian"], ["train", "sac", "cartpole", "--stps", "3"]]
)
def test_help_and_mistakes_do_not_wait_for_jax(arguments: list[str]):
    program = (
        "import sys\nfrom planahead.experiments.command import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('jax' in sys.modules, 'matplotlib' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert "False False" in done.stderr.splitlines()
    assert done.returncode == (0 if "--help" in arguments else 2)


def test_gymnasium_knows_the_tasks_after_the_import():
    program = (
        "import planahead, gymnasium, sys; "
        "print(sorted(n for n in gymnasium.registry if 'planahead' in n), 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    races = ("RaceCircle", "RaceHorizontal", "RaceSplitS", "RaceSplitSCpc", "RaceSplitSReal", "RaceVertical")
    names = (
        "CartPole",
        "Chain",
        "Hover",
        "LinearSystem",
        "MassSpringDamper",
        "Obstacles",
        "Pillars",
        *races,
        "WindMazeEasy",
        "WindMazeHard",
        "WindMazeWalls",
    )
    assert done.stdout.strip() == f"{[f'planahead/{name}-v0' for name in names]} False"
