/** Asks the server, after every change, what the draft would render; keeps its answer: a report or problems. */

import { Refusal, validate } from "./api.js";
import { requestOf } from "./request.js";
import { explained } from "./words.js";

const AFTER_MS = 200;
const AGAIN_MS = 3000;
const STAND_IN = "…";
export const UNWRITTEN = "a stage needs a prompt";

/**
 * Fires `checked`. `report`: the server's ValidationReport of the draft as it is, or null. `problems`: by path.
 * @typedef {{message: string, kind: "problem" | "warning"}} Remark
 */
export class Check extends EventTarget {
  /** @param {import("./draft.js").Draft} draft @param {any} limits */
  constructor(draft, limits) {
    super();
    this.draft = draft;
    this.limits = limits;
    /** @type {any} */
    this.report = null;
    /** @type {Map<string, Remark>} */
    this.remarks = new Map();
    /** What stands in the way of an answer, in words. */
    this.trouble = "";
    /**
     * Images the server has seen and not refused, with its warning or "": they need not be sent with every letter that
     * is typed.
     */
    this.judged = /** @type {WeakMap<Blob, string>} */ (new WeakMap());
    this.timer = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
    this.running = new AbortController();
    draft.addEventListener("change", () => this.soon(AFTER_MS));
    this.soon(0);
  }

  /** @param {number} ms */
  soon(ms) {
    this.report = null;
    this.running.abort();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.now(), ms);
  }

  async now() {
    const running = (this.running = new AbortController());
    const images = this.draft.script.stages.map((one) => one.image);
    const unknown = (/** @type {Blob} */ image) => !this.judged.has(image);
    try {
      const options = { frames: this.limits.frames_per_clip_recommended, wants: unknown };
      const request = await requestOf(this.draft.script, options);
      // A prompt that is still to be written is no reason to say nothing of the rest.
      for (const one of request.stages) one.prompt = one.prompt.trim() ? one.prompt : STAND_IN;
      const report = await validate(request, running.signal);
      if (running.signal.aborted) return;
      this.found(report, this.judge(images, report.warnings), "warning");
    } catch (error) {
      if (running.signal.aborted) return;
      if (error instanceof Refusal && error.status < 500) this.found(null, error.problems, "problem");
      else this.unanswered(error);
    }
  }

  /**
   * All warnings: those of the report, and those about images it was not sent because they were judged before.
   * @param {(Blob | null)[]} images of the stages @param {import("./api.js").Problem[]} warnings
   */
  judge(images, warnings) {
    const all = new Map(warnings.map(({ path, message }) => [path, message]));
    images.forEach((image, i) => {
      if (!image) return;
      const path = `stages[${i}].source_image`;
      const message = this.judged.get(image) ?? all.get(path) ?? "";
      this.judged.set(image, message);
      if (message) all.set(path, message);
    });
    return [...all].map(([path, message]) => ({ path, message }));
  }

  /** @param {any} report @param {import("./api.js").Problem[]} remarks @param {Remark["kind"]} kind */
  found(report, remarks, kind) {
    this.report = report;
    this.trouble = "";
    this.remarks = new Map(this.unwritten());
    for (const { path, message } of remarks) this.remarks.set(path, { message, kind });
    this.dispatchEvent(new Event("checked"));
  }

  /** @returns {[string, Remark][]} */
  unwritten() {
    const remark = { message: UNWRITTEN, kind: /** @type {const} */ ("problem") };
    return this.draft.script.stages.flatMap((one, i) => (one.prompt.trim() ? [] : [[`stages[${i}].prompt`, remark]]));
  }

  /** What a submission was refused for, shown as a check's problems are. @param {Refusal} refusal */
  refused(refusal) {
    this.found(null, refusal.problems, "problem");
  }

  /** @param {unknown} error */
  unanswered(error) {
    this.trouble = explained(error);
    this.dispatchEvent(new Event("checked"));
    this.soon(AGAIN_MS);
  }
}
