/**
 * JSON whose seeds are whole. A seed has 64 bits, a number of this language 53: in the page a seed is its digits, a
 * string. Only keys are touched: inside a string a quotation mark is escaped, so `"seed":` cannot occur there.
 */

const SEED_READ = /("(?:seed|seed_offset)"\s*:\s*)(\d+)/g;
const SEED_WRITTEN = /("(?:seed|seed_offset)":)"(\d+)"/g;

/** @param {string} text @returns {any} */
export function parse(text) {
  return JSON.parse(text.replace(SEED_READ, '$1"$2"'));
}

/** @param {unknown} value */
export function stringify(value) {
  return JSON.stringify(value).replace(SEED_WRITTEN, "$1$2");
}
