"""The walls of the house: the direction of the flow, and Dagster on one side of it only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import stilt_assets

HOUSE = Path(stilt_assets.__file__).parent
FILES = {path.relative_to(HOUSE).as_posix(): path for path in sorted(HOUSE.rglob("*.py"))}
GROUND = (
    "arrays",
    "bucket",
    "disk",
    "errors",
    "faults",
    "filesystem",
    "grid",
    "plain_yaml",
    "reasons",
    "scratch",
    "settings",
    "store",
    "zarr_folder",
)
FLOW = [
    word.strip()
    for line in (stilt_assets.__doc__ or "").splitlines()
    if "->" in line
    for word in line.split("->")
    if word.strip()
]
DOORS = {  # through which a command reaches an instance of Dagster
    "stilt_assets.defs.partitions.add_to_instance",
    "stilt_assets.defs.metrics.queue",
    *(f"stilt_assets.defs.backfill.{act}" for act in ("start", "failed", "batches", "pause", "resume", "cancel")),
}
LINES_PER_FILE = 320
LINES_PER_FUNCTION = 40


def knows_dagster(file: str) -> bool:
    return file.startswith("defs/") or file == "definitions.py"


def imports_of(file: str) -> Iterator[tuple[str, bool]]:
    """Full names that a file imports, each with whether it does so inside a function."""
    tree = ast.parse(FILES[file].read_text())
    at_the_top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("__import__", "import_module")):
            names = [str(ast.literal_eval(node.args[0]))]
        yield from ((name, id(node) not in at_the_top) for name in names)


def rooms_of(file: str) -> set[str]:
    """Modules and packages of the house that a file imports, its own package aside."""
    words = {name.split(".")[1] for name, _ in imports_of(file) if name.startswith("stilt_assets.")}
    return words - {room_of(file)}


def room_of(file: str) -> str:
    return file.split("/", maxsplit=1)[0].removesuffix(".py")


def code_lines(function: ast.AST, lines: list[str]) -> int:
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    first = function.body[0]
    told = range(first.lineno, (first.end_lineno or 0) + 1) if ast.get_docstring(function) else ()
    numbers = set(range(function.lineno, (function.end_lineno or 0) + 1)) - set(told)
    return sum(1 for number in numbers if lines[number - 1].strip() and not lines[number - 1].strip().startswith("#"))


def test_the_flow_starts_with_the_scene_and_ends_with_the_jacobian() -> None:
    assert (FLOW[0], FLOW[-1]) == ("scene", "jacobian")
    assert len(FLOW) == len(set(FLOW)) >= 10
    assert {room_of(file) for file in FILES}.issuperset({*FLOW, *GROUND})


@pytest.mark.parametrize(
    "word",
    FLOW,
)
def test_each_word_of_the_flow_imports_only_from_those_to_its_left(word: str) -> None:
    allowed = {*FLOW[: FLOW.index(word)], *GROUND}
    for file in FILES:
        if room_of(file) == word:
            assert rooms_of(file) <= allowed, file


def test_the_ground_stands_below_the_flow() -> None:
    for file in FILES:
        if room_of(file) in GROUND:
            assert rooms_of(file) <= set(GROUND), file


def test_no_two_rooms_import_each_other() -> None:
    imports: dict[str, set[str]] = {}
    for file in FILES:
        imports[room_of(file)] = imports.get(room_of(file), set()) | rooms_of(file)
    while imports:
        free = {room for room, needs in imports.items() if not needs & imports.keys()}
        assert free, f"a circle among {sorted(imports)}"
        imports = {room: needs for room, needs in imports.items() if room not in free}


def test_no_one_outside_the_definitions_names_dagster_not_even_lazily() -> None:
    for file in FILES:
        named = {name for name, _ in imports_of(file) if name.startswith("dagster")}
        assert knows_dagster(file) or not named, file


def test_only_a_command_reaches_into_the_definitions_and_only_while_it_runs() -> None:
    for file in FILES:
        if knows_dagster(file):
            continue
        reached = {(name, lazily) for name, lazily in imports_of(file) if room_of_name(name) in {"defs", "definitions"}}
        assert reached <= {(door, True) for door in DOORS}, file
        assert room_of(file) == "cli" or not reached, file


def room_of_name(name: str) -> str:
    return name.split(".")[1] if name.startswith("stilt_assets.") else ""


def test_nothing_is_called_by_a_name_that_says_nothing() -> None:
    empty = {"utils", "helpers", "common", "core", "base", "misc", "manager"}
    for file in FILES:
        words = set(file.removesuffix(".py").replace("/", "_").split("_"))
        assert not words & (empty | {word.removesuffix("s") for word in empty if word != "misc"}), file


def test_no_file_holds_two_things() -> None:
    assert {file for file, path in FILES.items() if len(path.read_text().splitlines()) > LINES_PER_FILE} == set()


def test_no_function_holds_two_things() -> None:
    long = set()
    for file, path in FILES.items():
        lines = path.read_text().splitlines()
        functions = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef))
        long |= {f"{file}:{each.name}" for each in functions if code_lines(each, lines) > LINES_PER_FUNCTION}
    assert long == set()


def test_every_module_opens_with_what_it_is_for() -> None:
    for file, path in FILES.items():
        assert ast.get_docstring(ast.parse(path.read_text())), file


def test_the_science_runs_without_dagster_being_loaded() -> None:
    modules = [
        ".".join(("stilt_assets", *Path(file).with_suffix("").parts)).removesuffix(".__init__")
        for file in FILES
        if not knows_dagster(file)
    ]
    program = (
        f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
        "print([name for name in sys.modules if name.split('.')[0].startswith('dagster')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
