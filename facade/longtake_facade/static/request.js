/** Between the draft's fields and the wire: a script becomes a request, a server's script a draft. */

import { SETTINGS, stage } from "./draft.js";

const TEXTS = ["model", "output_format"];
const SEEDS = ["seed", "seed_offset"];
/** @type {WeakMap<Blob, Promise<string>>} */
const encoded = new WeakMap();

/** The base64 of a file; made once. @param {Blob} blob */
export function base64(blob) {
  let text = encoded.get(blob);
  if (!text) {
    text = new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(String(reader.result).replace(/^[^,]*,?/, ""));
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(blob);
    });
    encoded.set(blob, text);
  }
  return text;
}

/** The image that base64 text is. @param {string} text */
export function blobOf(text) {
  const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const kinds = /** @type {const} */ ([
    [0x89, "image/png"],
    [0xff, "image/jpeg"],
    [0x52, "image/webp"],
  ]);
  return new Blob([bytes], { type: kinds.find(([first]) => first === bytes[0])?.[1] ?? "" });
}

/** A field's text as the wire has it. What is no number stays text: the server says what is wrong with it. */
function value(/** @type {string} */ key, /** @type {string} */ text) {
  if (text === "true" || text === "false") return text === "true";
  if (TEXTS.includes(key)) return text;
  if (SEEDS.includes(key)) return text.trim();
  const number = Number(text);
  return text.trim() !== "" && Number.isFinite(number) ? number : text;
}

/** @param {Record<string, any>} fields @param {readonly string[]} keys */
function given(fields, keys) {
  const filled = keys.filter((key) => fields[key] !== undefined && fields[key] !== "");
  return Object.fromEntries(filled.map((key) => [key, value(key, fields[key])]));
}

/**
 * The ChainRequest of a script.
 * @param {import("./draft.js").Script} script
 * @param {{frames: number, wants?: (image: Blob) => boolean}} options `frames` of a stage that says none; which images
 *   to put in (all)
 */
export async function requestOf(script, { frames, wants = () => true }) {
  const stages = script.stages.map(async (one, i) => ({
    prompt: one.prompt,
    frames: one.frames === "" ? frames : value("frames", one.frames),
    ...(i > 0 && { transition: one.transition }),
    ...(one.negative_prompt && { negative_prompt: one.negative_prompt }),
    ...given(one, ["seed_offset"]),
    ...(i > 0 && one.transition === "fade" && given(one, ["fade_frames"])),
    ...(one.image && wants(one.image) && { source_image: await base64(one.image) }),
  }));
  return { ...given(script.chain, SETTINGS), stages: await Promise.all(stages) };
}

/**
 * The draft of a request, or of a script as the server echoes it.
 * @param {Record<string, any>} chain @param {Record<string, any>[]} stages
 * @returns {import("./draft.js").Script}
 */
export function draftOf(chain, stages) {
  const text = (/** @type {unknown} */ one) => (one === undefined || one === null ? "" : String(one));
  const settings = SETTINGS.filter((key) => chain[key] !== undefined && chain[key] !== null);
  return {
    chain: Object.fromEntries(settings.map((key) => [key, text(chain[key])])),
    stages: stages.map((one) =>
      stage({
        prompt: text(one.prompt),
        negative_prompt: text(one.negative_prompt),
        frames: text(one.frames),
        transition: text(one.transition) || "smooth",
        fade_frames: text(one.fade_frames),
        seed_offset: text(one.seed_offset),
        image: one.source_image ? blobOf(one.source_image) : null,
      }),
    ),
  };
}
