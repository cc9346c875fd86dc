/** Times, sizes and errors in words. */

import { Refusal, Unreachable } from "./api.js";

/** Length of `frames`, to the hundredth of a second. @param {number} frames @param {number} fps */
export function seconds(frames, fps) {
  return `${(frames / fps).toFixed(2)} s`;
}

/** A span of time, as coarse as one speaks of it. @param {number} ms */
export function span(ms) {
  const total = Math.max(0, Math.round(ms / 1000));
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor((total % 3600) / 60), total % 60];
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${rest} s` : `${rest} s`;
}

/** @param {number} count @param {string} one @param {string} [many] */
export function counted(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

/** @param {number} bytes */
export function gibibytes(bytes) {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

// Without the year: chains are kept for days.
const WHEN = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" });

/** A point in time. @param {string} rfc3339 */
export function when(rfc3339) {
  return WHEN.format(new Date(rfc3339));
}

/** The server counts stages from 0, the page from 1. @param {string} message */
export function numbered(message) {
  return message.replace(/\bstage (\d+)|\bstages\[(\d+)\](?:\.(\w+))?/g, (_, said, index, field) => {
    const stage = `stage ${Number(said ?? index) + 1}`;
    return field ? `${stage}'s ${field}` : stage;
  });
}

export const STATES = {
  queued: "Waiting",
  running: "Rendering",
  completed: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
};

const ADVICE = {
  OUT_OF_MEMORY: "The GPU ran out of memory. Use this script with a smaller size or fewer frames a stage.",
  NO_BACKEND: "The models do not answer. Resume when they do: what is rendered is kept.",
  STAGE_FAILED: "Resume tries again what is missing; finished stages are kept.",
  ENCODE_FAILED: "The video could not be written. Resume tries again; the stages are kept.",
  CANCELLED: "Finished stages are kept. Resume goes on where it stopped.",
  INTERNAL: "The server's log has the cause. Resume tries again what is missing.",
};

/** What to do about a chain that stopped. @param {string} code */
export function advice(code) {
  return ADVICE[/** @type {keyof typeof ADVICE} */ (code)] ?? ADVICE.INTERNAL;
}

/** What went wrong with a call, and what to do. @param {unknown} error */
export function explained(error) {
  if (error instanceof Unreachable) return `${sentence(error.message)} Nothing is lost; try again in a moment.`;
  if (!(error instanceof Refusal)) throw error;
  const again = error.retryAfter ? `try again in ${error.retryAfter} s` : "try again later";
  if (error.code === "QUEUE_FULL") return `The queue is full: ${again}.`;
  if (error.code === "NO_BACKEND") return `The models do not answer: ${again}.`;
  if (error.code === "RATE_LIMITED") return `Too many requests: ${again}.`;
  if (error.code === "CHAIN_NOT_FOUND") return "This chain is gone: it was deleted, or its time was up.";
  return sentence(numbered(error.message));
}

/** @param {string} message */
export function sentence(message) {
  const begun = message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
