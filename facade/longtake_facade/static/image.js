/** A place for an image: dropped, pasted or chosen, with a preview. */

import { attribute, h, icon, text, uniqueId } from "./dom.js";
import { iconButton } from "./fields.js";
import { numbered, sentence } from "./words.js";

const KINDS = ["image/png", "image/jpeg", "image/webp"];
const MAX_BYTES = 16 * 2 ** 20;

export class ImageDrop {
  /** @param {(image: Blob | null) => void} onchange */
  constructor(onchange) {
    this.onchange = onchange;
    /** @type {Blob | null} */
    this.shown = null;
    this.preview = /** @type {HTMLImageElement} */ (h("img", { alt: "The image of this stage", hidden: true }));
    const id = uniqueId("image");
    this.input = /** @type {HTMLInputElement} */ (
      h("input", {
        type: "file",
        accept: KINDS.join(","),
        id,
        class: "visually-hidden",
        onchange: () => this.take(this.input.files?.[0]),
      })
    );
    this.words = h("span", { class: "image-words" });
    const label = h("label", { for: id, class: "image-label" }, icon("image"), this.words, this.preview);
    this.clear = iconButton("Remove the image", icon("close"), {
      class: "icon-button image-clear",
      onclick: () => this.remove(),
    });
    this.remark = h("p", { class: "remark", id: `${id}-remark`, hidden: true });
    this.element = h("div", { class: "image-drop" }, this.input, label, this.clear, this.remark);
    this.listen();
  }

  listen() {
    const zone = this.element;
    zone.addEventListener("dragover", (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      zone.classList.add("over");
    });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      event.stopPropagation();
      zone.classList.remove("over");
      this.take(event.dataTransfer?.files[0]);
    });
  }

  /** @param {File | Blob | undefined} file */
  take(file) {
    if (!file) return;
    if (!KINDS.includes(file.type)) return this.say("this is no PNG, JPEG or WebP image", "problem");
    if (file.size > MAX_BYTES) return this.say("the image has more than 16 MiB", "problem");
    this.say("", "problem");
    this.onchange(file);
  }

  remove() {
    this.onchange(null);
    this.input.value = "";
    this.input.focus();
  }

  /** @param {Blob | null} image @param {string} role what it does here, in words */
  put(image, role) {
    text(this.words, image ? `Image: ${role}` : "Add an image: drop, paste or choose");
    this.clear.hidden = !image;
    if (image === this.shown) return;
    this.shown = image;
    URL.revokeObjectURL(this.preview.src);
    this.preview.hidden = !image;
    this.element.classList.toggle("filled", Boolean(image));
    if (image) this.preview.src = URL.createObjectURL(image);
    else this.preview.removeAttribute("src");
  }

  /** @param {import("./check.js").Remark | undefined} remark */
  show(remark) {
    if (remark || this.remark.dataset.server) this.say(remark?.message ?? "", remark?.kind ?? "problem");
    attribute(this.remark, "data-server", Boolean(remark));
  }

  /** @param {string} message @param {string} kind */
  say(message, kind) {
    text(this.remark, message && sentence(numbered(message)));
    this.remark.hidden = !message;
    this.remark.className = `remark ${kind}`;
    attribute(this.input, "aria-describedby", message ? this.remark.id : null);
    attribute(this.input, "aria-invalid", message && kind === "problem" ? "true" : null);
  }
}

/** The image of a paste, if it has one. @param {ClipboardEvent} event */
export function pasted(event) {
  const files = [...(event.clipboardData?.files ?? [])];
  return files.find((file) => KINDS.includes(file.type));
}
