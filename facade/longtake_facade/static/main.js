/** The page: which view the address names, and what all views share. */

import { Activity } from "./activity.js";
import { limits as askLimits, Refusal, Unreachable } from "./api.js";
import { ChainView } from "./chain.js";
import { Check } from "./check.js";
import { Composer } from "./composer.js";
import { attribute, fill, text } from "./dom.js";
import { Draft } from "./draft.js";
import { GalleryView } from "./gallery.js";
import { acceptDrops } from "./import.js";
import { mountToasts } from "./toast.js";
import { explained } from "./words.js";

const AGAIN_MS = 2000;
const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const trouble = /** @type {HTMLElement} */ (document.getElementById("trouble"));

/** @param {string} message */
function complain(message) {
  trouble.hidden = !message;
  text(trouble, message);
}

/** What the server enforces; asked until it answers. */
async function serverLimits() {
  for (;;) {
    try {
      const found = await askLimits();
      complain("");
      return found;
    } catch (error) {
      if (!(error instanceof Refusal || error instanceof Unreachable)) throw error;
      complain(`${explained(error)} Trying again …`);
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

/**
 * Show the view the address names, and take the one before away.
 * @param {{composer: Composer, draft: Draft, activity: Activity}} page
 */
function router({ composer, draft, activity }) {
  /** @type {{element: HTMLElement, close?: () => void} | null} */
  let view = null;
  return (/** @type {boolean} */ first) => {
    const [, name = "", id = ""] = location.hash.split("/");
    const before = view;
    before?.close?.();
    if (name === "chains" && id) view = new ChainView(decodeURIComponent(id), draft, activity);
    else if (name === "gallery") view = new GalleryView(draft);
    else view = composer;
    fill(main, view.element);
    const page = name === "gallery" ? name : name === "chains" ? "" : "compose";
    activity.entitle({ gallery: "Gallery", compose: "Compose", "": "Chain" }[page]);
    for (const link of document.querySelectorAll("[data-page]")) {
      attribute(link, "aria-current", /** @type {HTMLElement} */ (link).dataset.page === page && "page");
    }
    if (first) return;
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  };
}

async function start() {
  mountToasts();
  document.querySelector(".skip")?.addEventListener("click", (event) => {
    // The address names the view; the link that skips to the content must leave it as it is.
    event.preventDefault();
    main.focus();
  });
  const draft = new Draft();
  draft.addEventListener("unsaved", () =>
    complain("This browser does not keep the draft (private window, or full): export it before you leave."),
  );
  const [limits] = await Promise.all([serverLimits(), draft.restore()]);
  const activity = new Activity(/** @type {HTMLElement} */ (document.getElementById("activity")));
  const composer = new Composer(draft, new Check(draft, limits), limits);
  const show = router({ composer, draft, activity });
  addEventListener("hashchange", () => show(false));
  acceptDrops(draft);
  show(true);
}

start();
