/** One stage of an ended chain: what it was made from, and making it anew. */

import { freshKey, retake } from "./api.js";
import { h } from "./dom.js";
import { button, textField } from "./fields.js";
import { blobOf } from "./request.js";
import { toast } from "./toast.js";
import { counted, explained, seconds } from "./words.js";

/** A seed offset nobody chose; it survives this language's numbers. */
function drawn() {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return String((high % 2 ** 21) * 2 ** 32 + low);
}

/** Stages that are rendered again with `index`: those that go on from it. @param {import("./layout.js").Layout} layout */
function anew(layout, /** @type {number} */ index) {
  const take = layout.takes.find((stages) => stages.includes(index)) ?? [index];
  return take.filter((stage) => stage >= index);
}

/** @param {any} detail @param {import("./layout.js").Layout} layout @param {number} index @param {boolean} ended */
export function stagePanel(detail, layout, index, ended) {
  const stage = detail.script.stage[index];
  const placed = layout.stages[index];
  const { fps } = detail.script.chain;
  const facts = [
    `${seconds(placed.start, fps)} to ${seconds(placed.start + placed.output, fps)}`,
    counted(stage.frames, "frame"),
    index > 0 && placed.transition,
    stage.seed_offset !== undefined && `seed offset ${stage.seed_offset}`,
  ].filter(Boolean);
  const image = stage.source_image && h("img", { class: "stage-image", alt: `The image of stage ${index + 1}` });
  if (image) /** @type {HTMLImageElement} */ (image).src = URL.createObjectURL(blobOf(stage.source_image));
  return h(
    "section",
    { class: "panel stage-panel", "aria-labelledby": "stage-title" },
    h("h2", { id: "stage-title", tabindex: "-1" }, `Stage ${index + 1}`),
    h("p", { class: "hint" }, facts.join(" · ")),
    image,
    ended ? form(detail, layout, index) : h("p", { class: "quoted" }, stage.prompt),
    stage.negative_prompt && h("p", { class: "hint" }, `Without: ${stage.negative_prompt}`),
  );
}

/** @param {any} detail @param {import("./layout.js").Layout} layout @param {number} index */
function form(detail, layout, index) {
  const before = detail.script.stage[index].prompt;
  const prompt = textField({ label: "Prompt", rows: 3, oninput: () => ready() });
  prompt.put(before);
  const seed = /** @type {HTMLInputElement} */ (
    h("input", { type: "checkbox", checked: true, onchange: () => ready() })
  );
  const again = anew(layout, index).map((one) => one + 1);
  const rest = layout.stages.length - again.length;
  const kept = rest ? ` ${counted(rest, "other stage")} ${rest === 1 ? "is" : "are"} reused.` : "";
  const words =
    again.length === 1
      ? `Renders stage ${again[0]} again.`
      : `Renders stages ${again.join(", ")} again: they go on from one another.`;
  const send = button("Retake", { class: "primary", onclick: () => submit() });
  const changed = () => prompt.control.value.trim() !== before;
  /** What was sent: sent again unchanged, because no answer came, it makes no second chain. @type {any} */
  let sent = null;
  const ready = () => {
    sent = null;
    send.disabled = !(changed() || seed.checked);
  };
  const submit = async () => {
    send.disabled = true;
    const body = { stage_idx: index, ...(changed() && { prompt: prompt.control.value }) };
    sent ??= { key: freshKey(), body: seed.checked ? { ...body, seed_offset: drawn() } : body };
    try {
      const accepted = await retake(detail.id, sent.body, sent.key);
      location.hash = `#/chains/${accepted.id}`;
    } catch (error) {
      toast(explained(error));
      send.disabled = false;
    }
  };
  return h(
    "div",
    { class: "retake" },
    prompt.element,
    h("label", { class: "check" }, seed, "Draw a new seed for this stage"),
    h("p", { class: "hint" }, `${words}${kept} This chain stays as it is.`),
    h("div", { class: "buttons" }, send),
  );
}
