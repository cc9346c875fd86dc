/** The length of a stage: frames on the model's grid and seconds are one value, and a slider for the hand. */

import { attribute, h } from "./dom.js";
import { numberField } from "./fields.js";
import { seconds } from "./words.js";

export class LengthField {
  /** @param {any} limits @param {(frames: string) => void} edit */
  constructor(limits, edit) {
    const { frame_grid: step, frames_per_clip_cap: most, frames_per_clip_recommended: usual } = limits;
    const range = { min: step + 1, max: most, step };
    this.usual = usual;
    this.fps = limits.fps;
    this.frames = numberField({ label: "Frames", class: "short", ...range, placeholder: usual, oninput: edit });
    this.seconds = numberField({ label: "Seconds", class: "short", min: 0, step: "any", oninput: () => {} });
    this.seconds.control.addEventListener("change", () => {
      const wanted = (Number(this.seconds.control.value) * this.fps - 1) / step;
      edit(String(Math.min((most - 1) / step, Math.max(1, Math.round(wanted))) * step + 1));
    });
    this.slider = /** @type {HTMLInputElement} */ (
      h("input", { type: "range", ...range, "aria-label": "Frames, slider", oninput: () => edit(this.slider.value) })
    );
    this.element = h("div", { class: "length" }, this.frames.element, this.seconds.element, this.slider);
  }

  /** @param {string} value frames; empty for the usual number @param {number} fps */
  put(value, fps) {
    this.fps = fps;
    const frames = Number(value) || this.usual;
    this.frames.put(value);
    this.seconds.put((frames / fps).toFixed(2));
    if (Number(this.slider.value) !== frames) this.slider.value = String(frames);
    attribute(this.slider, "aria-valuetext", `${frames} frames, ${seconds(frames, fps)}`);
  }
}
