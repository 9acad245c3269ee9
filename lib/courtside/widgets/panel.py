"""What all widgets share: a module of JavaScript, questions with answers, and a picture of the last state."""

from __future__ import annotations

import base64
import html
import uuid
from importlib import resources
from typing import Any

import anywidget
import traitlets
from IPython.display import HTML, DisplayHandle, display

from courtside import watch
from courtside.errors import CourtsideError
from courtside.report import player

__all__ = ["Panel", "module"]

Answer = tuple[dict[str, Any], list[bytes]]
"""What a widget answers its view: JSON and buffers."""


def module(*names: str) -> str:
    """The module of a widget: the player, then the templates ``names``, the last of which renders."""
    parts = [_read(f"{name}.js") for name in names]
    # Of several that can render alone, the last one does.
    parts[:-1] = [part.partition("\nfunction render(")[0] + "\n" for part in parts[:-1]]
    return player.script(*parts) + "export default { render };\n"


class Panel(anywidget.AnyWidget):
    """A widget whose views ask questions, ``{"do": ..., "re": number}``, that :meth:`handle` answers.

    Shown in a notebook it leaves, beside the live view, a picture of its last state, which is what is seen
    where no kernel runs.
    """

    templates: tuple[str, ...] = ()

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    view = traitlets.Unicode().tag(sync=True)

    @traitlets.default("_esm")
    def _module(self) -> str:
        return module(*self.templates)

    @traitlets.default("_css")
    def _styles(self) -> str:
        return player.styles() + _read("widgets.css")

    @traitlets.default("view")
    def _name(self) -> str:
        return uuid.uuid4().hex[:12]

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._handle: DisplayHandle | None = None
        self.on_msg(self._receive)

    def handle(self, asked: dict[str, Any]) -> Answer:
        """Answer one question of a view; raises :class:`CourtsideError` for what can't be."""
        raise NotImplementedError

    def last_state(self) -> tuple[str, bytes | None]:
        """The widget's state in words, and as a JPEG picture."""
        raise NotImplementedError

    def note_state(self) -> None:
        """Bring the picture of the last state up to date, where the widget was shown."""
        if self._handle is not None:
            self._handle.update(HTML(self._last_html()))

    def _receive(self, _: Any, asked: dict[str, Any], __: Any) -> None:
        try:
            content, buffers = self.handle(asked)
        except CourtsideError as error:
            content, buffers = {"error": str(error)}, []
        except Exception as error:
            # A view that gets no answer would wait for ever.
            self.send({"re": asked.get("re"), "error": f"{type(error).__name__}: {error}"})
            raise
        self.send({"re": asked.get("re"), **content}, buffers)

    def _ipython_display_(self) -> None:
        bundle = self._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        display(data, metadata=metadata, raw=True)
        self._handle = display(HTML(self._last_html()), display_id=True)

    def _last_html(self) -> str:
        said, picture = self.last_state()
        image = ""
        if picture is not None:
            code = base64.b64encode(picture).decode()
            image = f'<img alt="The last frame" style="max-width: 100%" src="data:image/jpeg;base64,{code}">'
        return (
            f'<div class="courtside-last courtside-last-{self.view}"><p>No kernel runs behind this widget. It'
            f" was left as follows on {watch.now()}; run the cell above to go on from there.</p>"
            f"<p>{html.escape(said).replace(chr(10), '<br>')}</p>{image}</div>"
        )


def _read(name: str) -> str:
    return resources.files("courtside.widgets").joinpath("template", name).read_text("utf-8")
