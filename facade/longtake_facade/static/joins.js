/** The join report, drawn: how much the picture jumps at each boundary, beside how much it moves anyway. */

import { h } from "./dom.js";

const NAMES = { smooth: "Smooth", cut: "Cut", fade: "Fade" };

/** @param {number} value @param {number} most @param {string} kind */
function bar(value, most, kind) {
  const filled = h("span", { class: `bar-fill ${kind}` });
  filled.style.width = `${(100 * value) / most}%`;
  return h("span", { class: "bar", "aria-hidden": "true" }, filled);
}

/** The jump in words, by what it is compared with. @param {any} join */
export function verdict({ frame_jump: jump, inner_jump: inner }) {
  if (jump <= inner * 1.25) return "no more than the motion around it";
  return inner > 0 ? `${(jump / inner).toFixed(1)} times the motion around it` : "a jump in a still picture";
}

/** @param {any[]} joins @param {(index: number) => void} onselect */
export function joinReport(joins, onselect) {
  const most = Math.max(1e-6, ...joins.flatMap((join) => [join.frame_jump, join.inner_jump, join.colour_shift]));
  const cell = (/** @type {number} */ value, /** @type {string} */ kind) =>
    h(
      "td",
      {},
      h("span", { class: "measure" }, bar(value, most, kind), h("span", { class: "figure" }, value.toFixed(1))),
    );
  const rows = joins.map((join) => {
    const name = `${join.stage_idx} → ${join.stage_idx + 1}`;
    const label = `Go to the join of stages ${join.stage_idx} and ${join.stage_idx + 1}`;
    const go = h(
      "button",
      { type: "button", class: "link", "aria-label": label, onclick: () => onselect(join.stage_idx) },
      name,
    );
    return h(
      "tr",
      {},
      h(
        "th",
        { scope: "row" },
        go,
        h("span", { class: "join-kind" }, NAMES[/** @type {keyof typeof NAMES} */ (join.transition)]),
      ),
      cell(join.frame_jump, "jump"),
      cell(join.inner_jump, "inner"),
      cell(join.colour_shift, "colour"),
      h("td", { class: "join-verdict" }, verdict(join)),
    );
  });
  const head = ["Join", "Jump", "Motion inside", "Colour shift", "The jump is"];
  return h(
    "section",
    { class: "panel joins", "aria-labelledby": "joins-title" },
    h("h2", { id: "joins-title" }, "Joins"),
    h(
      "p",
      { class: "hint" },
      "Mean difference of the pixels, 0 to 255: across the join, between frames of the later stage, and of the colours.",
    ),
    h(
      "div",
      { class: "scrolled", tabindex: 0, role: "region", "aria-label": "Join report" },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            head.map((one) => h("th", { scope: "col" }, one)),
          ),
        ),
        h("tbody", {}, rows),
      ),
    ),
  );
}
