"""The notebooks' widgets as they are used: in JupyterLab, in Chromium, by typing and clicking."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from courtside.labelling import LabelSet
from courtside.labels import check_labels, read_labels
from courtside.scoring import score
from minicourt.clip import render_clip

FRAMES = 40
PATIENCE_MS = 180_000


class Lab:
    """A JupyterLab server on ``folder``, and pages of a browser on it."""

    def __init__(self, folder: Path, browser) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.folder, self._browser, self._pages = folder, browser, []
        own = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
        own |= {"IPYTHONDIR": str(folder / "ipython"), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
        options = [f"--port={self.url.rpartition(':')[2]}", "--ServerApp.port_retries=0", "--no-browser"]
        options += ["--allow-root", "--IdentityProvider.token=t", f"--ServerApp.root_dir={folder}"]
        options += ["--expose-app-in-browser", "--LabApp.news_url=None"]
        with open(folder / "server.log", "wb") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *options],
                env=os.environ | own,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while True:
            try:
                self.ask("status")
                return
            except OSError:
                if time.monotonic() > deadline or self._server.poll() is not None:
                    self.close()
                    pytest.fail((folder / "server.log").read_text()[-2000:])
                time.sleep(0.3)

    def close(self) -> None:
        for page in self._pages:
            # Open still: something went wrong there.
            if not page.is_closed():
                page.screenshot(path=self.folder / "left-open.png")
                page.close()
        self._server.terminate()
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()

    def ask(self, path: str, content: dict | None = None) -> dict:
        """What the server's own interface answers."""
        data = None if content is None else json.dumps(content).encode()
        asked = urllib.request.Request(f"{self.url}/api/{path}?token=t", data)
        with urllib.request.urlopen(asked, timeout=PATIENCE_MS / 1000) as answer:
            return json.load(answer)

    def write(self, name: str, *cells: str) -> None:
        """A notebook with these cells."""
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, self.folder / name)

    def open(self, name: str):
        """A page on the notebook, with a kernel behind it."""
        self.ask("sessions", {"path": name, "name": name, "type": "notebook", "kernel": {"name": "python3"}})
        page = self._browser.new_page(viewport={"width": 1500, "height": 1300})
        page.set_default_timeout(PATIENCE_MS)
        self._pages.append(page)
        page.goto(f"{self.url}/lab/tree/{name}?token=t&reset")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.connectionStatus"
            " === 'connected'"
        )
        return page

    def run(self, page) -> None:
        """Run all cells; what they show comes in its own time."""
        page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells') }")


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"), browser)
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip") / "game"
    return render_clip(folder, seed=8, frames=FRAMES, width=640, height=360, progress=False)


def test_a_prompt_is_typed_and_masks_are_seen(lab, clip, tiny_sam3):
    lab.write(
        "explore.ipynb",
        "from courtside.explore import PromptExplorer\nfrom courtside.widgets import ExplorerWidget\n"
        f"explorer = PromptExplorer({str(clip / 'video.mp4')!r}, model={str(tiny_sam3)!r}, device='cpu')\n"
        "widget = ExplorerWidget(explorer, sampled=3)\nwidget",
    )
    page = lab.open("explore.ipynb")
    lab.run(page)
    page.wait_for_selector(".ce-typed")
    prompt = "basketball player"
    page.fill(".ce-typed", prompt)
    page.keyboard.press("Enter")
    page.wait_for_selector(f'figure[data-prompt="{prompt}"][data-found]:not([data-found=""])')
    page.wait_for_function(
        "() => [...document.querySelectorAll('.ce-strip td')].slice(1).every(e => e.dataset.found !== '')"
    )

    def found() -> int:
        return int(page.get_attribute("figure", "data-found"))

    def threshold(value: float) -> None:
        page.evaluate(f"() => document.querySelector('.ce').explorer.set('threshold', {value})")

    def picture() -> str:
        return page.evaluate("() => document.querySelector('figure canvas').toDataURL()")

    asked = page.evaluate("() => document.querySelector('.ce').explorer.link.last")
    threshold(0.95)
    few, bare = found(), picture()
    threshold(0.05)
    assert found() > few
    assert picture() != bare
    assert page.evaluate("() => document.querySelector('.ce').explorer.link.last") == asked
    threshold(0.5)
    assert found() >= 4
    # A prompt that the tokenizer would cut is refused in a sentence, where it would have been answered.
    page.fill(".ce-typed", "player " * 60)
    page.keyboard.press("Enter")
    page.wait_for_selector(".cl-status:has-text('is too long')")
    page.wait_for_function("() => document.querySelectorAll('figure').length === 1")
    page.screenshot(path=lab.folder / "explore.png")
    page.close()


