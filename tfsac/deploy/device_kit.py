"""The device kit: the files that go with an exported policy; tfsac itself runs policies with them, too."""

import importlib.util
import shutil
from pathlib import Path

# In a wheel the kit lies inside the package, in a checkout beside it.
_PLACES = (Path(__file__).parents[1] / "_device_kit", Path(__file__).parents[2] / "export")
FOLDER = next((place for place in _PLACES if place.is_dir()), _PLACES[0])

_spec = importlib.util.spec_from_file_location("tfsac_run_policy", FOLDER / "run_policy.py")
run_policy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run_policy)


def copy_to(out, name=None):
    """Puts the kit into a directory: the runner, its requirements, README and C files; no released policies.

    Args:
        out: the directory, which holds a policy.h.
        name: prefix of its symbols, see `c_header.names`; the C files then use it.
    """
    for file in ("run_policy.py", "requirements.txt", "README.md"):
        shutil.copy(FOLDER / file, out)
    shutil.copytree(FOLDER / "c", Path(out) / "c", ignore=shutil.ignore_patterns("__pycache__", "build"))
    if name is not None:
        for path in (Path(out, "README.md"), *Path(out, "c").glob("*.[ch]")):
            text = path.read_text(encoding="utf-8")
            for ours, theirs in (("tfsac_policy_", name), ("TFSAC_POLICY_", name.upper()), ("TFSAC_", name.upper())):
                text = text.replace(ours, f"{theirs}_")
            path.write_text(text, encoding="utf-8")
