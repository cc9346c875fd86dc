/** The server's API: one function a call, errors as exceptions. */

import { parse, stringify } from "./json.js";

/** @typedef {{path: string, message: string}} Problem */

/** The server answered, and refused. */
export class Refusal extends Error {
  /** @param {number} status @param {any} answer @param {number | null} retryAfter seconds */
  constructor(status, answer, retryAfter) {
    super(answer?.error ?? `the server answered ${status}`);
    this.status = status;
    /** @type {string} */
    this.code = answer?.code ?? "";
    this.retryAfter = retryAfter;
    /** @type {Problem[]} */
    this.problems = answer?.problems?.length
      ? answer.problems
      : [{ path: answer?.path ?? "", message: answer?.error ?? this.message }];
  }
}

/** Nobody answered, or something that is not this server. */
export class Unreachable extends Error {}

/** Milliseconds to add to this machine's clock to have the server's. */
export let clockOffset = 0;

/**
 * @param {string} method @param {string} path
 * @param {{body?: unknown, key?: string, signal?: AbortSignal}} [options]
 */
async function call(method, path, { body, key, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  let response, text;
  try {
    response = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : stringify(body) });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable("the server does not answer");
  }
  const date = Date.parse(response.headers.get("Date") ?? "");
  if (date) clockOffset = date - Date.now();
  let answer = null;
  try {
    answer = text ? parse(text) : null;
  } catch {
    throw new Unreachable(`the server's answer (${response.status}) is no JSON; is a proxy in between?`);
  }
  if (!response.ok) throw new Refusal(response.status, answer, Number(response.headers.get("Retry-After")) || null);
  return answer;
}

const chain = (/** @type {string} */ id) => `/api/chains/${encodeURIComponent(id)}`;

export const limits = () => call("GET", "/api/capabilities/chain-limits");
export const validate = (/** @type {object} */ request, /** @type {AbortSignal} */ signal) =>
  call("POST", "/api/chains/validate", { body: request, signal });
export const create = (/** @type {object} */ request, /** @type {string} */ key) =>
  call("POST", "/api/chains", { body: request, key });
export const detail = (/** @type {string} */ id) => call("GET", chain(id));
export const cancel = (/** @type {string} */ id) => call("POST", `${chain(id)}/cancel`);
export const resume = (/** @type {string} */ id) => call("POST", `${chain(id)}/resume`);
export const retake = (/** @type {string} */ id, /** @type {object} */ body, /** @type {string} */ key) =>
  call("POST", `${chain(id)}/retake`, { body, key });
export const remove = (/** @type {string} */ id) => call("DELETE", chain(id));
export const gallery = () => call("GET", "/api/gallery");
export const openapi = () => call("GET", "/api/openapi.json");

/** @param {{limit?: number, cursor?: string | null, state?: string | null}} query */
export function list(query) {
  const given = Object.entries(query).filter(([, value]) => value);
  return call("GET", `/api/chains?${new URLSearchParams(given.map(([key, value]) => [key, String(value)]))}`);
}

/** A key that makes a call that is sent twice count once. */
export function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
