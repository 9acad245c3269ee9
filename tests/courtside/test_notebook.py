"""Running the notebook of a report: what is kept when it fails, dies or is interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from courtside import notebook
from courtside.errors import RunError


def _write(path: Path, *cells: str) -> Path:
    node = nbformat.v4.new_notebook()
    parameters = nbformat.v4.new_code_cell("shirt = 1\nteam = None", metadata={"tags": ["parameters"]})
    node.cells = [parameters, *map(nbformat.v4.new_code_cell, cells)]
    node.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(node, path)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "02-track-video.ipynb"


def _names(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir())


def test_parameters_reach_the_cells(tmp_path, out):
    source = _write(tmp_path / "a.ipynb", "print(shirt, team)")
    notebook.run(source, out, {"shirt": 23, "team": None})
    cell = nbformat.read(out, as_version=4).cells[-1]
    assert cell["outputs"][0]["text"] == "23 None\n"
    assert _names(out) == ["02-track-video.ipynb"]


def test_a_parameter_that_the_notebook_lacks_is_named(tmp_path, out):
    with pytest.raises(RunError, match="has no parameter colour: add it"):
        notebook.run(_write(tmp_path / "a.ipynb"), out, {"shirt": 23, "colour": "red"})
    assert _names(out) == []


def test_a_failed_cell_is_named_and_what_ran_until_then_stays(tmp_path, out):
    source = _write(tmp_path / "a.ipynb", "print(shirt)", "1 / 0")
    with pytest.raises(RunError, match=r"failed at In \[3\] \(ZeroDivisionError: division by zero\)"):
        notebook.run(source, out, {})
    assert _names(out) == ["02-track-video.failed.ipynb"]
    notebook.run(_write(tmp_path / "a.ipynb", "print(shirt)"), out, {})
    assert _names(out) == ["02-track-video.ipynb"]


def test_a_kernel_that_was_killed_is_no_success(tmp_path, out):
    source = _write(tmp_path / "a.ipynb", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(RunError, match="kernel of the report's notebook died"):
        notebook.run(source, out, {})
    assert _names(out) == []


_WORK = (
    "import sys, pathlib; from courtside import notebook; notebook.run(*map(pathlib.Path, sys.argv[1:]), {})"
)


def test_ctrl_c_stops_a_notebook(tmp_path, out, wait_for):
    started = tmp_path / "started"
    cell = f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(600)"
    source = _write(tmp_path / "a.ipynb", cell)
    command = [sys.executable, "-c", _WORK, str(source), str(out)]
    worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(started.exists, worker)
    worker.send_signal(signal.SIGINT)
    _, said = worker.communicate(timeout=60)
    assert said.strip().endswith("KeyboardInterrupt")
    assert _names(out) == []


def test_an_interrupted_kernel_is_no_failed_notebook(tmp_path, out):
    source = _write(tmp_path / "a.ipynb", "import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    with pytest.raises(KeyboardInterrupt):
        notebook.run(source, out, {})
    assert _names(out) == []


def test_the_notebook_of_the_report_is_in_the_checkout(repository):
    assert notebook.find() == repository / "notebooks" / "02-track-video.ipynb"
