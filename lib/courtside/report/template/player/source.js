// Where the pictures come from: a video with one frame for each frame of the clip, at a constant rate.

const PRESENTS = "requestVideoFrameCallback" in HTMLVideoElement.prototype;

/**
 * A video as numbered pictures. `onframe(frame)` is called whenever `image` shows another frame; `onstate()`
 * when it starts or stops to play. Anything with the same members can take its place.
 */
export class VideoSource {
  constructor(url, fps, frameCount) {
    this.fps = fps;
    this.frameCount = frameCount;
    this.frame = -1;
    this.onframe = () => {};
    this.onstate = () => {};
    this.video = document.createElement("video");
    Object.assign(this.video, { muted: true, playsInline: true, preload: "auto", src: url });
    this.wanted = null;
    this.seeking = null;
    this.presented = -1;
    this.onpresented = () => {};
    this.video.addEventListener("play", () => this.onstate());
    this.video.addEventListener("pause", () => this.onstate());
    this.#follow();
  }

  get image() {
    return this.video;
  }

  get playing() {
    return !this.video.paused && !this.video.ended;
  }

  /** Resolves when frames can be had; rejects with the browser's reason when this is no video it can play. */
  async open() {
    if (this.video.readyState >= 2) return;
    await new Promise((resolve, reject) => {
      this.video.addEventListener("loadeddata", resolve, { once: true });
      this.video.addEventListener("error", () => reject(new Error(this.video.error?.message || "no video")), {
        once: true,
      });
    });
  }

  /** Shows a frame; resolves when `image` is that frame, or a later wish took its place. */
  seek(frame) {
    this.wanted = frame;
    this.seeking ??= this.#seek().finally(() => {
      this.seeking = null;
    });
    return this.seeking;
  }

  async play(speed) {
    this.video.playbackRate = speed;
    if (this.frame >= this.frameCount - 1) await this.seek(0);
    // A pause that comes before the video runs is no failure.
    await this.video.play().catch((error) => {
      if (error.name !== "AbortError") throw error;
    });
  }

  pause() {
    this.video.pause();
  }

  close() {
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }

  async #seek() {
    while (this.wanted !== null) {
      const frame = this.wanted;
      this.wanted = null;
      const there = new Promise((resolve) => this.video.addEventListener("seeked", resolve, { once: true }));
      // The middle of a frame's time is that frame whatever way the times are rounded.
      this.video.currentTime = (frame + 0.5) / this.fps;
      await there;
      await this.#presentation(frame);
      this.#show(frame);
    }
  }

  /** Waits until the browser says that the picture is this frame, perhaps after the end of the seek. */
  async #presentation(frame) {
    if (!PRESENTS || this.presented === frame) return;
    const there = new Promise((resolve) => {
      this.onpresented = (shown) => shown === frame && resolve();
    });
    // A page in the background presents nothing.
    await Promise.race([there, new Promise((resolve) => setTimeout(resolve, 250))]);
  }

  #show(frame) {
    this.frame = Math.min(Math.max(frame, 0), this.frameCount - 1);
    this.onframe(this.frame);
  }

  /** Follows the playing video, by the time written in each picture where the browser tells it. */
  #follow() {
    if (PRESENTS) {
      const presented = (_, { mediaTime }) => {
        this.presented = Math.round(mediaTime * this.fps);
        this.onpresented(this.presented);
        // After a seek the frame is known, and word of an earlier one may still come.
        if (this.playing && !this.seeking) this.#show(this.presented);
        this.video.requestVideoFrameCallback(presented);
      };
      this.video.requestVideoFrameCallback(presented);
      return;
    }
    const look = () => {
      if (this.playing && !this.seeking) this.#show(Math.floor(this.video.currentTime * this.fps + 1e-3));
      if (this.playing) requestAnimationFrame(look);
    };
    this.video.addEventListener("play", look);
  }
}
