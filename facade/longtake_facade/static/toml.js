/** Script files: the TOML that `longtake render` reads, with the same meaning as the client gives it. */

import { draftOf } from "./request.js";
import { parse, stringify, TomlError } from "./smol-toml/index.js";

const SCHEMA = "mold.chain.v1";
const MAX_TOML_INT = 2n ** 63n - 1n;
const MAX_SEED = 2n ** 64n - 1n;
const SEEDS = ["seed", "seed_offset"];
const IMAGES = ["source_image", "source_image_b64", "source_image_path"];
const CHAIN_KEYS = [
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
/** What only a script has that is to be expanded into stages. */
const EXPANDED_KEYS = ["prompt", "clip_frames", ...IMAGES];
const STAGE_KEYS = ["prompt", "frames", "transition", "negative_prompt", "seed_offset", "fade_frames", ...IMAGES];

/** A script's text is not one; `message` says where and why. */
export class ScriptError extends Error {}

/** A seed as TOML has it: an integer, or digits in quotation marks beyond 2^63-1. @param {string} digits */
function writtenSeed(digits) {
  const seed = BigInt(digits);
  return seed > MAX_TOML_INT ? digits : seed;
}

/** @param {Record<string, any>} table */
function written(table) {
  const seeds = SEEDS.filter((key) => /^\d+$/.test(table[key] ?? ""));
  return { ...table, ...Object.fromEntries(seeds.map((key) => [key, writtenSeed(table[key])])) };
}

/** The TOML of a request. @param {Record<string, any>} request */
export function dump({ stages, ...chain }) {
  const stage = stages.map((/** @type {any} */ one) => written({ transition: "smooth", ...one }));
  return stringify({ schema: SCHEMA, chain: written(chain), stage });
}

/**
 * What a script says: a draft, or, where it is one prompt to be expanded into stages, the request the server expands.
 * @param {string} text @param {File[]} [files] images the script names, by their names
 * @returns {Promise<{script: import("./draft.js").Script} | {expand: Record<string, any>}>}
 */
export async function read(text, files = []) {
  const document = parsed(text);
  check(document, ["schema", "chain", "stage"], "");
  if (document.schema !== SCHEMA) throw new ScriptError(`the first line must be: schema = "${SCHEMA}"`);
  const { chain = {}, stage = [] } = document;
  if (typeof chain !== "object" || Array.isArray(chain)) throw new ScriptError("chain must be a table: [chain]");
  if (!Array.isArray(stage) || stage.some((one) => typeof one !== "object")) {
    throw new ScriptError("stage must be an array of tables: write [[stage]] before each one");
  }
  const expanded = stage.length === 0;
  check(chain, expanded ? [...CHAIN_KEYS, ...EXPANDED_KEYS] : CHAIN_KEYS, "chain");
  const settings = await fields(chain, "chain", files);
  const stages = await Promise.all(
    stage.map((one, i) => {
      check(one, STAGE_KEYS, `stage ${i + 1}`);
      return fields(one, `stage ${i + 1}`, files);
    }),
  );
  return expanded ? { expand: settings } : { script: draftOf(settings, stages) };
}

/** @param {string} text @returns {Record<string, any>} */
function parsed(text) {
  try {
    return parse(text, { integersAsBigInt: "asNeeded" });
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [reason] = error.message.replace(/^Invalid TOML document: /, "").split("\n");
    throw new ScriptError(`line ${error.line}, column ${error.column}: ${reason}`);
  }
}

/** @param {object} table @param {string[]} known @param {string} where */
function check(table, known, where) {
  const unknown = Object.keys(table).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  const place = where ? `${where}: ` : "";
  throw new ScriptError(`${place}${unknown} is not known here; known: ${known.join(", ")}`);
}

/** A table's keys as a request has them. */
async function fields(/** @type {any} */ table, /** @type {string} */ where, /** @type {File[]} */ files) {
  const { source_image, source_image_b64, source_image_path, ...rest } = table;
  for (const key of SEEDS) if (rest[key] !== undefined) rest[key] = readSeed(rest[key], `${where}: ${key}`);
  const given = IMAGES.filter((key) => table[key] !== undefined);
  if (given.length > 1) throw new ScriptError(`${where} has ${given.join(" and ")}; give one of them`);
  const image = source_image ?? source_image_b64;
  if (image !== undefined) rest.source_image = readImage(image, where);
  if (source_image_path !== undefined) rest.source_image = await imageFile(String(source_image_path), where, files);
  return rest;
}

/** @param {unknown} value @param {string} where */
function readSeed(value, where) {
  const digits = String(value);
  if (/^\d{1,20}$/.test(digits) && BigInt(digits) <= MAX_SEED) return BigInt(digits).toString();
  throw new ScriptError(`${where} must be a whole number from 0 to ${MAX_SEED}`);
}

/** @param {unknown} value @param {string} where */
function readImage(value, where) {
  try {
    atob(String(value));
  } catch {
    throw new ScriptError(`${where}: the image is not base64`);
  }
  return String(value);
}

/** @param {string} path @param {string} where @param {File[]} files */
async function imageFile(path, where, files) {
  const name = path.split("/").at(-1);
  const file = files.find((one) => one.name === name);
  if (!file) throw new ScriptError(`${where} names the image ${path}: choose it together with the script`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
