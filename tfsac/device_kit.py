"""The device kit: what travels with an exported policy, and how tfsac itself uses it."""

import importlib.util
import shutil
from pathlib import Path

# In a wheel the kit lies inside the package, in a checkout beside it.
_PLACES = (Path(__file__).parent / "_device_kit", Path(__file__).parent.parent / "export")
FOLDER = next((place for place in _PLACES if place.is_dir()), _PLACES[0])

_spec = importlib.util.spec_from_file_location("tfsac_run_policy", FOLDER / "run_policy.py")
run_policy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run_policy)


def copy_to(out):
    """Puts the kit into a directory: the runner, its requirements, README and C files; no released policies."""
    for name in ("run_policy.py", "requirements.txt", "README.md"):
        shutil.copy(FOLDER / name, out)
    shutil.copytree(FOLDER / "c", Path(out) / "c", ignore=shutil.ignore_patterns("__pycache__", "build"))
