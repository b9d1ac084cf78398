"""Imports run one way, from room to room: read from the source, whatever is imported where."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tfsac"
PATHS = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = [name for name in PATHS if not name.endswith("__init__")]
COMMANDS = {"train", "evaluate", "export", "plot", "sweep", "diagnose", "demos", "stress"}
# Each room may import what stands to the left of it, and what is its own.
ROOMS = ["ground", "policy", "data", "algorithms", "run", "diagnosis", "deploy", "above"]
GROUND = {"errors", "quiet_tensorflow", "setting_types", "standard_output", "statistics", "trust"}
ABOVE = COMMANDS | {"api", "__main__"}


def imports(path, whole=True):
    """Dotted names of modules and what is taken from them; without those inside functions unless whole."""
    names = set()

    def visit(node):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif whole or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for child in ast.iter_child_nodes(node):
                visit(child)

    visit(ast.parse(path.read_text()))
    return names


def ours(module, whole=True):
    return {name.removeprefix("tfsac.") for name in imports(PATHS[module], whole)} & set(MODULES) - {module}


def reached(module):
    """All modules of ours that importing this one imports."""
    names, queue = set(), [module]
    while queue:
        for name in ours(queue.pop(), whole=False) - names:
            names.add(name)
            queue.append(name)
    return names


def foreign(module):
    """Top names of all other packages that importing this module imports."""
    return {
        name.partition(".")[0]
        for x in {module} | reached(module)
        for name in imports(PATHS[x], whole=False)
        if not name.startswith("tfsac")
    }


def room(module):
    if module in GROUND:
        return "ground"
    return "above" if module in ABOVE else module.partition(".")[0]


def test_the_reader_of_imports_reads_them():
    """Else the tests here would show nothing."""
    assert {"run.checkpoint", "run.loop", "data.envs", "errors", "quiet_tensorflow"} <= ours("train")
    assert {"algorithms.losses", "algorithms.adam", "data.replay", "policy"} <= reached("algorithms.sac")
    assert "gymnasium" in foreign("data.collector") and "ray" in foreign("sweep")
    assert "data.remote_collectors" in ours("run.loop") - ours("run.loop", whole=False)  # inside a function
    assert len(MODULES) > 40 and {room(module) for module in MODULES} == set(ROOMS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way_from_room_to_room(module):
    place = ROOMS.index(room(module))
    assert {name for name in ours(module) if ROOMS.index(room(name)) > place} == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_itself_in_the_end(module):
    assert module not in reached(module)


@pytest.mark.parametrize("module", sorted(GROUND))
def test_the_ground_floor_imports_nothing_of_ours_but_the_errors(module):
    assert ours(module) <= {"errors"}


# So that each of these can be read alone.
ALONE = {
    "policy": set(),
    "data.replay": set(),
    "data.rollout": {"statistics"},
    "algorithms.losses": {"quiet_tensorflow"},
    "algorithms.adam": {"quiet_tensorflow"},
    "algorithms.squashed_gaussian": {"quiet_tensorflow"},
    "algorithms.networks": {"policy", "quiet_tensorflow"},
    "algorithms.fold": {"policy", "quiet_tensorflow"},
    "run.config": {"setting_types"},
    "run.directory": set(),
    "run.interrupts": set(),
    "run.tables": set(),
    "run.pictures": {"run.tables", "statistics"},
}


@pytest.mark.parametrize("module", ALONE)
def test_what_can_be_read_alone_imports_only_what_it_says(module):
    assert ours(module) - {"errors"} == ALONE[module] - {"errors"}


@pytest.mark.parametrize(
    "module", [name for name in MODULES if room(name) in ("data", "deploy")] + ["evaluate", "plot"]
)
def test_what_acts_and_deploys_needs_nothing_of_what_learns(module):
    """A policy is exported and evaluated without its algorithm."""
    assert not {name for name in reached(module) if room(name) == "algorithms" or name == "run.loop"}


@pytest.mark.parametrize("module", MODULES)
def test_nobody_imports_a_command(module):
    assert ours(module) & COMMANDS <= ({"train"} if module == "sweep" else set())  # a sweep is many runs


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"sweep", "data.remote_collectors"}))
def test_nobody_needs_ray_but_who_is_for_it(module):
    assert "ray" not in foreign(module)


@pytest.mark.parametrize("module", MODULES)
def test_only_config_imports_gin_and_of_it_only_the_parser(module):
    gin = {name for name in imports(PATHS[module]) if name.partition(".")[0] == "gin"}
    assert gin == ({"gin.config_parser"} if module == "run.config" else set())


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_tensorflow_as_it_is_imported(module):
    """Nor ever by itself: quiet_tensorflow does, when it is first needed."""
    heavy = {"tensorflow", "keras", "tensorflow_probability", "tf_keras"}
    assert not foreign(module) & heavy
    assert not {name.partition(".")[0] for name in imports(PATHS[module])} & heavy


@pytest.mark.parametrize("name", [name for name in PATHS if name.endswith("__init__") and name != "__init__"])
def test_a_room_has_nothing_at_its_door(name):
    """Or Ray's collectors, which import data.collector, would import the whole house."""
    assert PATHS[name].read_text() == ""


# Every module in one process, but those that import what may not be installed, and those whose classes are not ours.
PROGRAM = """
import importlib, logging, os, signal, sys, warnings
import gymnasium, numpy  # Gymnasium sets PYGAME_HIDE_SUPPORT_PROMPT

def settings():
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    hooks = [sys.excepthook, sys.displayhook, *logging.root.handlers, logging.root.level]
    return dict(os.environ), signals, hooks, numpy.geterr(), list(sys.path), os.getcwd()

before = settings()
for name in sys.argv[1:]:
    importlib.import_module(f"tfsac.{name}")
    assert settings() == before, name
heavy = {"tensorflow", "keras", "tensorflow_probability", "matplotlib.pyplot", "ray"} & set(sys.modules)
assert not heavy, heavy
import matplotlib
assert matplotlib.rcParams._get_backend_or_none() is None
"""


def test_importing_changes_nothing_and_imports_nothing_heavy():
    subclasses = ("deploy.formats.graph", "algorithms.normalised_q")
    names = [name for name in MODULES if not foreign(name) & {"ray", "optuna"} and name not in subclasses]
    assert len(names) > 40
    done = subprocess.run([sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_nothing_unpickles_or_evaluates(module):
    tree = ast.parse(PATHS[module].read_text())
    modules = {name.partition(".")[0] for name in imports(PATHS[module])}
    assert not modules & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in ("eval", "exec", "compile", "keras.models.load_model", "keras.saving.load_model"), name
            if name == "np.load":  # numpy's default is False; a reader should not have to know
                assert {x.arg: ast.unparse(x.value) for x in node.keywords}.get("allow_pickle") == "False"


def test_modules_named_by_text_are_imported_in_one_place():
    """Where they have been agreed to."""
    places = {
        module
        for module in MODULES
        for node in ast.walk(ast.parse(PATHS[module].read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__")
        if not isinstance(node.args[0], ast.Constant)
    }
    assert places == {"trust"}


def test_what_travels_to_a_device_imports_nothing_of_ours():
    for path in (PACKAGE.parent / "export").glob("**/*.py"):
        assert not any(name.partition(".")[0] == "tfsac" for name in imports(path)), path


def test_the_folder_gin_holds_data_only():
    """A gin/__init__.py would shadow the library."""
    assert {path.suffix for path in (PACKAGE.parent / "gin").rglob("*") if path.is_file()} == {".gin"}
