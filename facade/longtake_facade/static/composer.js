/** The composer: the script as cards, its settings, its timeline, and what stands in the way of rendering it. */

import { create, Refusal } from "./api.js";
import { Card } from "./card.js";
import { stage } from "./draft.js";
import { fill, h, icon } from "./dom.js";
import { EXAMPLE } from "./example.js";
import { button } from "./fields.js";
import { pasted } from "./image.js";
import { layout } from "./layout.js";
import { drag } from "./reorder.js";
import { requestOf } from "./request.js";
import { RenderBar } from "./renderbar.js";
import { Settings } from "./settings.js";
import { Timeline } from "./timeline.js";
import { announce, toast } from "./toast.js";
import { counted, explained, numbered, sentence } from "./words.js";

export class Composer {
  /** @param {import("./draft.js").Draft} draft @param {import("./check.js").Check} check @param {any} limits */
  constructor(draft, check, limits) {
    this.draft = draft;
    this.check = check;
    this.limits = limits;
    /** @type {Map<string, Card>} */
    this.cards = new Map();
    /** Stages somebody has been at: an empty prompt elsewhere is no problem yet. */
    this.seen = new Set();
    this.timeline = new Timeline((index) => this.reveal(index));
    this.settings = new Settings(limits, (key, value) => draft.change((script) => (script.chain[key] = value)));
    this.list = h("ol", { class: "stages", "aria-label": "Stages" });
    this.add = button("Add a stage", { class: "add", onclick: () => this.insert() }, icon("plus"));
    this.welcome = button("Start from an example", { class: "quiet", onclick: () => this.example() });
    this.general = h("ul", { class: "general", hidden: true });
    this.bar = new RenderBar(draft, check, limits, () => this.render());
    this.element = this.build();
    draft.addEventListener("change", () => this.show());
    check.addEventListener("checked", () => this.remark());
    this.element.addEventListener("paste", (event) => this.paste(event));
    this.show();
    this.remark();
  }

  build() {
    const head = h("div", { class: "panel-head" }, h("h2", { id: "timeline-title" }, "Timeline"), this.bar.total);
    const timeline = h(
      "section",
      { class: "panel timeline-panel", "aria-labelledby": "timeline-title" },
      head,
      this.timeline.element,
    );
    const script = h(
      "section",
      { class: "script", "aria-labelledby": "script-title" },
      h("div", { class: "panel-head" }, h("h2", { id: "script-title" }, "Script"), this.welcome),
      this.list,
      this.add,
    );
    const columns = h("div", { class: "columns" }, script, h("div", { class: "side" }, this.settings.element));
    return h(
      "div",
      { class: "composer" },
      h("h1", { class: "visually-hidden" }, "Compose"),
      timeline,
      this.general,
      columns,
      this.bar.element,
    );
  }

  get frames() {
    return this.limits.frames_per_clip_recommended;
  }

  get fps() {
    return Number(this.draft.script.chain.fps) || this.limits.fps;
  }

  /** Bring cards and timeline to what the draft is. */
  show() {
    const { stages, chain } = this.draft.script;
    const ids = new Set(stages.map((one) => one.id));
    for (const [id, card] of this.cards) {
      if (ids.has(id)) continue;
      card.element.remove();
      this.cards.delete(id);
    }
    stages.forEach((one, i) => {
      const card = this.cards.get(one.id) ?? this.card(one.id);
      if (this.list.children[i] !== card.element) this.list.insertBefore(card.element, this.list.children[i] ?? null);
      card.update(one, i, stages.length, this.fps);
    });
    this.add.disabled = stages.length >= this.limits.max_stages;
    this.welcome.hidden = !this.draft.empty;
    this.settings.update(chain);
    this.drawTimeline();
  }

  drawTimeline() {
    const { stages, chain } = this.draft.script;
    const shots = stages.map((one) => ({
      frames: Number(one.frames) || this.frames,
      transition: one.transition,
      fade_frames: one.fade_frames === "" ? null : Number(one.fade_frames),
    }));
    const tail = chain.motion_tail_frames ? Number(chain.motion_tail_frames) : this.limits.motion_tail_frames;
    const drawn = layout(shots, tail, chain.total_frames ? Number(chain.total_frames) : null);
    this.timeline.draw(drawn, this.fps);
    this.describe();
    this.bar.show(drawn, this.fps);
  }

  describe() {
    const problems = [...this.check.remarks].filter(([, remark]) => remark.kind === "problem").map(([path]) => path);
    this.timeline.describe(
      this.draft.script.stages.map((one, i) => ({
        label: one.prompt.trim() || "No prompt yet",
        problem: problems.some((path) => path.startsWith(`stages[${i}]`)) && !this.quiet(one),
      })),
    );
  }

  /** @param {import("./draft.js").Stage} one */
  quiet(one) {
    return !one.prompt.trim() && !this.seen.has(one.id);
  }

