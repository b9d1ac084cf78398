"""Imports run one way: read from the source, whatever is imported where."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tfsac"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
COMMANDS = {"train", "evaluate", "export", "plot", "sweep"}


def imports(path, whole=True):
    """Names of the modules that a file imports, 'tfsac.x' for ours; without those inside functions unless whole."""
    found = set()

    def visit(node):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            inside = (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "tfsac" else {node.module}
            )
            found.update(inside)
        elif whole or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for child in ast.iter_child_nodes(node):
                visit(child)

    visit(ast.parse(path.read_text()))
    return found


def ours(module, whole=True):
    names = {name.removeprefix("tfsac.") for name in imports(PACKAGE / f"{module}.py", whole) if "tfsac." in name}
    return names & set(MODULES)


def reached(module):
    """All modules of ours that importing this one imports."""
    found, queue = set(), [module]
    while queue:
        for name in ours(queue.pop(), whole=False) - found:
            found.add(name)
            queue.append(name)
    return found


def foreign(module):
    """Top names of all other packages that importing this module imports."""
    return {
        name.partition(".")[0]
        for x in {module} | reached(module)
        for name in imports(PACKAGE / f"{x}.py", whole=False)
        if not name.startswith("tfsac")
    }


def test_the_reader_of_imports_reads_them():
    """Else the tests here would show nothing."""
    assert {"checkpoint", "sac", "envs", "errors", "quiet_tensorflow"} <= ours("train")
    assert {"losses", "adam", "replay", "numpy_policy"} <= reached("sac")
    assert "tensorflow" in foreign("sac") and "gymnasium" in foreign("collector")


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_itself_in_the_end(module):
    assert module not in reached(module)


# The ground floor: nothing of ours but the errors, so that each can be read alone.
ALONE = "errors losses replay run_log adam config run_dir numpy_policy envs plot quiet_tensorflow"


@pytest.mark.parametrize("module", ALONE.split())
def test_the_ground_floor_imports_nothing_of_ours(module):
    assert ours(module) <= {"errors"}


ALLOWED = {
    "networks": {"numpy_policy"},
    "policy": set(),
    "collector": {"envs", "errors", "replay"},
    "rollout": {"envs", "errors"},
    "checkpoint": {"errors", "numpy_policy"},
    "agent": {"adam", "errors", "numpy_policy", "replay"},
    "sac": {"losses", "networks", "policy", "adam", "agent"},
    "sac_v1": {"losses", "networks", "policy", "adam", "agent"},
    "remote_collectors": {"collector", "envs", "errors"},
    "saved_model": {"networks", "numpy_policy", "policy", "envs", "errors", "quiet_tensorflow"},
}


@pytest.mark.parametrize("module", ALLOWED)
def test_the_next_floor_imports_what_lies_below(module):
    assert ours(module) <= ALLOWED[module]


LEARNING = {"losses", "adam", "agent", "sac", "sac_v1", "replay", "collector", "run_log", "run_dir"}


@pytest.mark.parametrize("module", sorted(set(MODULES) - LEARNING - {"train", "sweep", "remote_collectors"}))
def test_only_the_trainer_needs_what_learns(module):
    assert not reached(module) & LEARNING


@pytest.mark.parametrize("module", MODULES)
def test_nobody_imports_a_command(module):
    allowed = {"train": {"plot"}, "sweep": {"plot", "train"}}  # a run ends with its pictures; a sweep is many runs
    assert ours(module) & COMMANDS <= allowed.get(module, set())


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"sweep", "remote_collectors"}))
def test_nobody_needs_ray_but_who_is_for_it(module):
    assert "ray" not in foreign(module)


@pytest.mark.parametrize("module", MODULES)
def test_only_config_imports_gin_and_of_it_only_the_parser(module):
    gin = {name for name in imports(PACKAGE / f"{module}.py") if name.partition(".")[0] == "gin"}
    assert gin == ({"gin.config_parser"} if module == "config" else set())


@pytest.mark.parametrize(
    "module",
    [
        "evaluate", "artefact", "numpy_policy", "envs", "replay", "collector", "remote_collectors", "rollout",
        "checkpoint", "plot",
    ],
)  # fmt: skip
def test_what_acts_and_stores_starts_without_tensorflow(module):
    assert not foreign(module) & {"tensorflow", "keras", "tensorflow_probability", "tf_keras"}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_unpickles_or_evaluates(module):
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    assert not imports(PACKAGE / f"{module}.py") & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in ("eval", "exec", "compile", "keras.models.load_model", "keras.saving.load_model"), name
            if name == "np.load":  # numpy's default is False; a reader should not have to know
                assert {x.arg: ast.unparse(x.value) for x in node.keywords}.get("allow_pickle") == "False"


def test_what_travels_to_a_device_imports_nothing_of_ours():
    for path in (PACKAGE.parent / "export").glob("**/*.py"):
        assert not any(name.partition(".")[0] == "tfsac" for name in imports(path)), path


def test_the_folder_gin_holds_data_only():
    """A gin/__init__.py would shadow the library."""
    assert {path.suffix for path in (PACKAGE.parent / "gin").rglob("*") if path.is_file()} == {".gin"}
