/** How long a render takes, going by those this server has finished. */

import { gallery, list, Refusal, Unreachable } from "./api.js";
import { span } from "./words.js";

const FRESH_MS = 30_000;
/** @type {{at: number, rates: Promise<number[]>} | null} */
let known = null;

/** Milliseconds a step, frame and pixel took in finished chains that reused nothing of another, in order of size. */
async function measured() {
  try {
    const [{ chains }, items] = await Promise.all([list({ limit: 50, state: "completed" }), gallery()]);
    const made = new Map(items.map((/** @type {any} */ item) => [item.metadata.chain, item.metadata]));
    return chains
      .filter((/** @type {any} */ one) => one.started_at && !one.retake_of && made.has(one.id))
      .map((/** @type {any} */ one) => {
        const { steps, frames, width, height } = made.get(one.id);
        return (Date.parse(one.finished_at) - Date.parse(one.started_at)) / (steps * frames * width * height);
      })
      .sort((/** @type {number} */ a, /** @type {number} */ b) => a - b);
  } catch (error) {
    if (!(error instanceof Refusal || error instanceof Unreachable)) throw error;
    // Without an answer there is no estimate; the composer says by itself that the server does not answer.
    return [];
  }
}

/** The time a validated script will take, in words; empty where nothing is known yet. @param {any} report */
export async function estimate(report) {
  if (!known || Date.now() - known.at > FRESH_MS) known = { at: Date.now(), rates: measured() };
  const rates = await known.rates;
  if (!rates.length) return "";
  const { steps, width, height } = report.script.chain;
  const ms = rates[Math.floor(rates.length / 2)] * steps * width * height * report.total_frames;
  return `about ${span(Math.max(1000, ms))}, going by ${rates.length === 1 ? "the last render" : `${rates.length} renders`}`;
}
