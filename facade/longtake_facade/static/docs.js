/** The API's page: the OpenAPI document, read aloud. */

import { openapi, Refusal, Unreachable } from "./api.js";
import { fill, h } from "./dom.js";
import { explained } from "./words.js";

const METHODS = ["get", "post", "delete", "put", "patch"];

/** @param {string} ref */
const nameOf = (ref) => ref.split("/").at(-1) ?? "";
/** @param {string} text */
const slug = (text) =>
  text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");

/** What a schema allows, in a line; named schemas are links. @param {any} schema @returns {(Node | string)[]} */
function typeOf(schema) {
  if (!schema || !Object.keys(schema).length) return ["anything"];
  if (schema.$ref) return [link(nameOf(schema.$ref))];
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return joined(choices.map(typeOf), " or ");
  if (schema.enum) return [schema.enum.map((/** @type {unknown} */ one) => JSON.stringify(one)).join(", ")];
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.type === "array") return ["list of ", ...typeOf(schema.items)];
  if (schema.type === "object" && schema.additionalProperties)
    return ["by name: ", ...typeOf(schema.additionalProperties)];
  return [[schema.type, range(schema), schema.contentEncoding].filter(Boolean).join(", ")];
}

/** @param {any} schema */
function range({ minimum, maximum, pattern }) {
  if (pattern) return `like ${pattern}`;
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum}`;
  return minimum === undefined ? "" : `${minimum} or more`;
}

/** @param {(Node | string)[][]} parts @param {string} by */
function joined(parts, by) {
  return parts.flatMap((part, i) => (i ? [by, ...part] : part));
}

/** Text in which backticks mark code. @param {string} [text] @returns {(Node | string)[]} */
function prose(text = "") {
  const parts = text.split(/:\w+:`~?\.?([^`]+)`|``([^`]+)``|`([^`]+)`/);
  // Three groups: of four parts the first is text, and one of the others is code.
  return parts.flatMap((part, i) => (part ? [i % 4 ? h("code", {}, part) : part] : []));
}

/** @param {string} name */
function link(name) {
  return h("a", { href: `#schema-${slug(name)}` }, name);
}

/** @param {string} caption @param {string[]} head @param {(Node | string | (Node | string)[])[][]} rows */
function table(caption, head, rows) {
  const cells = (/** @type {any[]} */ row) =>
    row.map((cell, i) => (i ? h("td", {}, cell) : h("th", { scope: "row" }, cell)));
  return h(
    "div",
    { class: "scrolled", tabindex: 0, role: "group", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", {}, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          head.map((one) => h("th", { scope: "col" }, one)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) => h("tr", {}, cells(row))),
      ),
    ),
  );
}

/** @param {string} path @param {string} method @param {any} operation */
function operationOf(path, method, { summary, parameters = [], requestBody, responses }) {
  const id = slug(`${method} ${path}`);
  const given = parameters.map((/** @type {any} */ one) => [
    h("code", {}, one.name),
    one.in,
    [...typeOf(one.schema), one.description && " · ", ...prose(one.description)],
  ]);
  const answers = Object.entries(responses).map(([status, answer]) => {
    const kinds = Object.entries(answer.content ?? {});
    const content = kinds.flatMap(([kind, { schema }]) => [`${kind} `, ...(schema ? typeOf(schema) : [])]);
    return [status, content, prose(answer.description)];
  });
  const bodies = Object.values(requestBody?.content ?? {}).flatMap((one) => typeOf(one.schema));
  return h(
    "section",
    { class: "operation", "aria-labelledby": id },
    h("h3", { id }, h("span", { class: `method ${method}` }, method.toUpperCase()), " ", h("code", {}, path)),
    h("p", {}, summary),
    bodies.length > 0 && h("p", {}, "Body: ", bodies),
    given.length > 0 && table("Parameters", ["Name", "In", "Value"], given),
    table("Answers", ["Status", "Content", "Meaning"], answers),
  );
}

/** @param {string} name @param {any} schema */
function schemaOf(name, schema) {
  const id = `schema-${slug(name)}`;
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties ?? {});
  const described = fields.some(([, value]) => value.description);
  const rows = fields.map(([key, value]) => [
    h("code", {}, key),
    [...typeOf(value), required.has(key) ? h("strong", {}, " · required") : ""],
    ...(described ? [prose(value.description)] : []),
  ]);
  const head = ["Name", "Type", ...(described ? ["Meaning"] : [])];
  return h(
    "details",
    { class: "schema" },
    h("summary", {}, h("h3", { id }, name)),
    schema.description && h("p", { class: "prose" }, prose(schema.description)),
    rows.length > 0 ? table("Fields", head, rows) : h("p", {}, typeOf(schema)),
  );
}

/** @param {any} document_ */
function render({ info, paths, components }) {
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => operationOf(path, method, item[method])),
  );
  const schemas = Object.entries(components.schemas).sort(([a], [b]) => a.localeCompare(b));
  const contents = h(
    "nav",
    { class: "contents panel", "aria-label": "On this page" },
    h("h2", {}, "Endpoints"),
    h(
      "ul",
      {},
      operations.map((one) => {
        const title = /** @type {HTMLElement} */ (one.querySelector("h3"));
        return h("li", {}, h("a", { href: `#${title.id}` }, title.textContent));
      }),
    ),
    h("h2", {}, "Schemas"),
    h(
      "ul",
      {},
      schemas.map(([name]) => h("li", {}, link(name))),
    ),
  );
  return [
    h(
      "header",
      {},
      h("h1", {}, `${info.title} API `, h("small", {}, info.version)),
      h("p", {}, info.summary, ". The document itself: ", h("a", { href: "/api/openapi.json" }, "openapi.json")),
    ),
    h(
      "div",
      { class: "docs-columns" },
      contents,
      h(
        "div",
        { class: "docs-body" },
        h("h2", {}, "Endpoints"),
        operations,
        h("h2", {}, "Schemas"),
        schemas.map(([name, schema]) => schemaOf(name, schema)),
      ),
    ),
  ];
}

async function start() {
  const main = /** @type {HTMLElement} */ (document.getElementById("main"));
  try {
    fill(main, render(await openapi()));
  } catch (error) {
    if (!(error instanceof Refusal || error instanceof Unreachable)) throw error;
    fill(main, h("p", { class: "loading", role: "alert" }, explained(error)));
  }
  // What the address names was not there when the browser looked for it, or is folded.
  const reveal = () => {
    const named = location.hash && document.getElementById(location.hash.slice(1));
    const folded = named && named.closest("details");
    if (folded) folded.open = true;
    if (named) named.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
}

start();
