// Makes players of the pages' payloads.

import { Player } from "./player.js";
import { VideoSource } from "./source.js";
import { bytesOf, unpack } from "./unpack.js";

/**
 * Makes a player in `root`, an element that holds a `<script type="application/json">` with the payload and a
 * `<video>` with a data URL, which is what shows without scripts. Resolves to the player at its first frame.
 */
export async function mount(root) {
  const payload = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const fallback = root.querySelector("video");
  const bytes = bytesOf(fallback.src.slice(fallback.src.indexOf(",") + 1));
  const url = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
  const data = await unpack(payload);
  const another = () => new VideoSource(url, data.fps, data.shown);
  const source = another();
  await source.open();
  const player = new Player(root, data, source, another);
  await player.seek(0);
  return player;
}

/** Makes every player of the page that is not there yet; what fails leaves its plain video, and says why. */
export function mountAll() {
  for (const root of document.querySelectorAll(".courtside-player:not([data-state])")) {
    root.dataset.state = "opening";
    root.player = mount(root).then(
      (player) => {
        root.dataset.state = "ready";
        return player;
      },
      (error) => {
        root.dataset.state = "failed";
        root.append(`The player could not start: ${error.message}`);
        return null;
      },
    );
  }
}
