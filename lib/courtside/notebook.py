"""The notebook that a report is made from: where it is, and how it is run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from courtside.errors import RunError

__all__ = ["find", "run"]


def find(name: str = "02-track-video") -> Path:
    """The notebook called ``name``; RunError where Courtside isn't in its checkout."""
    path = Path(__file__).resolve().parents[2] / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        raise RunError(f"the notebook {path} is missing: install Courtside from its checkout by make setup")
    return path


def run(source: Path, path: Path, parameters: Mapping[str, Any]) -> None:
    """Run ``source`` with ``parameters`` and keep the executed notebook at ``path``.

    Raises RunError when it fails; what it did until then stays beside ``path`` as ``<name>.failed.ipynb``.
    """
    import nbclient.exceptions
    import papermill

    unknown = sorted(set(parameters) - set(papermill.inspect_notebook(str(source))))
    if unknown:
        raise RunError(
            f"{source} has no parameter {', '.join(unknown)}: add it to the cell tagged parameters"
        )
    part, failed = path.with_suffix(".part.ipynb"), path.with_suffix(".failed.ipynb")
    options: dict[str, Any] = {"kernel_name": "python3", "progress_bar": False, "cwd": str(path.parent)}
    # The kernel's log has nothing a reader could act on: local sockets, and traces after Ctrl-C.
    options["extra_arguments"] = ["--log-level=CRITICAL"]
    try:
        try:
            papermill.execute_notebook(str(source), str(part), dict(parameters), **options)
        except RuntimeError as error:
            # The start of a kernel fails now and then, for no lasting reason.
            if isinstance(error, papermill.PapermillExecutionError) or "Kernel died before" not in str(error):
                raise
            papermill.execute_notebook(str(source), str(part), dict(parameters), **options)
    except papermill.PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":  # the kernel may tell of Ctrl-C before it stops this process
            raise KeyboardInterrupt from error
        os.replace(part, failed)
        said = f"{error.ename}: {error.evalue}".strip().splitlines()[0]
        raise RunError(
            f"the report's notebook failed at In [{error.exec_count}] ({said}): see {failed}"
        ) from error
    except nbclient.exceptions.DeadKernelError as error:
        raise RunError(
            "the kernel of the report's notebook died, perhaps for lack of memory: try again"
        ) from error
    else:
        os.replace(part, path)
        failed.unlink(missing_ok=True)
    finally:
        part.unlink(missing_ok=True)
