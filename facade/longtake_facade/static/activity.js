/** What the server is rendering now, on every view: several chains at once, each a link to its own. */

import { list, Refusal, Unreachable } from "./api.js";
import { fill, h, text } from "./dom.js";
import { counted } from "./words.js";

const BUSY_MS = 1500;
const IDLE_MS = 8000;
const SHOWN = 4;

export class Activity {
  /** @param {HTMLElement} place */
  constructor(place) {
    this.links = h("ul", {});
    this.place = place;
    /** @type {Map<string, HTMLElement>} */
    this.items = new Map();
    this.count = 0;
    this.view = "Compose";
    fill(place, this.links);
    this.timer = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
    addEventListener("hashchange", () => this.refresh());
    this.refresh();
  }

  async refresh() {
    clearTimeout(this.timer);
    let busy = false;
    try {
      const pages = await Promise.all(["running", "queued"].map((state) => list({ state, limit: 20 })));
      const chains = pages.flatMap((page) => page.chains);
      busy = chains.length > 0;
      this.show(chains);
    } catch (error) {
      if (!(error instanceof Refusal || error instanceof Unreachable)) throw error;
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), busy ? BUSY_MS : IDLE_MS);
  }

  /** The window's title: where one is, and how much is being rendered. @param {string} [view] */
  entitle(view = this.view) {
    this.view = view;
    document.title = `${this.count ? `(${this.count}) ` : ""}${view} · Longtake`;
  }

  /** @param {any[]} chains */
  show(chains) {
    this.count = chains.length;
    this.entitle();
    const shown = chains.slice(0, SHOWN);
    const wanted = new Set(shown.map((chain) => chain.id));
    for (const [id, item] of this.items) {
      if (wanted.has(id)) continue;
      item.remove();
      this.items.delete(id);
    }
    for (const chain of shown) this.describe(this.items.get(chain.id) ?? this.item(chain), chain);
    this.place.classList.toggle("busy", chains.length > 0);
  }

  /** @param {HTMLElement} item @param {any} chain */
  describe(item, chain) {
    const done = `${chain.stages_done} of ${counted(chain.stage_count, "stage")}`;
    text(
      /** @type {HTMLElement} */ (item.querySelector(".activity-state")),
      chain.state === "queued" ? "waiting" : done,
    );
    item.classList.toggle("here", location.hash === `#/chains/${chain.id}`);
  }

  /** A link that stays where it is as others come and go: somebody may be about to press it. @param {any} chain */
  item(chain) {
    const words = [h("span", { class: "activity-prompt" }, chain.prompt), h("span", { class: "activity-state" })];
    const item = h("li", {}, h("a", { href: `#/chains/${chain.id}` }, words));
    this.items.set(chain.id, item);
    this.links.append(item);
    return item;
  }
}
