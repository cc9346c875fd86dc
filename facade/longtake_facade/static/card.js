/** A stage of the script as a card. */

import { attribute, h, icon, text, uniqueId } from "./dom.js";
import { choiceField, iconButton, numberField, seedField, textField } from "./fields.js";
import { ImageDrop } from "./image.js";
import { FADE_FRAMES_DEFAULT } from "./layout.js";
import { LengthField } from "./length.js";

const TRANSITIONS = /** @type {[string, string][]} */ ([
  ["smooth", "Smooth: goes on"],
  ["cut", "Cut: starts anew"],
  ["fade", "Fade: blends in"],
]);

/**
 * @typedef {{edit: (change: Partial<import("./draft.js").Stage>) => void, move: (by: number) => void,
 *   duplicate: () => void, remove: () => void, grab: (event: PointerEvent) => void, seen: () => void}} Actions
 */
export class Card {
  /** @param {any} limits @param {Actions} actions */
  constructor(limits, actions) {
    this.limits = limits;
    this.actions = actions;
    const edit = actions.edit;
    this.transition = choiceField({
      label: "Transition",
      class: "transition",
      choices: TRANSITIONS,
      onchange: (transition) => edit({ transition }),
    });
    this.fade = numberField({
      label: "Fade, frames",
      class: "short",
      min: 1,
      max: limits.fade_frames_max,
      step: 1,
      placeholder: FADE_FRAMES_DEFAULT,
      oninput: (fade_frames) => edit({ fade_frames }),
    });
    this.prompt = textField({
      label: "Prompt",
      class: "prompt",
      rows: 3,
      placeholder: "What is seen and heard in this stage",
      oninput: (prompt) => edit({ prompt }),
    });
    this.prompt.control.addEventListener("blur", () => actions.seen());
    this.negative = textField({
      label: "Negative prompt",
      placeholder: "What it should stay away from",
      oninput: (negative_prompt) => edit({ negative_prompt }),
    });
    this.offset = seedField({
      label: "Seed offset",
      hint: "Varies this stage alone: its seed is the script's XOR this.",
      placeholder: "none",
      oninput: (seed_offset) => edit({ seed_offset }),
    });
    this.image = new ImageDrop((image) => edit({ image }));
    this.general = h("p", { class: "remark problem", role: "alert", hidden: true });
    this.length = new LengthField(limits, (frames) => edit({ frames }));
    this.title = h("h3", { id: uniqueId("stage"), tabindex: "-1" });
    this.up = iconButton("Move up", icon("up"), { onclick: () => actions.move(-1) });
    this.down = iconButton("Move down", icon("down"), { onclick: () => actions.move(1) });
    this.copy = iconButton("Duplicate", icon("copy"), { onclick: actions.duplicate });
    this.trash = iconButton("Delete", icon("trash"), { onclick: actions.remove });
    this.join = h("div", { class: "join" }, this.transition.element, this.fade.element);
    this.more = /** @type {HTMLDetailsElement} */ (
      h(
        "details",
        { class: "more" },
        h("summary", {}, "Negative prompt, seed offset"),
        this.negative.element,
        this.offset.element,
      )
    );
    this.element = h("li", { class: "stage" }, this.join, this.card());
  }

  card() {
    const grip = h("span", { class: "grip", title: "Drag to reorder", onpointerdown: this.actions.grab }, icon("grip"));
    const tools = h("div", { class: "card-tools" }, this.up, this.down, this.copy, this.trash);
    const head = h("header", { class: "card-head" }, grip, this.title, tools);
    const body = h("div", { class: "card-body" }, this.prompt.element, this.image.element, this.length.element);
    const onkeydown = (/** @type {KeyboardEvent} */ event) => {
      const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!event.altKey || by === undefined) return;
      event.preventDefault();
      this.actions.move(by);
    };
    const named = { class: "card", "aria-labelledby": this.title.id, onkeydown };
    return h("article", named, head, this.general, body, this.more);
  }

  /**
   * @param {import("./draft.js").Stage} stage @param {number} index @param {number} count @param {number} fps
   */
  update(stage, index, count, fps) {
    text(this.title, `Stage ${index + 1}`);
    this.join.hidden = index === 0;
    this.transition.put(stage.transition);
    this.fade.put(stage.fade_frames);
    this.fade.element.hidden = stage.transition !== "fade";
    this.prompt.put(stage.prompt);
    this.negative.put(stage.negative_prompt);
    this.offset.put(stage.seed_offset);
    this.length.put(stage.frames, fps);
    this.image.put(stage.image, this.anchor(stage, index));
    // aria-disabled rather than disabled, which would drop the focus of who moves a card to the end.
    attribute(this.up, "aria-disabled", index === 0 ? "true" : null);
    attribute(this.down, "aria-disabled", index === count - 1 ? "true" : null);
    attribute(this.trash, "disabled", count === 1);
    attribute(this.copy, "disabled", count >= this.limits.max_stages);
    if (stage.negative_prompt || stage.seed_offset) this.more.open = true;
  }

  /** How an image acts here, in words. @param {import("./draft.js").Stage} stage @param {number} index */
  anchor(stage, index) {
    return index > 0 && stage.transition === "smooth" ? "a soft anchor after the shared frames" : "the first frame";
  }

  /**
   * Show the remarks on this stage. @param {Map<string, import("./check.js").Remark>} remarks by field
   * @param {boolean} quiet nobody has written here yet: an empty prompt is no news
   */
  remark(remarks, quiet) {
    this.prompt.show(quiet ? undefined : remarks.get("prompt"));
    this.length.frames.show(remarks.get("frames"));
    this.transition.show(remarks.get("transition"));
    this.fade.show(remarks.get("fade_frames"));
    this.negative.show(remarks.get("negative_prompt"));
    this.offset.show(remarks.get("seed_offset"));
    this.image.show(remarks.get("source_image"));
    const general = remarks.get("");
    this.general.hidden = !general;
    text(this.general, general?.message ?? "");
    if (remarks.has("negative_prompt") || remarks.has("seed_offset")) this.more.open = true;
  }
}
