/** One chain: its run on the timeline, its stages as they come, then its video, joins and retakes. */

import { cancel, clockOffset, detail as ask, Refusal, remove, resume } from "./api.js";
import { comparison } from "./compare.js";
import { confirmed } from "./dialog.js";
import { attribute, fill, h, icon, text } from "./dom.js";
import { button } from "./fields.js";
import { showExport } from "./export.js";
import { adopt } from "./import.js";
import { joinReport } from "./joins.js";
import { layoutOf } from "./layout.js";
import { Player } from "./player.js";
import { draftOf, requestOf } from "./request.js";
import { stagePanel } from "./retake.js";
import { Follower, fraction } from "./run.js";
import { status, noteOf } from "./status.js";
import { Timeline } from "./timeline.js";
import { announce, toast } from "./toast.js";
import { advice, explained, numbered, sentence, STATES, when } from "./words.js";

const AGAIN_MS = 2000;
const CLOCK_MS = 1000;
const SUFFIX = { gif: "gif", apng: "png", webp: "webp" };

export class ChainView {
  /**
   * @param {string} id @param {import("./draft.js").Draft} draft
   * @param {import("./activity.js").Activity} activity
   */
  constructor(id, draft, activity) {
    this.id = id;
    this.draft = draft;
    this.activity = activity;
    this.closed = false;
    this.selected = /** @type {number | null} */ (null);
    this.element = h("div", { class: "chain" }, h("p", { class: "loading" }, "Loading …"));
    this.load();
  }

  /** The chain as it stands; asked until the server answers. */
  async load() {
    try {
      this.detail = await ask(this.id);
    } catch (error) {
      if (this.closed) return;
      fill(
        this.element,
        h("h1", {}, "A chain"),
        h("p", { class: "failure", role: "alert" }, explained(error)),
        h("p", {}, h("a", { href: "#/gallery" }, "To the gallery")),
      );
      if (!(error instanceof Refusal)) this.retry = setTimeout(() => this.load(), AGAIN_MS);
      return;
    }
    if (this.closed) return;
    this.build();
    this.follower = new Follower(this.id, this.detail.stages.length);
    this.follower.addEventListener("change", () => this.show());
    this.follower.addEventListener("ended", () => this.ended());
    this.follower.addEventListener("lost", (event) => this.lost(/** @type {CustomEvent} */ (event).detail));
    this.clock = setInterval(() => this.showStatus(), CLOCK_MS);
    this.show();
  }

  build() {
    const { script, created_at: created, retake_of: of } = this.detail;
    const { fps } = script.chain;
    this.layout = layoutOf(script);
    this.timeline = new Timeline((index) => this.select(index));
    this.timeline.draw(this.layout, fps);
    this.player = new Player(this.layout, fps, script.chain, (frame) => this.timeline?.point(frame));
    this.badge = h("span", { class: "badge" });
    this.status = h("p", { class: "status" });
    this.bar = /** @type {HTMLProgressElement} */ (h("progress", { max: 1, "aria-label": "Rendered" }));
    this.failure = h("div", { class: "failure", role: "alert", hidden: true });
    this.actions = h("div", { class: "buttons" });
    this.below = h("div", { class: "below" });
    this.stage = h("div", {});
    const origin = of && [" · retake of ", h("a", { href: `#/chains/${of}` }, "an earlier chain")];
    const head = h(
      "header",
      { class: "chain-head" },
      h(
        "div",
        {},
        h("h1", {}, script.stage[0].prompt),
        h("p", { class: "hint" }, this.badge, " ", when(created), origin),
      ),
      this.actions,
    );
    const timeline = h(
      "section",
      { class: "panel timeline-panel", "aria-labelledby": "timeline-title" },
      h("h2", { id: "timeline-title" }, "Timeline"),
      this.timeline.element,
      h("div", { class: "progress-line" }, this.bar, this.status),
    );
    fill(
      this.element,
      head,
      this.failure,
      h(
        "div",
        { class: "columns" },
        h("div", { class: "main-column" }, this.player.element, timeline, this.below),
        h("div", { class: "side" }, this.stage),
      ),
    );
    this.select(0, false);
  }

  get state() {
    const { phase, error } = this.follower?.run ?? { phase: "", error: null };
    if (phase === "complete") return "completed";
    if (phase === "error") return error.code === "CANCELLED" ? "cancelled" : "failed";
    return phase === "queued" ? "queued" : this.follower ? "running" : this.detail.state;
  }

  get over() {
    return ["completed", "failed", "cancelled"].includes(this.state);
  }

  // ------------------------------------------------------------------------------------------------ showing

  show() {
    const run = this.follower?.run;
    if (!run || this.closed) return;
    run.stages.forEach((stage, i) => stage.url && this.player?.ready(i, stage.url));
    this.describe();
    this.showStatus();
    if (this.state === this.shown) return;
    this.shown = this.state;
    const word = STATES[/** @type {keyof typeof STATES} */ (this.state)];
    text(/** @type {HTMLElement} */ (this.badge), word);
    attribute(/** @type {HTMLElement} */ (this.badge), "data-state", this.state);
    announce(word);
    this.showActions();
    this.showFailure(run.error);
    this.select(this.selected ?? 0, false);
  }

