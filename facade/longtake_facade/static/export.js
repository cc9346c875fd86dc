/** The script in other forms: a TOML file, and the same request as a command, for curl and in Python. */

import { fill, h, icon, text } from "./dom.js";
import { openDialog } from "./dialog.js";
import { button } from "./fields.js";
import { stringify } from "./json.js";
import { requestOf } from "./request.js";
import { dump } from "./toml.js";
import { announce } from "./toast.js";

const SUFFIX = { gif: "gif", apng: "png", webp: "webp" };
const SHOWN_CHARS = 20_000;

/** @typedef {Record<string, any>} Request */

/** A line that ends a shell's here-document and occurs in no line of the text. @param {string} body */
function mark(body) {
  let word = "END";
  while (body.split("\n").includes(word)) word += "_";
  return word;
}

/** @param {Request} request */
const fileOf = (request) => `longtake.${SUFFIX[/** @type {keyof typeof SUFFIX} */ (request.output_format)] ?? "mp4"}`;

/** @param {Request} request */
export function asCommand(request) {
  const script = dump(request);
  const end = mark(script);
  const render = `longtake render script.toml --server ${location.origin} -o ${fileOf(request)}`;
  return `cat > script.toml <<'${end}'\n${script.trimEnd()}\n${end}\n${render}\n`;
}

/** @param {Request} request */
export function asCurl(request) {
  const kind = request.output_format && request.output_format !== "mp4" ? "image/*" : "video/*";
  const options = `-H 'Content-Type: application/json' -H 'Accept: ${kind}' --data-binary @-`;
  const target = `-o ${fileOf(request)} ${location.origin}/api/generate/chain`;
  return `curl --fail-with-body ${options} \\\n  ${target} <<'END'\n${stringify(request)}\nEND\n`;
}

/** @param {Request} request */
export function asPython(request) {
  return [
    "from longtake import Longtake",
    "",
    `request = ${literal(request, "")}`,
    `with Longtake(${JSON.stringify(location.origin)}) as client:`,
    `    client.generate(request).video_data().save(${JSON.stringify(fileOf(request))})`,
    "",
  ].join("\n");
}

/** A value as Python writes it. JSON's strings are Python's too. @param {any} value @param {string} indent @param {string} [key]
 * @returns {string} */
function literal(value, indent, key = "") {
  const deeper = `${indent}    `;
  if (value === true) return "True";
  if (value === false) return "False";
  if (key.startsWith("seed") && /^\d+$/.test(value)) return BigInt(value).toString();
  if (typeof value !== "object") return JSON.stringify(value);
  const lines = Array.isArray(value)
    ? value.map((one) => literal(one, deeper))
    : Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${literal(one, deeper, name)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return [open, ...lines.map((line) => `${deeper}${line},`), `${indent}${close}`].join("\n");
}

const FORMS = /** @type {[string, (request: Request) => string, string][]} */ ([
  ["TOML", dump, "script.toml"],
  ["Command", asCommand, "render.sh"],
  ["curl", asCurl, "render.sh"],
  ["Python", asPython, "render.py"],
]);

/** @param {import("./draft.js").Script} script @param {any} limits */
export async function openExport(script, limits) {
  showExport(await requestOf(script, { frames: limits.frames_per_clip_recommended }));
}

/** @param {Request} request */
export function showExport(request) {
  let shown = FORMS[0];
  const code = h("code", {});
  const panel = h("pre", { tabindex: 0, role: "region", "aria-label": "Script" }, code);
  const note = h("p", { class: "hint" });
  const copy = button("Copy", { class: "primary", onclick: () => copied(copy, shown[1](request)) }, icon("copy"));
  const save = button(
    "Download",
    { class: "quiet", onclick: () => download(shown[2], shown[1](request)) },
    icon("download"),
  );
  const choices = FORMS.map((form) => button(form[0], { "aria-pressed": "false", onclick: () => show(form) }));
  const show = (/** @type {typeof FORMS[number]} */ form) => {
    shown = form;
    const whole = form[1](request);
    text(code, whole.length > SHOWN_CHARS ? `${whole.slice(0, SHOWN_CHARS)}…` : whole);
    text(
      note,
      whole.length > SHOWN_CHARS ? "Shortened here, because of its images; copy and download have all of it." : "",
    );
    choices.forEach((choice, i) => choice.setAttribute("aria-pressed", String(FORMS[i] === form)));
  };
  const tabs = h("div", { class: "segments", role: "group", "aria-label": "Form" }, choices);
  openDialog("Export the script", tabs, panel, note, h("div", { class: "buttons" }, save, copy));
  show(shown);
}

/** @param {HTMLButtonElement} by @param {string} content */
async function copied(by, content) {
  const before = [...by.childNodes];
  const done = await toClipboard(content, by);
  fill(by, done ? "Copied" : "Not allowed here: download it");
  announce(done ? "Copied" : "The browser does not allow copying here");
  setTimeout(() => fill(by, before), 2000);
}

/** Browsers give the clipboard to secure pages only; elsewhere there is the old way. @param {string} content @param {HTMLElement} near */
async function toClipboard(content, near) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(content);
      return true;
    } catch {
      // Permission was refused; the old way asks for none.
    }
  }
  const area = /** @type {HTMLTextAreaElement} */ (h("textarea", { value: content, class: "visually-hidden" }));
  near.after(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  near.focus();
  return done;
}

/** @param {string} name @param {string} content */
function download(name, content) {
  const url = URL.createObjectURL(new Blob([content], { type: "text/plain" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
