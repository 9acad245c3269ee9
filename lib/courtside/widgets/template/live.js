// The player of the reports in a notebook, with the kernel behind it.

import { Link, hideLastState } from "./link.js";
import { make } from "./dom.js";
import { Player } from "./player.js";
import { VideoSource } from "./source.js";
import { withArrays } from "./unpack.js";

/** Fetches the clip and its pictures from the kernel, and makes a player of them in `root`. */
export async function openPlayer(link, root, aside = null) {
  const video = await link.ask({ do: "video" });
  const clip = await link.ask({ do: "clip" });
  const url = URL.createObjectURL(new Blob([video.bytes], { type: "video/mp4" }));
  const data = withArrays(clip.content.clip, clip.bytes);
  const another = () => new VideoSource(url, data.fps, data.shown);
  const source = another();
  await source.open();
  const player = new Player(root, data, source, another, aside);
  root.dataset.state = "ready";
  return player;
}

function render({ model, el }) {
  const link = new Link(model);
  const shown = hideLastState(model.get("view"));
  const root = make("div", { class: "courtside-player", "data-state": "opening" }, "Opening the video…");
  el.append(root);
  link.onwait = (waiting) => root.classList.toggle("cw-waits", waiting);
  const go = () => root.player?.frame !== model.get("frame") && root.player?.seek(model.get("frame"));
  model.on("change:frame", go);
  openPlayer(link, root).then(
    async (player) => {
      root.player = player;
      player.addEventListener("seek", ({ detail }) => {
        model.set("frame", detail.frame);
        model.save_changes();
      });
      await player.seek(model.get("frame"));
    },
    (error) => {
      root.dataset.state = "failed";
      root.textContent = `The player could not start: ${error.message}`;
    },
  );
  return () => {
    model.off("change:frame", go);
    root.player?.close();
    link.close();
    shown();
  };
}
