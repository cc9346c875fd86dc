/** The settings of the whole chain; an empty field is the model's default, which stands in it in grey. */

import { h } from "./dom.js";
import { choiceField, Field, numberField, seedField } from "./fields.js";

const FORMATS = /** @type {[string, string][]} */ ([
  ["", "MP4"],
  ["gif", "GIF"],
  ["apng", "APNG, lossless"],
  ["webp", "WebP"],
]);

export class Settings {
  /** @param {any} limits @param {(key: string, value: string) => void} edit */
  constructor(limits, edit) {
    const to = (/** @type {string} */ key) => (/** @type {string} */ value) => edit(key, value);
    const number = (/** @type {string} */ key, /** @type {string} */ label, /** @type {object} */ more) =>
      numberField({ label, placeholder: limits[key], class: "short", oninput: to(key), ...more });
    const { size_multiple: step } = limits;
    const size = { min: step, step };
    const sound = limits.supports_audio ? "With sound (default)" : "Without: this model makes none (default)";
    const model = h("input", {
      type: "text",
      autocomplete: "off",
      spellcheck: "false",
      placeholder: limits.model,
      oninput: (/** @type {Event} */ event) => to("model")(/** @type {HTMLInputElement} */ (event.target).value.trim()),
    });
    /** @type {Record<string, Field>} */
    this.fields = {
      width: number("width", "Width", size),
      height: number("height", "Height", size),
      fps: number("fps", "Frames per second", { min: 1, max: 120 }),
      steps: number("steps", "Steps", { min: 1, max: 100 }),
      seed: seedField({
        label: "Seed",
        placeholder: "drawn at random",
        hint: "The same script and seed give the same video.",
        oninput: to("seed"),
      }),
      guidance: number("guidance", "Guidance", { min: 0, step: "any" }),
      motion_tail_frames: number("motion_tail_frames", "Shared frames", {
        min: 0,
        class: "",
        hint: "How many frames a smooth stage takes over from the one before: 0, or 8k+1.",
      }),
      strength: number("strength", "Image strength", {
        min: 0,
        max: 1,
        step: "any",
        placeholder: 1,
        class: "",
        hint: "0 to 1: how firmly the first stage's image holds.",
      }),
      output_format: choiceField({ label: "Format", choices: FORMATS, onchange: to("output_format") }),
      enable_audio: choiceField({
        label: "Sound",
        choices: [
          ["", sound],
          ["true", "With sound"],
          ["false", "Without sound"],
        ],
        onchange: to("enable_audio"),
      }),
      total_frames: number("total_frames", "Exact length, frames", {
        min: 1,
        placeholder: "all",
        class: "",
        hint: "Cuts up to 7 frames from the end.",
      }),
      model: new Field({ label: "Model", control: model }),
    };
    const f = this.fields;
    const row = (/** @type {Field[]} */ ...fields) =>
      h(
        "div",
        { class: "row" },
        fields.map((one) => one.element),
      );
    this.more = /** @type {HTMLDetailsElement} */ (
      h(
        "details",
        { class: "more" },
        h("summary", {}, "More settings"),
        row(f.guidance, f.fps),
        f.motion_tail_frames.element,
        f.strength.element,
        f.total_frames.element,
        f.model.element,
      )
    );
    const pixels = limits.max_pixels.toLocaleString("en");
    this.element = h(
      "section",
      { class: "panel settings", "aria-labelledby": "settings-title" },
      h("h2", { id: "settings-title" }, "Settings"),
      row(f.width, f.height),
      h("p", { class: "hint" }, `Multiples of ${step}, at most ${pixels} pixels a frame.`),
      f.seed.element,
      row(f.steps, f.output_format),
      f.enable_audio.element,
      this.more,
    );
  }

  /** @param {Record<string, string>} chain */
  update(chain) {
    for (const [key, field] of Object.entries(this.fields)) field.put(chain[key] ?? "");
    if (chain.output_format === "mp4") this.fields.output_format.put("");
  }

  /** Show remarks at their fields; returns the paths that have one here. @param {Map<string, any>} remarks */
  remark(remarks) {
    for (const [key, field] of Object.entries(this.fields)) {
      field.show(remarks.get(key));
      if (remarks.has(key) && this.more.contains(field.element)) this.more.open = true;
    }
    return Object.keys(this.fields);
  }
}
