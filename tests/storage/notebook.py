"""Run docs/explore.ipynb on the demo study's rows and a demo model; as a command, keep its outputs.

``python -m tests.storage.notebook`` after a change of the notebook or of the rows.
"""

import os
import shutil
import tempfile
from pathlib import Path

import nbclient
import nbformat

from scripts.demo_rows import unpack

_ROOT = Path(__file__).parents[2]
NOTEBOOK = _ROOT / "docs" / "explore.ipynb"
_TIMEOUT_S = 120


def executed(folder: Path) -> nbformat.NotebookNode:
    """Return the notebook as it is after a run in a folder; a cell that fails raises."""
    os.environ |= {"EDITCOLLAPSE_DEVICE": "cpu", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    (folder / "docs").mkdir()
    (folder / "demo").symlink_to(_ROOT / "demo")
    notebook = nbformat.read(shutil.copy(NOTEBOOK, folder / "docs"), as_version=4)
    unpack(folder / "results")
    resources = {"metadata": {"path": str(folder / "docs")}}
    client = nbclient.NotebookClient(
        notebook,
        timeout=_TIMEOUT_S,
        kernel_name="python3",
        resources=resources,
        record_timing=False,
    )
    client.execute()
    return notebook


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the text of each output."""
    return [
        output["data"]["text/plain"] if "data" in output else output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if not _is_warning(output)
    ]


def _is_warning(output: nbformat.NotebookNode) -> bool:
    """Return whether an output is what libraries warn of: it depends on what is installed."""
    return bool(output.get("name") == "stderr")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        done = executed(Path(place))
    for cell in done.cells:
        if "outputs" in cell:
            cell["outputs"] = [each for each in cell["outputs"] if not _is_warning(each)]
    done.metadata = nbformat.read(NOTEBOOK, as_version=4).metadata
    nbformat.write(done, NOTEBOOK)
