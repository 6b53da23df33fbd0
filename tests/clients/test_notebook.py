"""The notebook of deploy/clients/examples runs on a real daemon; its stored outputs are whole and small.

python -m tests.clients.test_notebook runs it and stores the outputs.
"""

import base64
import re
from pathlib import Path
from typing import Any

import cv2
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from tests.clients.clients import CLIENTS
from tests.support.program import PATIENCE, Program

pytestmark = pytest.mark.process

NOTEBOOK = CLIENTS / "examples" / "count_in_zone.ipynb"


def run(notebook: Any) -> Any:
    """``notebook`` executed on a daemon that is started as it says; nothing but the port is changed."""
    text = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown").replace("\\\n", "")
    [command] = re.findall(r"^    maskcast run (.*)$", text, re.MULTILINE)
    source, *prompts = re.findall(r'"([^"]*)"', command)
    daemon = Program(source, "--prompt", *prompts)
    try:
        endpoint = daemon.address("masks")
        for cell in notebook.cells:
            cell.source = cell.source.replace("tcp://127.0.0.1:5555", endpoint)
        NotebookClient(notebook, timeout=PATIENCE).execute()
        for cell in notebook.cells:
            cell.source = cell.source.replace(endpoint, "tcp://127.0.0.1:5555")
    finally:
        daemon.process.terminate()
        daemon.end()
    return notebook


def outputs(notebook: Any) -> tuple[str, list[np.ndarray]]:
    """What the cells printed, and the pictures that they drew."""
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.text for output in shown if output.output_type == "stream" and output.name == "stdout")
    pngs = [base64.b64decode(output.data["image/png"]) for output in shown if "image/png" in output.get("data", {})]
    return printed, [cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) for png in pngs]


def check(notebook: Any) -> None:
    printed, pictures = outputs(notebook)
    [(frames, objects, most)] = re.findall(r"(\d+) frames, (\d+) objects, \d+ to (\d+) of them inside", printed)
    assert int(frames) == 120
    assert int(objects) >= 2
    assert int(most) >= 1
    assert len(pictures) == 2
    assert min(picture.std() for picture in pictures) > 10


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's own packages
def test_the_notebook_runs_on_a_daemon() -> None:
    check(run(nbformat.read(NOTEBOOK, as_version=4)))


def test_its_stored_outputs_are_whole_and_small() -> None:
    check(nbformat.read(NOTEBOOK, as_version=4))
    assert NOTEBOOK.stat().st_size < 100_000


def store(path: Path = NOTEBOOK) -> None:
    notebook = run(nbformat.read(path, as_version=4))
    check(notebook)
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":  # warnings of this machine's packages
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(notebook, path)


if __name__ == "__main__":
    store()