@pytest.fixture(scope="module")
def bad(clip, tmp_path_factory) -> tuple[Path, dict]:
    """A deliberately bad run, and what is wrong in it; one player is missed, too."""
    folder = tmp_path_factory.mktemp("bad")
    with LabelSet(clip / "video.mp4", folder / "labels", start=clip) as spoilt:
        present = spoilt.draft.present
        sizes = present[~present["ignored"]].groupby("object_id").size().sort_values(ascending=False)
        first, second, third, fourth = sizes.index[:4].tolist()
        spoilt.swap(first, second, 11)
        later = spoilt.split(third, 15)
        ghost = None
        for frame in range(4, 20):
            ghost = spoilt.draw(frame, (5, 5, 45, 110), ghost)
        spoilt.delete(fourth)
        out = spoilt.correct(folder / "run")
    wrong = {
        "swap": [first, second],
        "pieces": [third, later],
        "ghost": ghost,
        "missed": fourth,
    }
    return out, wrong


def test_a_bad_run_is_corrected_by_clicks_and_nothing_is_lost(lab, clip, bad, tiny_sam3):
    run, wrong = bad
    folder = lab.folder / "labels"
    paths = [str(each) for each in (clip / "video.mp4", folder, run, tiny_sam3, clip)]
    lab.write(
        "label.ipynb",
        "import os\nfrom courtside.labelling import LabelSet\nfrom courtside.widgets import LabelWidget\n"
        f"video, folder, run, model, truth = {paths}\n"
        "label_set = LabelSet(video, folder, start=run, model=model, device='cpu')\n"
        "widget = LabelWidget(label_set, truth=truth)\nwidget",
        "open(folder + '.pid', 'w').write(str(os.getpid()))",
    )
    page = lab.open("label.ipynb")
    lab.run(page)
    hand = Hand(page)
    was = hand.scores()
    assert was["IDF1"] < 0.97

    # Two players who were exchanged: three clicks, and MOTA rises.
    first, second = wrong["swap"]
    hand.seek(11)
    hand.choose(first)
    hand.choose(second, shift=True)
    hand.act("swap", "Done: swap")
    now = hand.scores()
    assert now["MOTA"] > was["MOTA"]
    assert now["IDF1"] > was["IDF1"]
    hand.act("undo", "Took back: swap")
    assert hand.scores() == was
    hand.act("redo", "Did again: swap")
    assert hand.scores() == now

    # A player in two pieces, and a track on nobody.
    hand.choose(wrong["pieces"][0])
    hand.choose(wrong["pieces"][1], shift=True)
    hand.press("j", "Joined")
    hand.click_box(wrong["ghost"], frame=8)
    hand.press("Delete", "Done: delete")
    assert hand.scores()["IDF1"] > now["IDF1"]

    # One whom nobody followed is clicked and followed.
    before = page.evaluate(f"{hand.player}.clip.layers.tracks.ids")
    known = read_labels(clip).ground_truth.set_index(["frame", "object_id"])
    row = known.loc[(20, wrong["missed"])]
    hand.seek(20)
    hand.escape()
    page.click("[data-tool=on]")
    hand.click_at((row["x1"] + row["x2"]) / 2, 0.6 * row["y1"] + 0.4 * row["y2"])
    hand.wait_for("That is player")
    [new] = set(page.evaluate(f"{hand.player}.clip.layers.tracks.ids")) - set(before)
    hand.press("f", f"Followed player {new}")
    assert page.locator(f'.cl-person[data-id="{new}"] small').inner_text().split()[0] != "1"
    assert hand.scores()["IDF1"] >= 0.99

    # A box that is dragged says who is meant, too.
    before = page.evaluate(f"{hand.player}.clip.layers.tracks.ids")
    hand.escape()
    page.click("[data-tool=box]")
    hand.drag(row["x1"], row["y1"], row["x2"], row["y2"])
    hand.wait_for("That is player")
    [drawn] = set(page.evaluate(f"{hand.player}.clip.layers.tracks.ids")) - set(before)
    x1, y1, x2, y2 = hand.box(drawn, 20)
    assert row["x1"] < (x1 + x2) / 2 < row["x2"]
    assert row["y1"] < (y1 + y2) / 2 < row["y2"]
    page.click("[data-act=undo]")
    hand.wait_for("Took back: clicked")
    made = [entry["clicks"] for entry in hand.log(folder) if entry["op"] not in ("undo", "redo")]
    identities = 2 + 2 + 1 + 1
    assert sum(made) <= 3 * identities

    # Frames that were looked at, and the labels on disk.
    page.click("[data-act=label]")
    hand.wait_for("Done: mark labelled")
    page.screenshot(path=lab.folder / "label.png")
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    facts, edits = page.inner_text(".cl-facts"), len(hand.log(folder))
    assert f"{FRAMES} of {FRAMES} frames labelled" in facts
    page.close()

    # The tab is closed, the kernel killed: the notebook still shows its last state, and goes on from there.
    os.kill(int(Path(f"{folder}.pid").read_text()), signal.SIGKILL)
    page = lab.open("label.ipynb")
    last = page.wait_for_selector(".courtside-last")
    assert "No kernel runs behind this widget" in last.inner_text()
    assert f"{FRAMES} of {FRAMES} frames labelled" in last.inner_text()
    assert page.locator(".courtside-last img").evaluate("e => e.naturalWidth") > 0
    page.screenshot(path=lab.folder / "last.png")
    lab.run(page)
    hand = Hand(page)
    assert len(hand.log(folder)) == edits
    assert page.inner_text(".cl-facts").splitlines()[0] == facts.splitlines()[0]
    page.wait_for_selector(".courtside-last", state="hidden")
    page.click("[data-act=save]")
    hand.wait_for("Wrote the labels")
    page.close()

    checked = check_labels(folder)
    assert checked.errors == ()
    with LabelSet(clip / "video.mp4", folder) as labels:
        # The kernel still runs: this process is told so, and reads only.
        assert labels.read_only.startswith("process ")
        tracks = labels.tracks().assign(prompt=None).astype({"prompt": "string"})
        same = score(tracks, checked.labels, times_s=labels.video.times_s).metrics
        assert (same["mota"], same["idf1"]) == (1, 1)