  /** Put each remark where it belongs; what belongs nowhere goes to the top. */
  remark() {
    const left = new Map(this.check.remarks);
    this.draft.script.stages.forEach((one, i) => {
      const own = new Map();
      for (const [path, remark] of left) {
        if (path !== `stages[${i}]` && !path.startsWith(`stages[${i}].`)) continue;
        own.set(path.slice(`stages[${i}].`.length), remark);
        left.delete(path);
      }
      this.cards.get(one.id)?.remark(own, this.quiet(one));
    });
    for (const path of this.settings.remark(left)) left.delete(path);
    const lines = [...left].map(([path, remark]) =>
      h(
        "li",
        { class: `remark ${remark.kind}` },
        sentence(numbered(path ? `${path}: ${remark.message}` : remark.message)),
      ),
    );
    fill(this.general, lines);
    this.general.hidden = !lines.length;
    this.describe();
    this.bar.checked();
  }

  // ------------------------------------------------------------------------------------------------ editing

  /** @param {string} id */
  card(id) {
    const at = () => this.draft.script.stages.findIndex((one) => one.id === id);
    const card = new Card(this.limits, {
      edit: (change) => this.draft.change(({ stages }) => Object.assign(stages[at()], change)),
      move: (by) => this.move(at(), at() + by),
      duplicate: () => this.insert(at()),
      remove: () => this.remove(at()),
      grab: (event) => drag(event, card.element, this.list, (to) => this.move(at(), to)),
      seen: () => {
        if (this.seen.has(id)) return;
        this.seen.add(id);
        // Only then does it change what is shown; what moves between press and release is never pressed.
        if (!this.draft.script.stages[at()]?.prompt.trim()) this.remark();
      },
    });
    this.cards.set(id, card);
    return card;
  }

  /** @param {number} from @param {number} to */
  move(from, to) {
    const { stages } = this.draft.script;
    if (to < 0 || to >= stages.length) return;
    // Moving an element in the document takes its focus away.
    const focused = /** @type {HTMLElement | null} */ (document.activeElement);
    this.draft.change((script) => script.stages.splice(to, 0, ...script.stages.splice(from, 1)));
    focused?.focus({ preventScroll: true });
    this.cards.get(stages[to].id)?.element.scrollIntoView({ block: "nearest" });
    announce(`Stage ${from + 1} is now stage ${to + 1} of ${stages.length}`);
  }

  /** A new stage at the end, or a copy of one after it. @param {number} [of] */
  insert(of) {
    const { stages } = this.draft.script;
    if (stages.length >= this.limits.max_stages) return;
    const at = of === undefined ? stages.length : of + 1;
    const made = stage(of === undefined ? {} : stages[of]);
    this.draft.change((script) => script.stages.splice(at, 0, made));
    const card = this.cards.get(made.id);
    card?.prompt.control.focus();
    announce(`Stage ${at + 1} added`);
  }

  /** @param {number} index */
  remove(index) {
    const [gone] = this.draft.script.stages.slice(index);
    this.draft.change(({ stages }) => stages.splice(index, 1));
    const near = this.draft.script.stages[Math.min(index, this.draft.script.stages.length - 1)];
    this.cards.get(near.id)?.title.focus();
    const run = () => this.draft.change(({ stages }) => stages.splice(index, 0, gone));
    toast(`Stage ${index + 1} deleted.`, { label: "Undo", run });
  }

  async example() {
    this.draft.replace(EXAMPLE());
  }

  /** @param {number} index */
  reveal(index) {
    const card = this.cards.get(this.draft.script.stages[index].id);
    card?.element.scrollIntoView({ block: "center" });
    card?.prompt.control.focus({ preventScroll: true });
  }

  /** An image that is pasted goes to the stage that has the focus, or to the first. @param {ClipboardEvent} event */
  paste(event) {
    const image = pasted(event);
    if (!image) return;
    event.preventDefault();
    const target = /** @type {Node} */ (event.target);
    const found = this.draft.script.stages.findIndex((one) => this.cards.get(one.id)?.element.contains(target));
    const index = Math.max(0, found);
    this.cards.get(this.draft.script.stages[index].id)?.image.take(image);
    announce(`Image added to stage ${index + 1}`);
  }

  // ---------------------------------------------------------------------------------------------- rendering

  async render() {
    this.draft.script.stages.forEach((one) => this.seen.add(one.id));
    this.remark();
    this.bar.busy(true);
    try {
      const request = await requestOf(this.draft.script, { frames: this.frames });
      const accepted = await create(request, await this.draft.submission());
      this.draft.submitted();
      location.hash = `#/chains/${accepted.id}`;
    } catch (error) {
      const invalid = error instanceof Refusal && [400, 404, 413, 422].includes(error.status);
      if (invalid) this.check.refused(error);
      if (!invalid) toast(explained(error), { label: "Try again", run: () => this.render() });
      else this.firstProblem();
    } finally {
      this.bar.busy(false);
    }
  }

  firstProblem() {
    const found = /** @type {HTMLElement | null} */ (this.element.querySelector('[aria-invalid="true"]'));
    const count = [...this.check.remarks.values()].filter((remark) => remark.kind === "problem").length;
    announce(`${counted(count, "problem")} to solve before this can be rendered`);
    (found ?? this.general).scrollIntoView({ block: "center" });
    found?.focus({ preventScroll: true });
  }
}
