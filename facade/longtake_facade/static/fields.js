/** Form fields with a label, a hint, and the place where the server's remarks on them appear. */

import { attribute, h, text, uniqueId } from "./dom.js";
import { numbered, sentence } from "./words.js";

/** One control and what belongs to it. */
export class Field {
  /**
   * @param {{label: string, control: HTMLElement, hint?: string, class?: string}} parts
   */
  constructor({ label, control, hint = "", class: kind = "" }) {
    control.id ||= uniqueId("field");
    this.control = /** @type {HTMLInputElement} */ (control);
    this.hint = h("p", { class: "hint", id: `${control.id}-hint`, hidden: !hint }, hint);
    this.remark = h("p", { class: "remark", id: `${control.id}-remark`, hidden: true });
    this.label = h("label", { for: control.id }, label);
    this.element = h("div", { class: `field ${kind}` }, this.label, control, this.hint, this.remark);
    this.describe();
  }

  /** @param {string} hint */
  setHint(hint) {
    text(this.hint, hint);
    attribute(this.hint, "hidden", !hint);
    this.describe();
  }

  /** @param {import("./check.js").Remark | undefined} remark */
  show(remark) {
    text(this.remark, remark ? sentence(numbered(remark.message)) : "");
    attribute(this.remark, "hidden", !remark);
    this.remark.className = `remark ${remark?.kind ?? ""}`;
    attribute(this.control, "aria-invalid", remark?.kind === "problem" ? "true" : null);
    this.describe();
  }

  describe() {
    const told = [this.hint, this.remark].filter((one) => !one.hidden).map((one) => one.id);
    attribute(this.control, "aria-describedby", told.join(" ") || null);
  }

  /** Show a value, unless it is what is being typed. @param {string} value */
  put(value) {
    if (this.control.value !== value) this.control.value = value;
  }
}

/**
 * A field for a number.
 * @param {{label: string, hint?: string, class?: string, oninput: (value: string) => void} & Record<string, unknown>} o
 */
export function numberField({ label, hint, class: kind, oninput, ...attributes }) {
  const control = h("input", {
    type: "number",
    inputmode: "decimal",
    autocomplete: "off",
    ...attributes,
    oninput: (/** @type {Event} */ event) => oninput(/** @type {HTMLInputElement} */ (event.target).value),
  });
  return new Field({ label, hint, control, class: kind });
}

/**
 * A field for a seed: digits, more than a number of the browser can hold.
 * @param {{label: string, hint?: string, placeholder?: string, oninput: (value: string) => void}} o
 */
export function seedField({ label, hint, placeholder, oninput }) {
  const control = h("input", {
    type: "text",
    inputmode: "numeric",
    autocomplete: "off",
    spellcheck: "false",
    placeholder,
    oninput: (/** @type {Event} */ event) => oninput(/** @type {HTMLInputElement} */ (event.target).value.trim()),
  });
  return new Field({ label, hint, control });
}

/**
 * A field with a few choices.
 * @param {{label: string, hint?: string, class?: string, choices: [string, string][], onchange: (value: string) => void}} o
 */
export function choiceField({ label, hint, class: kind, choices, onchange }) {
  const control = h(
    "select",
    { onchange: (/** @type {Event} */ event) => onchange(/** @type {HTMLSelectElement} */ (event.target).value) },
    choices.map(([value, shown]) => h("option", { value }, shown)),
  );
  return new Field({ label, hint, control, class: kind });
}

/**
 * A field for text of several lines, which grows with it.
 * @param {{label: string, hint?: string, placeholder?: string, rows?: number, class?: string,
 *   oninput: (value: string) => void}} o
 */
export function textField({ label, hint, placeholder, rows = 2, class: kind, oninput }) {
  const control = h("textarea", {
    rows,
    placeholder,
    oninput: (/** @type {Event} */ event) => oninput(/** @type {HTMLTextAreaElement} */ (event.target).value),
  });
  return new Field({ label, hint, control, class: kind });
}

/** A button. @param {string} label @param {Record<string, unknown>} attributes @param {...any} content */
export function button(label, attributes, ...content) {
  return /** @type {HTMLButtonElement} */ (h("button", { type: "button", ...attributes }, ...content, label));
}

/** A button that is only an icon; its label is for screen readers and as a tip. */
export function iconButton(/** @type {string} */ label, /** @type {Node} */ icon, /** @type {object} */ attributes) {
  return /** @type {HTMLButtonElement} */ (
    h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, ...attributes }, icon)
  );
}
