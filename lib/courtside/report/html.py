"""An executed notebook as one HTML file, without its code."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import nbformat
from nbconvert.exporters import HTMLExporter
from traitlets.config import Config

from courtside.errors import RunError
from courtside.report.page import outside_references, whole_page

__all__ = ["NOTEBOOK_ONLY", "to_html", "write_html"]

NOTEBOOK_ONLY = "notebook-only"
"""Cells with this tag are for whoever works in the notebook; the page leaves them out."""


def write_html(notebook: str | Path, path: str | Path) -> Path:
    """Turn the executed ``notebook`` into the HTML file ``path``; returns ``path``.

    Raises :class:`RunError` when the notebook cannot be read, was never executed, or an output in it would
    load something from elsewhere (which would be missing where the file is opened offline).
    """
    notebook, path = Path(notebook), Path(path)
    try:
        node = nbformat.read(notebook, as_version=4)
    except (OSError, nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise RunError(
            f"cannot read the notebook {notebook} ({error}): run courtside report again"
        ) from error
    if not any(cell.get("outputs") for cell in node.cells):
        raise RunError(f"the notebook {notebook} has no outputs: run it first, or use courtside report")
    page = to_html(node)
    outside = outside_references(page)
    if outside:
        raise RunError(
            f"the report would load {outside[0][:200]} from elsewhere, so it would not open offline: "
            f"change the cell of {notebook} that shows it"
        )
    path.write_text(page, encoding="utf-8")
    return path


def to_html(node: nbformat.NotebookNode) -> str:
    """The page for a notebook; its title is the first ``<h1>`` among the outputs."""
    config = Config()
    config.HTMLExporter.exclude_input = True
    config.HTMLExporter.exclude_anchor_links = True
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_cell_tags = {NOTEBOOK_ONLY}
    template = resources.files("courtside.report").joinpath("template")
    exporter = HTMLExporter(config=config, template_name="courtside", extra_template_basedirs=[str(template)])
    body, _ = exporter.from_notebook_node(node)
    return whole_page(_page_title(node), body)


def _page_title(node: nbformat.NotebookNode) -> str:
    for cell in node.cells:
        for output in cell.get("outputs", []):
            shown = "".join(output.get("data", {}).get("text/html", ""))
            heading = re.search(r"<h1>(.*?)</h1>", shown, re.DOTALL)
            if heading:
                parser = _Text()
                parser.feed(heading[1])
                return f"{parser.text} · Courtside"
    return "Courtside report"


class _Text(HTMLParser):
    text = ""

    def handle_data(self, data: str) -> None:
        self.text += data
