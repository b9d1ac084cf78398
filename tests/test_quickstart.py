"""The notebook of docs/ runs as it stands, in a kernel of its own."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "quickstart.ipynb"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the kernel's and its client's own
def test_the_notebook_runs_and_shows_what_it_says(tmp_path):
    shutil.copy(NOTEBOOK, tmp_path)
    notebook = nbformat.read(tmp_path / NOTEBOOK.name, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    evaluations = "".join(output.text for output in outputs[1]).splitlines()
    assert [line.split()[0] for line in evaluations] == ["504", "1000", "1500"]
    action, again, step = (outputs[i][-1].data["text/plain"] for i in (2, 3, 4))
    assert action == again and action.startswith("array([")
    assert step == "1750"
    said = "".join(str(output) for cell in outputs for output in cell)
    assert "Warning" not in said and "WARNING" not in said, said
