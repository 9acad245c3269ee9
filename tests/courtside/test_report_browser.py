"""The finished report in a real browser without a network: nothing missing, nothing asked for, readable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from courtside.run import Settings, execute
from courtside.video import VideoWriter


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a labelled clip of two squares, made from the file up."""
    folder = tmp_path_factory.mktemp("report")
    truth, boxes = [], []
    with VideoWriter(folder / "clip.mp4", 320, 180, 25) as writer:
        for frame in range(30):
            image = np.full((180, 320, 3), 90, np.uint8)
            for square, (x, y) in enumerate([(10 + 5 * frame, 30), (250 - 5 * frame, 100)]):
                image[y : y + 60, x : x + 30] = 240 - 100 * square
                truth.append(f"{frame + 1},{square},{x},{y},30,60,1,1,1")
                if square == 0 or not 10 < frame < 14:
                    boxes.append(f"{frame + 1},-1,{x},{y},30,60,0.9")
            writer.write(image)
    (folder / "gt").mkdir()
    (folder / "gt" / "gt.txt").write_text("\n".join(truth) + "\n")
    (folder / "det.txt").write_text("\n".join(boxes) + "\n")
    (folder / "seqinfo.ini").write_text(
        "[Sequence]\nname=squares\nframeRate=25\nseqLength=30\nimWidth=320\nimHeight=180\n"
    )
    settings = Settings(
        video=folder / "clip.mp4",
        out=folder / "run",
        tracker="bytetrack",
        detections=folder / "det.txt",
        labels=folder,
    )
    return execute(settings, progress=False).report_path


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (390, 844)])
def test_the_page_is_complete_offline(report: Path, browser, width: int, height: int):
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri(), wait_until="load")
    page.wait_for_selector(".courtside-player[data-state=ready]")
    page.get_by_role("button", name="0:00.44, missed").click()
    page.wait_for_selector(".cp-stage canvas[data-frame='11']")
    page.wait_for_selector(".cp-moment:enabled >> nth=2")

    assert said == []
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [report.as_uri()]
    assert page.title() == "clip.mp4 · Courtside"
    assert page.locator("h1").count() == 1
    assert page.get_by_text("2 for 2").count() == 1
    assert page.locator("script[src], link[rel=stylesheet], .jp-InputArea, .highlight").count() == 0

    images = page.evaluate(
        "[...document.images].map(i => [i.complete, i.naturalWidth, i.alt, i.currentSrc.length])"
    )
    assert len(images) > 8
    assert all(complete and natural > 0 and alt for complete, natural, alt, _ in images)
    # The page never scrolls sideways; what is too wide scrolls in its own box.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # A figure is shown at the size it was drawn for, so that its letters keep theirs.
    scales = page.evaluate(
        """[...document.querySelectorAll('picture img')]
            .filter(i => i.clientWidth).map(i => 2 * i.clientWidth / i.naturalWidth)"""
    )
    assert len(scales) >= 3
    assert min(scales) > 0.9
    context.close()
