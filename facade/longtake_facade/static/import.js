/** A script file becomes the draft. */

import { Refusal, Unreachable, validate } from "./api.js";
import { openDialog } from "./dialog.js";
import { h, text } from "./dom.js";
import { button, textField } from "./fields.js";
import { draftOf } from "./request.js";
import { toast } from "./toast.js";
import { read, ScriptError } from "./toml.js";
import { explained, sentence } from "./words.js";

/** @param {import("./draft.js").Draft} draft */
export function openImport(draft) {
  const field = textField({ label: "Script", rows: 10, placeholder: 'schema = "mold.chain.v1"', oninput: () => {} });
  field.control.classList.add("code");
  const problem = h("p", { class: "remark problem", role: "alert", hidden: true });
  const take = async (/** @type {string} */ content, /** @type {File[]} */ files) => {
    try {
      adopt(draft, await scriptOf(content, files));
      dialog.close();
    } catch (error) {
      problem.hidden = false;
      text(problem, said(error));
    }
  };
  const chosen = /** @type {HTMLInputElement} */ (
    h("input", { type: "file", multiple: true, accept: ".toml,image/*", "aria-label": "Choose a file" })
  );
  chosen.addEventListener("change", async () => {
    const files = [...(chosen.files ?? [])];
    const script = files.find((file) => file.name.endsWith(".toml"));
    if (!script) return;
    const content = await script.text();
    field.put(content);
    await take(content, files);
  });
  const buttons = h(
    "div",
    { class: "buttons" },
    button("Use this script", {
      class: "primary",
      onclick: () => take(field.control.value, [...(chosen.files ?? [])]),
    }),
  );
  const words = h("p", {}, "Choose a script in TOML, with the images it names, or paste it. It replaces the draft.");
  const dialog = openDialog("Import a script", words, chosen, field.element, problem, buttons);
}

/** A script that is dropped on the page is taken; no drop makes the browser leave it. @param {import("./draft.js").Draft} draft */
export function acceptDrops(draft) {
  document.addEventListener(
    "dragover",
    (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault(),
  );
  document.addEventListener("drop", async (event) => {
    const files = [...(event.dataTransfer?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    const script = files.find((file) => file.name.endsWith(".toml"));
    if (!script) return toast("Drop an image on its stage, or a script in TOML anywhere.");
    try {
      adopt(draft, await scriptOf(await script.text(), files));
    } catch (error) {
      toast(said(error));
    }
  });
}

/** @param {unknown} error */
function said(error) {
  if (error instanceof ScriptError) return sentence(error.message);
  if (error instanceof Refusal || error instanceof Unreachable) return explained(error);
  throw error;
}

/** @param {string} content @param {File[]} files */
async function scriptOf(content, files) {
  const found = await read(content, files);
  if ("script" in found) return found.script;
  // One prompt for a long video: how it is cut into stages is the server's business.
  const { script, seed_drawn: drawn } = await validate(found.expand, AbortSignal.timeout(30_000));
  if (drawn) delete script.chain.seed;
  return draftOf(script.chain, script.stage);
}

/** Make a script the draft; what was there can be had back. */
export function adopt(
  /** @type {import("./draft.js").Draft} */ draft,
  /** @type {import("./draft.js").Script} */ script,
) {
  const wasEmpty = draft.empty;
  const run = draft.replace(script);
  location.hash = "#/";
  if (!wasEmpty) toast("The script is in the composer; your draft was replaced.", { label: "Undo", run });
}