  describe() {
    const run = /** @type {import("./run.js").Run} */ (this.follower?.run);
    this.timeline?.describe(
      run.stages.map((stage, i) => ({
        label: this.detail.script.stage[i].prompt,
        state: stage.state,
        note: this.state === "completed" ? undefined : noteOf(stage),
        progress: stage.state === "done" ? 1 : stage.total ? stage.step / stage.total : 0,
      })),
      this.selected,
    );
  }

  showStatus() {
    const { follower } = this;
    if (!follower || !this.status || !this.bar) return;
    const done = fraction(
      follower.run,
      this.detail.stages.map((/** @type {any} */ stage) => stage.frames),
    );
    const { started_at: at, attempt } = this.detail;
    // Of an attempt that was resumed only the first start is known, and in between it stood still.
    const elapsed = at && attempt === 1 ? Date.now() + clockOffset - Date.parse(at) : null;
    text(this.status, status(follower.run, { elapsed, left: follower.pace.left(done) }));
    if (this.state === "running" && !at) this.refresh();
    this.bar.value = done;
    this.bar.hidden = this.over;
  }

  /** Learn what only the detail tells: when the chain was started. */
  async refresh() {
    if (this.refreshing) return;
    this.refreshing = true;
    try {
      this.detail = await ask(this.id);
    } catch (error) {
      // The stream says that the server is gone; the next tick asks again.
      explained(error);
    } finally {
      this.refreshing = false;
    }
  }

  showActions() {
    const { state } = this;
    const act = (/** @type {string} */ label, /** @type {() => void} */ onclick, kind = "quiet") =>
      button(label, { class: kind, onclick });
    const { content_url: url, script } = this.detail;
    const name = `longtake-${this.id.slice(0, 8)}`;
    const suffix = SUFFIX[/** @type {keyof typeof SUFFIX} */ (script.chain.output_format)] ?? "mp4";
    const link = (
      /** @type {string} */ label,
      /** @type {string} */ href,
      /** @type {string} */ file,
      kind = "button quiet",
    ) => h("a", { class: kind, href, download: file }, icon("download"), label);
    fill(
      /** @type {HTMLElement} */ (this.actions),
      !this.over && act("Cancel", () => this.attempt(cancel)),
      (state === "failed" || state === "cancelled") && act("Resume", () => this.again(), "primary"),
      state === "completed" && link("Download", url, `${name}.${suffix}`, "button primary"),
      state === "completed" && link("GIF", `/api/chains/${this.id}/preview`, `${name}-preview.gif`),
      act("Script", () => this.exported()),
      act("Use this script", () => adopt(this.draft, draftOf(script.chain, script.stage))),
      this.over && act("Delete", () => this.delete(), "quiet danger-text"),
    );
  }

  /** @param {any} error the error event */
  showFailure(error) {
    const place = /** @type {HTMLElement} */ (this.failure);
    place.hidden = !error;
    if (!error) return;
    const { code, message, failed_stage_idx: index } = error;
    const title =
      code === "CANCELLED" ? "Cancelled" : index === undefined ? "The chain failed" : `Stage ${index + 1} failed`;
    fill(
      place,
      h("strong", {}, title),
      code !== "CANCELLED" && h("p", {}, sentence(numbered(error.stage_error ?? message))),
      h("p", {}, advice(code)),
    );
  }

  /** @param {boolean} lost */
  lost(lost) {
    attribute(this.element, "data-lost", lost);
    if (lost) text(/** @type {HTMLElement} */ (this.status), "The connection is gone; coming back. The chain goes on.");
  }

  async ended() {
    const complete = this.follower?.run.complete;
    this.activity.refresh();
    await this.refresh();
    if (this.closed) return;
    if (!complete) return this.player?.stop();
    const { content_url: url, script } = this.detail;
    this.player?.finish(url, script.chain.output_format);
    const compare = this.detail.retake_of && (await comparison(this.detail, /** @type {any} */ (this.layout)));
    if (this.closed) return;
    fill(
      /** @type {HTMLElement} */ (this.below),
      compare,
      complete.joins?.length > 0 && joinReport(complete.joins, (index) => this.select(index)),
    );
  }

  // ------------------------------------------------------------------------------------------------- acting

  /** @param {number} index @param {boolean} [seek] */
  select(index, seek = true) {
    this.selected = index;
    if (this.follower) this.describe();
    if (seek) this.player?.seek(index);
    // What is being written in the panel stays.
    const same = this.panel === `${index} ${this.over}`;
    this.panel = `${index} ${this.over}`;
    if (!same)
      fill(
        /** @type {HTMLElement} */ (this.stage),
        stagePanel(this.detail, /** @type {any} */ (this.layout), index, this.over),
      );
  }

  /** @param {(id: string) => Promise<any>} call */
  async attempt(call) {
    try {
      await call(this.id);
      this.activity.refresh();
      return true;
    } catch (error) {
      toast(explained(error));
      return false;
    }
  }

  async again() {
    if (!(await this.attempt(resume))) return;
    this.follower?.again();
    this.show();
    await this.refresh();
  }

  async delete() {
    const question = "Its video and everything that only it needs are removed from the server.";
    if (!(await confirmed("Delete this chain?", question, "Delete"))) return;
    if (await this.attempt(remove)) location.hash = "#/gallery";
  }

  async exported() {
    const { chain, stage } = this.detail.script;
    showExport(await requestOf(draftOf(chain, stage), { frames: 0 }));
  }

  close() {
    this.closed = true;
    clearTimeout(this.retry);
    clearInterval(this.clock);
    this.follower?.close();
    this.player?.close();
  }
}
