/** Plays stages in order as they come, and the whole video once it is there. */

import { fill, h, icon, text } from "./dom.js";
import { button } from "./fields.js";

export class Player {
  /**
   * @param {import("./layout.js").Layout} layout @param {number} fps
   * @param {{width: number, height: number}} size @param {(frame: number | null) => void} onframe
   */
  constructor(layout, fps, size, onframe) {
    this.layout = layout;
    this.fps = fps;
    this.onframe = onframe;
    /** @type {(string | null)[]} */
    this.urls = layout.stages.map(() => null);
    /** The stage that is loaded; -1 for none, or for the whole video. */
    this.index = -1;
    /** Whether the next stage is to play as soon as it is there. */
    this.waiting = false;
    this.whole = "";
    this.video = /** @type {HTMLVideoElement} */ (
      h("video", { controls: true, playsinline: true, preload: "metadata", hidden: true, "aria-label": "Video" })
    );
    this.image = /** @type {HTMLImageElement} */ (h("img", { alt: "The video, animated", hidden: true }));
    this.empty = h("p", { class: "player-empty" }, "The first stage appears here as soon as it is rendered.");
    this.caption = h("span", {});
    this.start = button(
      "Play what is ready",
      { class: "quiet", hidden: true, onclick: () => this.playFrom(0) },
      icon("play"),
    );
    const stage = h("div", { class: "screen" }, this.video, this.image, this.empty);
    stage.style.aspectRatio = `${size.width} / ${size.height}`;
    this.element = h("div", { class: "player" }, stage, h("div", { class: "player-foot" }, this.caption, this.start));
    this.video.addEventListener("ended", () => this.next());
    this.video.addEventListener("timeupdate", () => this.point());
    this.video.addEventListener("seeked", () => this.point());
    this.video.addEventListener("play", () => this.tick());
  }

  /** A stage can be played. @param {number} index @param {string} url */
  ready(index, url) {
    if (this.urls[index] === url) return;
    this.urls[index] = url;
    this.element.classList.remove("bare");
    if (this.whole) return;
    this.start.hidden = false;
    // Until somebody plays, the first picture is the one to see.
    if (this.index < 0 || (index < this.index && this.untouched)) this.load(index);
    if (this.waiting && index === this.following()) this.playFrom(index);
    this.describe();
  }

  get untouched() {
    return this.video.paused && this.video.currentTime === 0 && !this.waiting;
  }

  /** The first stage after the loaded one that has a part of its own. */
  following() {
    const rest = this.layout.stages.slice(this.index + 1);
    return rest.find((stage) => stage.output > stage.fadeIn)?.index ?? -1;
  }

  /** @param {number} index */
  load(index) {
    this.index = index;
    this.show(String(this.urls[index]));
    this.describe();
  }

  /** @param {string} url */
  show(url) {
    this.empty.hidden = true;
    this.video.hidden = false;
    this.video.src = url;
  }

  /** @param {number} index */
  playFrom(index) {
    const found = this.urls.findIndex((url, i) => i >= index && url);
    if (found < 0) return;
    this.waiting = false;
    this.load(found);
    this.play();
  }

  play() {
    // A browser may refuse sound before the page was touched; the controls are there.
    this.video.play().catch(() => this.describe());
  }

  next() {
    if (this.whole || this.index < 0) return;
    const next = this.following();
    if (next < 0) return;
    if (this.urls[next]) this.playFrom(next);
    else this.waiting = true;
    this.describe();
  }

  /** The finished video takes the stages' place, where they are. @param {string} url @param {string} format */
  finish(url, format) {
    if (this.whole === url) return;
    this.whole = url;
    this.start.hidden = true;
    text(this.caption, "");
    if (format !== "mp4") {
      this.video.pause();
      this.video.hidden = this.empty.hidden = true;
      this.image.hidden = false;
      this.image.src = url;
      return;
    }
    const [playing, frame] = [!this.video.paused || this.waiting, this.untouched ? 0 : this.frame()];
    this.index = -1;
    this.show(url);
    if (frame) this.video.currentTime = frame / this.fps;
    if (playing) this.play();
  }

  /** Go to a stage. @param {number} index */
  seek(index) {
    const stage = this.layout.stages[index];
    // A little inside the frame: its very beginning may be rounded into the one before.
    if (this.whole) this.video.currentTime = (stage.start + 0.1) / this.fps;
    else if (this.urls[index]) this.load(index);
  }

  /** The frame of the whole video that is shown. */
  frame() {
    const stage = this.layout.stages[this.index];
    return (stage ? stage.start + stage.fadeIn : 0) + this.video.currentTime * this.fps;
  }

  tick() {
    this.point();
    if (!this.video.paused && this.element.isConnected) requestAnimationFrame(() => this.tick());
  }

  point() {
    this.onframe(this.video.hidden ? null : this.frame());
  }

  describe() {
    if (this.whole || this.index < 0) return;
    const ready = this.urls.filter(Boolean).length;
    const waits = this.waiting ? "; the next one plays as soon as it is there" : "";
    fill(this.caption, `Stage ${this.index + 1} of ${this.urls.length} · ${ready} ready${waits}`);
  }

  /** Nothing more will come. */
  stop() {
    this.waiting = false;
    text(this.empty, "No stage was rendered.");
    this.element.classList.toggle("bare", !this.urls.some(Boolean));
    this.describe();
  }

  close() {
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }
}
