"""Run docs/tutorial.ipynb on the demo models; as a command, keep what its cells print.

``python -m tests.unit.api.tutorial`` after a change of the notebook.
"""

import os
from pathlib import Path

import nbclient
import nbformat

NOTEBOOK = Path(__file__).parents[3] / "docs" / "tutorial.ipynb"
_TIMEOUT_S = 300
_CHART = "alt.Chart(...)"


def executed() -> nbformat.NotebookNode:
    """Return the notebook as it is after a run in its folder; a cell that fails raises."""
    os.environ |= {"EDITCOLLAPSE_DEVICE": "cpu", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
        record_timing=False,
        coalesce_streams=True,
    )
    client.execute()
    return notebook


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the text of each output but the picture's and what libraries warn of."""
    return [
        output["data"]["text/plain"] if "data" in output else output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if not is_unsteady(output)
    ]


def is_unsteady(output: nbformat.NotebookNode) -> bool:
    """Return whether an output depends on what is installed, and is not kept."""
    return is_chart(output) or output.get("name") == "stderr"


def is_chart(output: nbformat.NotebookNode) -> bool:
    """Return whether an output is a picture of Altair's."""
    return bool(output.get("data", {}).get("text/plain") == _CHART)


if __name__ == "__main__":
    done = executed()
    for cell in done.cells:
        if "outputs" in cell:
            cell["outputs"] = [each for each in cell["outputs"] if not is_unsteady(each)]
    done.metadata = nbformat.read(NOTEBOOK, as_version=4).metadata
    nbformat.write(done, NOTEBOOK)
