/** Modal dialogs: the browser's own, which keep the focus inside and close on Escape. */

import { h, icon, uniqueId } from "./dom.js";
import { button, iconButton } from "./fields.js";

/**
 * Open a dialog; it is gone when it closes. @param {string} title @param {...any} content
 * @returns {HTMLDialogElement}
 */
export function openDialog(title, ...content) {
  const id = uniqueId("dialog");
  const close = iconButton("Close", icon("close"), { onclick: () => dialog.close() });
  const dialog = /** @type {HTMLDialogElement} */ (
    h(
      "dialog",
      { "aria-labelledby": id },
      h("div", { class: "dialog-head" }, h("h2", { id }, title), close),
      h("div", { class: "dialog-body" }, ...content),
    )
  );
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask before something that cannot be undone. @param {string} title @param {string} question @param {string} yes */
export function confirmed(title, question, yes) {
  return new Promise((resolve) => {
    const answer = (/** @type {boolean} */ value) => () => {
      resolve(value);
      dialog.close();
    };
    const buttons = h(
      "div",
      { class: "buttons" },
      button("Keep it", { class: "quiet", onclick: answer(false) }),
      button(yes, { class: "danger", onclick: answer(true) }),
    );
    const dialog = openDialog(title, h("p", {}, question), buttons);
    dialog.addEventListener("close", () => resolve(false));
  });
}
