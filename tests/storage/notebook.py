"""Run docs/explore.ipynb on the demo study's rows; as a command, keep what its cells print.

``python -m tests.storage.notebook`` after a change of the notebook or of the rows.
"""

import shutil
import tempfile
from pathlib import Path

import nbclient
import nbformat

from scripts.demo_rows import unpack

NOTEBOOK = Path(__file__).parents[2] / "docs" / "explore.ipynb"
_TIMEOUT_S = 120


def executed(folder: Path) -> nbformat.NotebookNode:
    """Return the notebook as it is after a run in a folder; a cell that fails raises."""
    (folder / "docs").mkdir()
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
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        done = executed(Path(place))
    done.metadata = nbformat.read(NOTEBOOK, as_version=4).metadata
    nbformat.write(done, NOTEBOOK)
