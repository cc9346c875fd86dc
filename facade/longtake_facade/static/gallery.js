/** Every chain the server keeps: pictures that move under the pointer, search, delete, use again. */

import { detail, list, Refusal, remove, Unreachable } from "./api.js";
import { confirmed } from "./dialog.js";
import { attribute, fill, h, icon, text } from "./dom.js";
import { button, choiceField, iconButton } from "./fields.js";
import { adopt } from "./import.js";
import { draftOf } from "./request.js";
import { announce, toast } from "./toast.js";
import { counted, explained, STATES, when } from "./words.js";

const PAGE = 24;
const SEARCH_AFTER_MS = 150;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class GalleryView {
  /** @param {import("./draft.js").Draft} draft */
  constructor(draft) {
    this.draft = draft;
    /** @type {any[]} */
    this.chains = [];
    /** @type {string | null} */
    this.cursor = null;
    this.state = "";
    this.search = /** @type {HTMLInputElement} */ (
      h("input", {
        type: "search",
        placeholder: "Search the prompts",
        "aria-label": "Search the prompts",
        oninput: () => this.soon(),
      })
    );
    this.filter = choiceField({
      label: "Show",
      class: "inline",
      choices: [
        ["", "All"],
        ...Object.entries(STATES).map(([value, word]) => /** @type {[string, string]} */ ([value, word])),
      ],
      onchange: (state) => this.reload(state),
    });
    this.list = h("ul", { class: "gallery" });
    this.words = h("p", { class: "gallery-words", role: "status" }, "Loading …");
    this.more = button("Show more", { class: "quiet", hidden: true, onclick: () => this.next() });
    this.element = h(
      "div",
      { class: "gallery-view" },
      h(
        "div",
        { class: "panel-head" },
        h("h1", {}, "Gallery"),
        h("div", { class: "gallery-tools" }, this.search, this.filter.element),
      ),
      this.words,
      this.list,
      h("div", { class: "buttons centred" }, this.more),
    );
    this.reload("");
  }

  /** @param {string} state */
  async reload(state) {
    this.state = state;
    this.chains = [];
    this.cursor = null;
    await this.next();
  }

  async next() {
    const { state } = this;
    try {
      const page = await list({ limit: PAGE, cursor: this.cursor, state });
      if (state !== this.state) return;
      this.chains.push(...page.chains);
      this.cursor = page.next_cursor ?? null;
      this.show();
    } catch (error) {
      text(this.words, explained(error));
    }
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.find(), SEARCH_AFTER_MS);
  }

  /** Search all there is: pages that were not shown yet too. */
  async find() {
    this.show();
    const wanted = this.search.value;
    while (wanted && this.cursor && this.search.value === wanted && this.element.isConnected) {
      const before = this.cursor;
      await this.next();
      if (this.cursor === before) return;
    }
  }

  show() {
    const wanted = this.search.value.trim().toLowerCase();
    const found = this.chains.filter((chain) => chain.prompt.toLowerCase().includes(wanted));
    fill(
      this.list,
      found.map((chain) => this.item(chain)),
    );
    this.more.hidden = !this.cursor;
    const none = wanted || this.state ? "Nothing fits." : "Nothing rendered yet. What you render appears here.";
    text(this.words, found.length ? counted(found.length, "chain") : none);
  }

  /** @param {any} chain */
  item(chain) {
    const over = !["queued", "running"].includes(chain.state);
    const picture = h(
      "span",
      { class: "picture" },
      chain.thumbnail_url
        ? this.picture(chain)
        : h("span", { class: "no-picture" }, STATES[/** @type {keyof typeof STATES} */ (chain.state)]),
    );
    const facts = [counted(chain.stage_count, "stage"), counted(chain.total_frames, "frame"), when(chain.created_at)];
    const link = h(
      "a",
      { class: "gallery-link", href: `#/chains/${chain.id}` },
      picture,
      h("span", { class: "gallery-prompt" }, chain.prompt),
    );
    const badge =
      chain.state !== "completed" &&
      h(
        "span",
        { class: "badge", "data-state": chain.state },
        STATES[/** @type {keyof typeof STATES} */ (chain.state)],
      );
    const tools = h(
      "div",
      { class: "gallery-actions" },
      button("Use this script", { class: "link", onclick: () => this.use(chain) }),
      over && iconButton(`Delete: ${chain.prompt}`, icon("trash"), { onclick: () => this.delete(chain) }),
    );
    return h(
      "li",
      {},
      link,
      h("p", { class: "hint" }, badge, badge && " ", chain.retake_of && "Retake · ", facts.join(" · ")),
      tools,
    );
  }

  /** A thumbnail that moves while it is pointed at or has the focus. @param {any} chain */
  picture(chain) {
    const image = /** @type {HTMLImageElement} */ (h("img", { alt: "", loading: "lazy", decoding: "async" }));
    image.src = chain.thumbnail_url;
    if (!chain.preview_url) return image;
    const moving = (/** @type {boolean} */ on) => () =>
      attribute(image, "src", on && !calm.matches ? chain.preview_url : chain.thumbnail_url);
    queueMicrotask(() => {
      const link = image.closest("a");
      for (const name of ["pointerenter", "focus"]) link?.addEventListener(name, moving(true));
      for (const name of ["pointerleave", "blur"]) link?.addEventListener(name, moving(false));
    });
    return image;
  }

  /** @param {any} chain */
  async use(chain) {
    try {
      const { script } = await detail(chain.id);
      adopt(this.draft, draftOf(script.chain, script.stage));
    } catch (error) {
      toast(explained(error));
    }
  }

  /** @param {any} chain */
  async delete(chain) {
    const question = "Its video and everything that only it needs are removed from the server.";
    if (!(await confirmed("Delete this chain?", question, "Delete"))) return;
    try {
      await remove(chain.id);
    } catch (error) {
      if (!(error instanceof Refusal || error instanceof Unreachable)) throw error;
      if (!(error instanceof Refusal && error.status === 404)) return toast(explained(error));
    }
    this.chains = this.chains.filter((one) => one.id !== chain.id);
    this.show();
    this.search.focus();
    announce("Deleted");
  }
}
