/**
 * The timeline, to scale: clips on two alternating lanes, so that what overlaps is seen to overlap; bands where frames
 * are shared or blended; takes; a playhead. The same one in the composer and while rendering.
 *
 * @typedef {{label: string, state?: string, progress?: number, note?: string, problem?: boolean}} Clip
 */

import { attribute, fill, h, text } from "./dom.js";
import { counted, seconds } from "./words.js";

const TICKS = [0.25, 0.5, 1, 2, 5, 10, 15, 30, 60];
const TICK_PX = 54;
const JOINS = { smooth: "continues", cut: "cuts in", fade: "fades in" };

export class Timeline {
  /** @param {(index: number) => void} onselect */
  constructor(onselect) {
    this.ruler = h("div", { class: "ruler", "aria-hidden": "true" });
    this.bands = h("div", { class: "bands", "aria-hidden": "true" });
    this.clips = h("ol", { class: "clips" });
    this.takes = h("div", { class: "take-marks", "aria-hidden": "true" });
    this.playhead = h("div", { class: "playhead", hidden: true });
    const track = h("div", { class: "track" }, this.ruler, this.clips, this.bands, this.takes, this.playhead);
    this.track = track;
    this.element = h("div", { class: "timeline" }, track);
    this.onselect = onselect;
    this.drawn = "";
    /** @type {import("./layout.js").Layout} */
    this.layout = { stages: [], takes: [], total: 0 };
    this.fps = 24;
    this.span = 1;
    this.width = 0;
    new ResizeObserver(([entry]) => {
      this.width = entry.contentRect.width;
      this.drawRuler();
    }).observe(track);
  }

  /** @param {import("./layout.js").Layout} layout @param {number} fps */
  draw(layout, fps) {
    const key = JSON.stringify([layout, fps]);
    if (key === this.drawn) return;
    this.drawn = key;
    this.layout = layout;
    this.fps = fps;
    // What is cut from the end is drawn too, beyond the last frame.
    const last = layout.stages.at(-1);
    this.span = Math.max(1, layout.total + (last?.trim ?? 0));
    this.track.style.setProperty("--clips", String(layout.stages.length));
    this.track.style.setProperty("--lanes", layout.stages.length > 1 ? "2" : "1");
    this.drawRuler();
    fill(
      this.bands,
      layout.stages.flatMap((stage) => this.band(stage)),
    );
    fill(
      this.takes,
      layout.takes.map((indices, take) => this.take(indices, take)),
    );
    while (this.clips.children.length > layout.stages.length) this.clips.lastElementChild?.remove();
    while (this.clips.children.length < layout.stages.length) this.clips.append(this.clip(this.clips.children.length));
    layout.stages.forEach((stage, i) => {
      const item = /** @type {HTMLElement} */ (this.clips.children[i]);
      this.place(item, stage.start - stage.drop, stage.frames);
      item.className = `clip lane-${i % 2} take-${stage.take % 4}`;
    });
  }

  /** Put an element where its frames are. @param {HTMLElement} element @param {number} from @param {number} frames */
  place(element, from, frames) {
    element.style.left = `${(100 * from) / this.span}%`;
    element.style.width = `${(100 * frames) / this.span}%`;
    return element;
  }

  drawRuler() {
    const whole = this.span / this.fps;
    const most = Math.max(2, Math.floor(this.width / TICK_PX));
    const step = TICKS.find((tick) => whole / tick <= most) ?? Math.ceil(whole / most);
    const count = Math.floor(whole / step) + 1;
    const ticks = Array.from({ length: count }, (_, i) =>
      this.place(h("span", { class: "tick" }, `${+(i * step).toFixed(2)} s`), i * step * this.fps, 0),
    );
    fill(this.ruler, ticks);
  }

  /** What two clips share: the repeated tail, the blended frames; a line for a cut. */
  band(/** @type {import("./layout.js").Placed} */ stage) {
    /** @type {HTMLElement[]} */
    const bands = [];
    const mark = (/** @type {string} */ kind, /** @type {number} */ from, /** @type {number} */ frames) =>
      bands.push(this.place(h("span", { class: `band ${kind}` }), from, frames));
    if (stage.drop) mark("smooth", stage.start - stage.drop, stage.drop);
    else if (stage.fadeIn) mark("fade", stage.start, stage.fadeIn);
    else if (stage.index) mark("cut", stage.start, 0);
    if (stage.trim) mark("trim", this.layout.total, stage.trim);
    return bands;
  }

  /** @param {number[]} indices @param {number} take */
  take(indices, take) {
    const first = this.layout.stages[indices[0]];
    const last = this.layout.stages[indices[indices.length - 1]];
    const mark = h("span", { class: `take-mark take-${take % 4}` }, h("span", {}, `Take ${take + 1}`));
    return this.place(mark, first.start, last.start + last.output - first.start);
  }

  /** @param {number} index */
  clip(index) {
    const face = [h("span", { class: "clip-fill" }), h("span", { class: "clip-number" }, index + 1)];
    const words = [h("span", { class: "clip-label" }), h("span", { class: "clip-note" })];
    return h("li", {}, h("button", { type: "button", onclick: () => this.onselect(index) }, face, words));
  }

  /** Say what each clip is, and how far. @param {Clip[]} clips @param {number | null} [selected] */
  describe(clips, selected = null) {
    clips.forEach((clip, i) => {
      const item = /** @type {HTMLElement | undefined} */ (this.clips.children[i]);
      const stage = this.layout.stages[i];
      if (!item || !stage) return;
      const face = /** @type {HTMLElement} */ (item.firstElementChild);
      const [filled, , label, note] = /** @type {HTMLElement[]} */ ([...face.children]);
      filled.style.transform = `scaleX(${clip.progress ?? 0})`;
      text(label, clip.label);
      text(note, clip.note ?? seconds(stage.frames, this.fps));
      attribute(item, "data-state", clip.state);
      attribute(item, "data-problem", clip.problem);
      attribute(face, "aria-pressed", selected === null ? null : String(selected === i));
      const joins = i ? `, ${JOINS[/** @type {keyof typeof JOINS} */ (stage.transition)] ?? stage.transition}` : "";
      const note_ = clip.note ? `, ${clip.note}` : "";
      const length = `${counted(stage.frames, "frame")} from ${seconds(stage.start, this.fps)}`;
      attribute(face, "aria-label", `Stage ${i + 1}${joins}, ${length}${note_}: ${clip.label}`);
      attribute(face, "title", clip.label);
    });
  }

  /** Show where playback is. @param {number | null} frame */
  point(frame) {
    this.playhead.hidden = frame === null;
    if (frame !== null) this.playhead.style.left = `${(100 * Math.min(frame, this.span)) / this.span}%`;
  }
}
