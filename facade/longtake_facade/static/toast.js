/** Short notices at the foot of the page, and what only screen readers are told. */

import { fill, h, text } from "./dom.js";
import { button } from "./fields.js";

const STAYS_MS = 8000;
const notice = h("div", { class: "toast", role: "status", hidden: true });
const spoken = h("div", { class: "visually-hidden", "aria-live": "polite" });
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

export function mountToasts() {
  document.body.append(notice, spoken);
}

/** Say something for a few seconds. @param {string} message @param {{label: string, run: () => void}} [action] */
export function toast(message, action) {
  clearTimeout(timer);
  notice.hidden = false;
  const act = () => {
    notice.hidden = true;
    action?.run();
  };
  fill(notice, h("span", {}, message), action && button(action.label, { onclick: act, class: "quiet" }));
  timer = setTimeout(() => (notice.hidden = true), STAYS_MS);
}

/** Tell screen readers. @param {string} message */
export function announce(message) {
  text(spoken, message);
}
