/** A retake beside the chain it was made from: two players, one clock. */

import { detail as ask, Refusal } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { button } from "./fields.js";

/** The first stage in which two scripts differ. @param {any} before @param {any} after */
export function differing(before, after) {
  const keys = ["prompt", "seed_offset"];
  return Math.max(
    0,
    after.stage.findIndex((/** @type {any} */ stage, /** @type {number} */ i) =>
      keys.some((key) => stage[key] !== before.stage[i]?.[key]),
    ),
  );
}

/**
 * The comparison, or null where the earlier chain is gone or has no video.
 * @param {any} after the detail of the retake, which has completed @param {import("./layout.js").Layout} layout
 */
export async function comparison(after, layout) {
  let before;
  try {
    before = await ask(after.retake_of);
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) return null;
    throw error;
  }
  if (before.state !== "completed") return null;
  const { fps, output_format: format } = after.script.chain;
  const index = differing(before.script, after.script);
  const sides = [side("Before", before, format), side("After", after, format)];
  const head = [
    h("h2", { id: "compare-title" }, "Before and after"),
    h("p", { class: "hint" }, `Stage ${index + 1} was taken again.`),
  ];
  const from = (layout.stages[index].start + 0.1) / fps;
  const controls =
    format === "mp4"
      ? clock(
          sides.map(([, media]) => media),
          layout.total / fps,
          from,
        )
      : null;
  return h(
    "section",
    { class: "panel compare", "aria-labelledby": "compare-title" },
    ...head,
    h(
      "div",
      { class: "sides" },
      sides.map(([figure]) => figure),
    ),
    controls,
  );
}

/** @param {string} name @param {any} chain @param {string} format @returns {[HTMLElement, HTMLVideoElement]} */
function side(name, chain, format) {
  const media =
    format === "mp4"
      ? h("video", { playsinline: true, preload: "auto", muted: true, "aria-label": name })
      : h("img", { alt: name });
  /** @type {HTMLVideoElement} */ (media).src = chain.content_url;
  const { width, height } = chain.script.chain;
  media.style.aspectRatio = `${width} / ${height}`;
  const link = h("a", { href: `#/chains/${chain.id}` }, name);
  return [h("figure", {}, media, h("figcaption", {}, link)), /** @type {HTMLVideoElement} */ (media)];
}

/** Play, pause and seek both. @param {HTMLVideoElement[]} videos @param {number} duration seconds @param {number} from */
function clock(videos, duration, from) {
  const [first, second] = videos;
  const range = /** @type {HTMLInputElement} */ (
    h("input", { type: "range", min: 0, max: duration, step: "any", value: from, "aria-label": "Position in both" })
  );
  const toggle = button("", {
    class: "quiet",
    onclick: () => (first.paused ? play() : videos.forEach((one) => one.pause())),
  });
  const seek = (/** @type {number} */ time) => videos.forEach((one) => (one.currentTime = time));
  const play = () => {
    if (first.ended || first.currentTime >= duration - 0.05) seek(from);
    videos.forEach((one) => one.play().catch(label));
  };
  function label() {
    fill(toggle, icon(first.paused ? "play" : "pause"), first.paused ? "Play both" : "Pause");
  }
  range.addEventListener("input", () => seek(Number(range.value)));
  for (const name of ["play", "pause", "ended"]) first.addEventListener(name, label);
  for (const one of videos) one.addEventListener("loadedmetadata", () => (one.currentTime = from), { once: true });
  first.addEventListener("timeupdate", () => {
    range.value = String(first.currentTime);
    if (Math.abs(second.currentTime - first.currentTime) > 0.08) second.currentTime = first.currentTime;
  });
  label();
  return h("div", { class: "clock" }, toggle, range);
}
