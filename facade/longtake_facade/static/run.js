/**
 * A chain's run: what its events say, and following them through broken connections and restarted servers.
 *
 * @typedef {{state: "pending" | "running" | "decoding" | "done", step: number, total: number, attempt: number,
 *   url: string | null}} StageRun
 * @typedef {{stages: StageRun[], phase: "queued" | "running" | "stitching" | "complete" | "error",
 *   position: number | null, encoded: number, frames: number, complete: any, error: any}} Run
 */

import { parse } from "./json.js";

const REOPEN_MS = 1500;
const BURST_MS = 400;

/** @param {number} count @returns {Run} */
export function begun(count) {
  const stages = Array.from({ length: count }, () => waiting(null));
  return { stages, phase: "queued", position: null, encoded: 0, frames: 0, complete: null, error: null };
}

/** @param {string | null} url @returns {StageRun} */
function waiting(url) {
  return { state: "pending", step: 0, total: 0, attempt: 1, url };
}

/** @type {Record<string, (run: Run, data: any) => void>} */
const PROGRESS = {
  queued: (run, { position }) => Object.assign(run, { phase: "queued", position }),
  chain_start: (run) => Object.assign(run, { phase: "running", position: null }),
  stage_start: (run, { stage_idx: i, attempt = 1 }) => {
    run.phase = "running";
    run.stages[i] = { ...waiting(null), state: "running", attempt };
  },
  denoise_step: (run, { stage_idx: i, step, total }) =>
    Object.assign(run.stages[i], { step, total, state: step === total ? "decoding" : "running" }),
  stage_done: (run, { stage_idx: i }) => Object.assign(run.stages[i], { state: "done" }),
  stage_media: (run, { stage_idx: i, url }) => Object.assign(run.stages[i], { url, state: "done" }),
  stitching: (run, { total_frames }) => Object.assign(run, { phase: "stitching", frames: total_frames }),
  encoding: (run, { frames, total }) => Object.assign(run, { encoded: frames, frames: total }),
  stopped: (run) => {
    run.phase = "queued";
    run.stages = run.stages.map((stage) => (stage.state === "done" ? stage : waiting(stage.url)));
  },
};

/** Take an event into the run. A type this page does not know is skipped. @param {Run} run */
export function apply(run, /** @type {string} */ name, /** @type {any} */ data) {
  if (name === "complete") Object.assign(run, { phase: "complete", complete: data, error: null });
  else if (name === "error") Object.assign(run, { phase: "error", error: data });
  else if (Object.hasOwn(PROGRESS, data.type)) PROGRESS[data.type](run, data);
}

/** How much of the denoising is done, 0..1; `frames` of each stage are its weight. @param {Run} run @param {number[]} frames */
export function fraction(run, frames) {
  const done = run.stages.map((stage) => (stage.state === "done" ? 1 : stage.total ? stage.step / stage.total : 0));
  const all = frames.reduce((sum, one) => sum + one, 0);
  return done.reduce((sum, one, i) => sum + one * frames[i], 0) / all;
}

/** Estimates what is left from the pace since it began to look. */
export class Pace {
  constructor() {
    this.opened = performance.now();
    this.base = { at: this.opened, fraction: 0 };
  }

  /** Milliseconds that are left, or null while nothing can be said. @param {number} fraction */
  left(fraction) {
    const now = performance.now();
    // What has happened before comes all at once and says nothing about the pace.
    if (now - this.opened < BURST_MS || fraction < this.base.fraction) this.base = { at: now, fraction };
    const gained = fraction - this.base.fraction;
    return gained > 0.02 ? ((now - this.base.at) * (1 - fraction)) / gained : null;
  }
}

/**
 * Follows a chain's events. Fires `change`, and `ended` once a terminal event has come; `lost` with `detail` true or
 * false as the server goes and comes.
 */
export class Follower extends EventTarget {
  /** @param {string} id @param {number} count stages */
  constructor(id, count) {
    super();
    this.url = `/api/chains/${encodeURIComponent(id)}/events`;
    this.count = count;
    this.run = begun(count);
    this.pace = new Pace();
    /** @type {EventSource | null} */
    this.source = null;
    this.timer = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
    // A browser keeps six connections to a server, and a stream holds one: a tab nobody looks at gives it back.
    this.looked = () => (document.hidden ? this.pause() : this.open());
    document.addEventListener("visibilitychange", this.looked);
    this.open();
  }

  get ended() {
    return this.run.phase === "complete" || this.run.phase === "error";
  }

  /** From the start: the server sends again what happened. */
  open() {
    if (this.source || this.ended) return;
    clearTimeout(this.timer);
    const source = (this.source = new EventSource(this.url));
    let fresh = true;
    const take = (/** @type {Event} */ event) => {
      if (!(event instanceof MessageEvent)) return this.broken(source);
      if (fresh) Object.assign(this, { run: begun(this.count), pace: new Pace() });
      fresh = false;
      apply(this.run, event.type, parse(event.data));
      if (this.ended) this.pause();
      this.dispatchEvent(new Event("change"));
      if (this.ended) this.dispatchEvent(new Event("ended"));
    };
    for (const name of ["progress", "complete", "error"]) source.addEventListener(name, take);
    source.addEventListener("open", () => this.dispatchEvent(new CustomEvent("lost", { detail: false })));
  }

  /** @param {EventSource} source */
  broken(source) {
    if (source !== this.source) return;
    this.dispatchEvent(new CustomEvent("lost", { detail: true }));
    // Otherwise the browser comes back by itself, with the number of the last event.
    if (source.readyState !== EventSource.CLOSED) return;
    this.pause();
    this.timer = setTimeout(() => this.open(), REOPEN_MS);
  }

  pause() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  /** Follow an attempt that was started after this one had ended. */
  again() {
    this.pause();
    this.run = begun(this.count);
    this.open();
  }

  close() {
    document.removeEventListener("visibilitychange", this.looked);
    this.pause();
  }
}
