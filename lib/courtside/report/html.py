"""An executed notebook as one HTML file: no code, and no reference to anything outside the file."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import nbformat
from nbconvert.exporters import HTMLExporter
from traitlets.config import Config

from courtside.errors import RunError

__all__ = ["NOTEBOOK_ONLY", "outside_references", "to_html", "write_html"]

NOTEBOOK_ONLY = "notebook-only"
"""Cells with this tag are for whoever works in the notebook; the page leaves them out."""

_LOADING = {"src", "href", "srcset", "poster", "data", "action", "formaction", "background", "xlink:href"}
_CSS_URL = re.compile(r"""(?:url\(|@import)\s*['"]?\s*([^'")\s;]+)""", re.IGNORECASE)


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
    page, _ = exporter.from_notebook_node(node, resources={"metadata": {"name": _page_title(node)}})
    return page


def outside_references(page: str) -> list[str]:
    """What a browser would load or follow from outside the page, in order; ``data:`` and ``#`` are inside.

    >>> outside_references('<img src="data:,"><a href="#top"></a><link href="https://x.example/a.css">')
    ['https://x.example/a.css']
    >>> outside_references('<p>https://x.example is text</p><style>b{background:url(a.png)}</style>')
    ['a.png']
    """
    reader = _References()
    reader.feed(page)
    reader.close()
    return reader.found


class _References(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._css = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._css = tag == "style"
        for name, value in attributes:
            if value is None:
                continue
            if name in _LOADING:
                # A srcset of data URLs has commas of its own, so only its start can be judged.
                self._keep(value.strip())
            elif name == "style":
                self._keep_css(value)
            elif name == "srcdoc":
                self.found += outside_references(value)

    def handle_endtag(self, tag: str) -> None:
        self._css = False

    def handle_data(self, data: str) -> None:
        if self._css:
            self._keep_css(data)

    def _keep_css(self, text: str) -> None:
        for url in _CSS_URL.findall(text):
            self._keep(url)

    def _keep(self, url: str) -> None:
        if url and not url.startswith(("data:", "#")):
            self.found.append(url)


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
