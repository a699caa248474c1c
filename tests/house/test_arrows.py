"""The map in `tailrace.__doc__` and the code are one thing: arrows go in no circle, libraries stay in their rooms."""

import ast
import graphlib
from pathlib import Path

import pytest

import tailrace

PACKAGE = Path(tailrace.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports anywhere: typing-only and in-function imports count."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where an arrow points"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_its_room_may(path):
    room = room_of(path)
    if room in {"__init__", "__main__"}:
        return
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("tailrace.")} - {"__version__", room}

    assert room in tailrace.ARROWS, f"{room} is no room of the map; add it to ARROWS or move the file"
    assert set() == ours - tailrace.ARROWS[room]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_library_is_imported_only_in_the_rooms_that_own_it(path):
    room = room_of(path)
    libraries = {name.split(".")[0] for name in imports_of(path)}

    strayed = {name for name in libraries if name in tailrace.OWNED and room not in tailrace.OWNED[name]}

    assert set() == strayed


def test_every_room_of_the_map_exists():
    rooms = {room_of(path) for path in FILES} - {"__init__", "__main__"}

    assert rooms == set(tailrace.ARROWS)


def test_allowed_arrows_go_in_no_circle():
    order = list(graphlib.TopologicalSorter(tailrace.ARROWS).static_order())

    assert set(order) == set(tailrace.ARROWS)


def test_allowed_arrows_never_point_up():
    floor_of = _floors()

    assert set(floor_of) == set(tailrace.ARROWS)
    for room, others in tailrace.ARROWS.items():
        assert set() == {other for other in others if floor_of[other] > floor_of[room]}, room


def _floors() -> dict[str, int]:
    """The floor of every room, as the map shows it."""
    assert tailrace.__doc__ is not None
    found: dict[str, int] = {}
    floor = 0
    for line in tailrace.__doc__.partition("\n\nThe walk of")[0].splitlines():
        if line.startswith("    "):
            floor = int(line[10]) if line.startswith("    floor ") else floor
            found |= {word: floor for word in line.split() if word in tailrace.ARROWS}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_unpickles_or_evaluates(path):
    banned = {"pickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
    tree = ast.parse(path.read_text())
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}

    assert set() == banned & {name.split(".")[0] for name in imports_of(path)}
    assert set() == {"eval", "exec", "__import__"} & called


def test_the_domain_reads_no_clock_no_environment_and_does_no_io():
    banned = {"time", "os", "asyncio", "socket", "subprocess", "uuid", "secrets", "threading", "logging", "pathlib"}

    for path in FILES:
        if room_of(path) == "domain":
            assert set() == banned & {name.split(".")[0] for name in imports_of(path)}, path


def test_inside_the_domain_arrows_point_down():
    from tailrace.domain import LEVELS

    level_of = {module: number for number, modules in enumerate(LEVELS) for module in modules}
    for path in FILES:
        if room_of(path) != "domain" or (
            path.parent == PACKAGE / "domain" == path.parent and path.name == "__init__.py"
        ):
            continue
        module = path.relative_to(PACKAGE / "domain").parts[0].removesuffix(".py")
        for name in imports_of(path):
            other = name.split(".")[2] if name.startswith("tailrace.domain.") else module
            assert other == module or level_of[other] < level_of[module], f"{module} imports {other}"
