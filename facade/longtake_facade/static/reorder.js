/** Reordering a list by dragging a handle: pointer events, so that it works by mouse, pen and finger. */

/**
 * Follow a drag that begins with `event` on a handle in `item`.
 * @param {PointerEvent} event @param {HTMLElement} item a child of `list` @param {HTMLElement} list
 * @param {(to: number) => void} drop called with the place it was dropped at, if that is another one
 */
export function drag(event, item, list, drop) {
  if (event.button !== 0) return;
  event.preventDefault();
  const handle = /** @type {HTMLElement} */ (event.currentTarget);
  const items = /** @type {HTMLElement[]} */ ([...list.children]);
  const from = items.indexOf(item);
  const startY = event.clientY + scrollY;
  let to = from;
  handle.setPointerCapture(event.pointerId);
  item.classList.add("dragged");

  const move = (/** @type {PointerEvent} */ at) => {
    edge(at.clientY);
    item.style.translate = `0 ${at.clientY + scrollY - startY}px`;
    const others = items.filter((one) => one !== item);
    to = others.filter((one) => middle(one) < at.clientY).length;
    others.forEach((one, i) => {
      one.classList.toggle("drop-before", i === to && to !== from);
      one.classList.toggle("drop-after", i === others.length - 1 && to === others.length && to !== from);
    });
  };
  const end = (/** @type {Event} */ last) => {
    handle.removeEventListener("pointermove", move);
    for (const name of ENDS) handle.removeEventListener(name, end);
    item.classList.remove("dragged");
    item.style.translate = "";
    for (const one of items) one.classList.remove("drop-before", "drop-after");
    if (last.type === "pointerup" && to !== from) drop(to);
  };
  handle.addEventListener("pointermove", move);
  for (const name of ENDS) handle.addEventListener(name, end);
}

const ENDS = ["pointerup", "pointercancel", "lostpointercapture"];
const EDGE = 60;

/** @param {HTMLElement} element */
function middle(element) {
  const box = element.getBoundingClientRect();
  return box.top + box.height / 2;
}

/** Scroll where the pointer nears the window's edge. @param {number} y */
function edge(y) {
  if (y < EDGE) scrollBy(0, -12);
  else if (y > innerHeight - EDGE) scrollBy(0, 12);
}
