"""A page that is one HTML file: it opens without a network, since nothing in it refers outside."""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser
from importlib import resources
from string import Template

__all__ = ["outside_references", "whole_page"]

_LOADING = {"src", "href", "srcset", "poster", "data", "action", "formaction", "background", "xlink:href"}
_CSS_URL = re.compile(r"""(?:url\(|@import)\s*['"]?\s*([^'")\s;]+)""", re.IGNORECASE)


def whole_page(title: str, body: str) -> str:
    """The page with this title, plain text, around ``body``, the HTML of its sections."""
    template = resources.files("courtside.report").joinpath("template/courtside")
    skeleton = Template(template.joinpath("page.html").read_text("utf-8"))
    styles = template.joinpath("page.css").read_text("utf-8")
    return skeleton.substitute(title=escape(title), styles=styles, body=body)


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
