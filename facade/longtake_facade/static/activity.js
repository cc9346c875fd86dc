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

  /** @param {any[]} chains */
  show(chains) {
    document.title = chains.length ? `(${chains.length}) Longtake` : "Longtake";
    const shown = chains.slice(0, SHOWN);
    while (this.links.children.length > shown.length) this.links.lastElementChild?.remove();
    shown.forEach((chain, i) => {
      const item = this.links.children[i] ?? this.links.appendChild(this.item());
      const link = /** @type {HTMLAnchorElement} */ (item.firstElementChild);
      const [prompt, state] = /** @type {HTMLElement[]} */ ([...link.children]);
      const href = `#/chains/${chain.id}`;
      if (link.getAttribute("href") !== href) link.setAttribute("href", href);
      text(prompt, chain.prompt);
      const done = `${chain.stages_done} of ${counted(chain.stage_count, "stage")}`;
      text(state, chain.state === "queued" ? "waiting" : done);
      item.classList.toggle("here", location.hash === href);
    });
    this.place.classList.toggle("busy", chains.length > 0);
  }

  item() {
    const words = [h("span", { class: "activity-prompt" }), h("span", { class: "activity-state" })];
    return h("li", {}, h("a", {}, words));
  }
}
