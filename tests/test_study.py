"""The study's faults are patches of the code as it stands: they must go on to apply to it."""

import subprocess
import sys
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[1] / "benchmarks" / "study"


@pytest.mark.parametrize("patch", sorted((STUDY / "patches").glob("*.patch")), ids=lambda path: path.stem)
def test_a_fault_changes_the_copy_and_still_compiles(patch, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(STUDY))
    import ablation

    folders = [tmp_path / name for name in ("none", patch.stem)]
    texts = []
    for folder in folders:
        folder.mkdir()
        ablation.broken_copy(folder.name, folder)
        texts.append({path.name: path.read_text() for path in (folder / "tfsac").glob("*.py")})
    changed = [name for name, text in texts[0].items() if texts[1][name] != text]
    assert len(changed) == 1
    subprocess.run([sys.executable, "-m", "py_compile", folders[1] / "tfsac" / changed[0]], check=True)
