/**
 * The script being written: what the composer shows, kept in this browser with its images.
 *
 * Numbers are the text of their fields; an empty one means the server's default.
 * @typedef {{id: string, prompt: string, negative_prompt: string, frames: string, transition: string,
 *   fade_frames: string, seed_offset: string, image: Blob | null}} Stage
 * @typedef {{chain: Record<string, string>, stages: Stage[]}} Script
 */

import { freshKey } from "./api.js";
import { keep, load } from "./storage.js";

export const SETTINGS = [
  "model",
  "width",
  "height",
  "fps",
  "seed",
  "steps",
  "guidance",
  "strength",
  "motion_tail_frames",
  "output_format",
  "enable_audio",
  "total_frames",
];

const KEPT_AS = "draft";
const SAVE_AFTER_MS = 150;

/** @param {Partial<Stage>} [given] @returns {Stage} */
export function stage(given = {}) {
  return {
    prompt: "",
    negative_prompt: "",
    frames: "",
    transition: "smooth",
    fade_frames: "",
    seed_offset: "",
    image: null,
    ...given,
    id: freshKey(),
  };
}

/** Fires `change` when anything is different, and `unsaved` when this browser does not keep it. */
export class Draft extends EventTarget {
  constructor() {
    super();
    /** @type {Script} */
    this.script = { chain: {}, stages: [stage()] };
    /** Identifies a submission until its answer has arrived: sent again, it makes no second chain. */
    this.key = "";
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /** Take up what an earlier visit left. */
  async restore() {
    try {
      const kept = await load(KEPT_AS);
      if (kept?.stages?.length) {
        this.script = { chain: kept.chain, stages: kept.stages };
        this.key = kept.key;
      }
    } catch (error) {
      this.failed(error);
    }
    addEventListener("pagehide", () => this.save());
  }

  get empty() {
    return this.script.stages.every((one) => !one.prompt.trim() && !one.image);
  }

  /** @param {(script: Script) => void} edit */
  change(edit) {
    edit(this.script);
    this.key = "";
    this.touched();
  }

  /** Put another script in its place; returns how to undo that. @param {Script} script */
  replace(script) {
    const before = this.script;
    this.change(() => (this.script = script));
    return () => this.change(() => (this.script = before));
  }

  /** The key of the next submission; the same one until {@link submitted}, or until the script is another. */
  async submission() {
    if (!this.key) {
      this.key = freshKey();
      await this.save();
    }
    return this.key;
  }

  submitted() {
    this.key = "";
    this.save();
  }

  touched() {
    this.dispatchEvent(new Event("change"));
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), SAVE_AFTER_MS);
  }

  async save() {
    clearTimeout(this.timer);
    try {
      await keep(KEPT_AS, { ...this.script, key: this.key });
    } catch (error) {
      this.failed(error);
    }
  }

  /** @param {unknown} error */
  failed(error) {
    this.dispatchEvent(new CustomEvent("unsaved", { detail: String(error) }));
  }
}