class Hand:
    """Does with the labelling widget of a page what a person does, and reads what it shows."""

    root = "document.querySelector('.cl').labeller"
    player = f"{root}.player"

    def __init__(self, page) -> None:
        self.page = page
        page.wait_for_selector(".courtside-player[data-state=ready]")
        page.wait_for_selector(".cl-person")
        page.wait_for_function(f"() => {self.root}.player?.canvas.dataset.frame !== undefined")

    def scores(self) -> dict[str, float]:
        said = re.findall(r"(MOTA|IDF1) (-?[\d.]+)", self.page.inner_text(".cl-facts"))
        return {name: float(value) for name, value in said}

    def log(self, folder: Path) -> list[dict]:
        return [json.loads(line) for line in (folder / "edits" / "edits.jsonl").read_text().splitlines()]

    def seek(self, frame: int) -> None:
        self.page.evaluate(f"() => {self.player}.seek({frame})")
        self.page.wait_for_function(f"() => {self.player}.canvas.dataset.frame === '{frame}'")

    def choose(self, one: int, shift: bool = False) -> None:
        modifiers = ["Shift"] if shift else []
        self.page.click(f'.cl-person[data-id="{one}"]', modifiers=modifiers)
        self.page.wait_for_function(
            f"() => document.querySelector('.cl-person[data-id=\"{one}\"]').ariaPressed === 'true'"
        )

    def act(self, what: str, says: str) -> None:
        self.page.click(f"[data-act={what}]")
        self.wait_for(says)

    def press(self, key: str, says: str) -> None:
        self.page.keyboard.press(key)
        self.wait_for(says)

    def escape(self) -> None:
        self.page.evaluate(f"() => {self.root}.choose(null)")

    def wait_for(self, says: str) -> None:
        """Until the status begins with ``says``, and the picture shows it."""
        self.page.wait_for_function(
            "says => { const status = document.querySelector('.cl-status');"
            " if (status.classList.contains('cl-wrong')) throw new Error(status.textContent);"
            " return status.textContent.startsWith(says) }",
            arg=says,
        )

    def click_box(self, one: int, frame: int) -> None:
        """Click into a track's box in the picture."""
        self.seek(frame)
        x1, y1, x2, y2 = self.box(one, frame)
        self.click_at((x1 + x2) / 2, (y1 + y2) / 2)
        self.page.wait_for_function(
            f"() => document.querySelector('.cl-person[data-id=\"{one}\"]').ariaPressed === 'true'"
        )

    def box(self, one: int, frame: int) -> list[float]:
        return self.page.evaluate(
            f"() => {{ const layer = {self.player}.clip.layers.tracks;"
            f" return layer.box(layer.find({frame}, layer.ids.indexOf({one}))) }}"
        )

    def click_at(self, x: float, y: float) -> None:
        """Click at a pixel of the video."""
        self.page.mouse.click(*self.place(x, y))

    def drag(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """Drag a box from one pixel of the video to another."""
        self.page.mouse.move(*self.place(x1, y1))
        self.page.mouse.down()
        self.page.mouse.move(*self.place((x1 + x2) / 2, (y1 + y2) / 2))
        self.page.mouse.move(*self.place(x2, y2))
        self.page.mouse.up()

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where on the page a pixel of the video is."""
        left, top, width, height, wide, high = self.page.evaluate(
            f"() => {{ const {{ canvas, clip }} = {self.player};"
            " canvas.scrollIntoView({ block: 'nearest' });"
            " const box = canvas.getBoundingClientRect();"
            " return [box.left, box.top, box.width, box.height, clip.width, clip.height] }"
        )
        return left + x / wide * width, top + y / high * height
