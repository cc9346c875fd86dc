/** What the script comes to: exact length, memory, time; and the buttons that make something of it. */

import { UNWRITTEN } from "./check.js";
import { attribute, h, text } from "./dom.js";
import { estimate } from "./estimate.js";
import { button } from "./fields.js";
import { openExport } from "./export.js";
import { openImport } from "./import.js";
import { counted, gibibytes, seconds } from "./words.js";

export class RenderBar {
  /**
   * @param {import("./draft.js").Draft} draft @param {import("./check.js").Check} check @param {any} limits
   * @param {() => void} render
   */
  constructor(draft, check, limits, render) {
    this.check = check;
    this.limits = limits;
    this.total = h("p", { class: "total" });
    this.cost = h("span", { class: "cost" });
    this.verdict = h("span", { class: "verdict", role: "status" });
    this.button = button("Render", { class: "primary", onclick: render });
    const scripts = [
      button("Import", { class: "quiet", onclick: () => openImport(draft) }),
      button("Export", { class: "quiet", onclick: () => openExport(draft.script, limits) }),
    ];
    this.element = h(
      "div",
      { class: "render-bar", role: "group", "aria-label": "Render" },
      h("div", { class: "render-words" }, this.verdict, this.cost),
      h("div", { class: "buttons" }, scripts, this.button),
    );
  }

  /** @param {import("./layout.js").Layout} layout @param {number} fps */
  show(layout, fps) {
    this.layout = layout;
    this.fps = fps;
    this.say(layout.total);
    attribute(this.total, "data-state", "asking");
  }

  /** @param {number} frames */
  say(frames) {
    const takes = counted(this.layout?.takes.length ?? 0, "take");
    text(this.total, `${seconds(frames, this.fps ?? 24)} · ${counted(frames, "frame")} · ${takes}`);
  }

  /** The server has answered, or cannot. */
  checked() {
    const { report, remarks, trouble } = this.check;
    const all = [...remarks.values()];
    const unwritten = all.filter((remark) => remark.message === UNWRITTEN).length;
    const problems = all.filter((remark) => remark.kind === "problem").length - unwritten;
    const warnings = all.filter((remark) => remark.kind === "warning").length;
    attribute(this.total, "data-state", report ? "exact" : "asking");
    if (report) this.say(report.total_frames);
    const ready = warnings ? `Ready, with ${counted(warnings, "warning")}` : report ? "Ready to render" : "Checking …";
    const good = unwritten ? `${counted(unwritten, "prompt")} to write` : ready;
    text(this.verdict, trouble || (problems ? `${counted(problems, "problem")} to solve` : good));
    attribute(this.verdict, "data-kind", trouble || problems ? "problem" : warnings ? "warning" : null);
    this.price(report);
  }

  /** @param {any} report */
  async price(report) {
    const words = [];
    if (report?.vram_estimate) {
      const { worst_case_bytes: bytes, fits } = report.vram_estimate;
      words.push(`${gibibytes(bytes)} of GPU memory${fits ? "" : ", more than the GPU has"}`);
    }
    const time = report && (await estimate(report));
    if (report !== this.check.report) return;
    if (time) words.push(time);
    text(this.cost, words.join(" · "));
    attribute(this.cost, "data-kind", report?.vram_estimate?.fits === false ? "problem" : null);
  }

  /** @param {boolean} sending */
  busy(sending) {
    this.button.disabled = sending;
    text(this.button, sending ? "Sending …" : "Render");
  }
}
