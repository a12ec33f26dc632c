// A page that fits every model: its routes as the API's own description has them, each with a form.
import { ask, busy, empty, make, milliseconds, problem, text } from "./desk.js";

const place = document.getElementById("routes"), model = place.dataset.product;
const own = `/products/${encodeURIComponent(model)}`;

function resolved(schema, part) {
  return part?.$ref ? part.$ref.split("/").slice(1).reduce((node, name) => node?.[name], schema) : part;
}

/** A value that fits a schema: its example, its default, or the plainest one. */
function exampleOf(schema, part, depth = 0) {
  part = resolved(schema, part);
  if (!part || depth > 6) return null;
  if (part.example !== undefined) return part.example;
  if (part.examples?.length) return part.examples[0];
  if (part.default !== undefined && part.default !== null) return part.default;
  if (part.enum) return part.enum[0];
  if (part.const !== undefined) return part.const;
  const inner = part.anyOf ?? part.oneOf ?? part.allOf;
  if (inner) return exampleOf(schema, inner.find((one) => one.type !== "null") ?? inner[0], depth + 1);
  if (part.type === "array") return [exampleOf(schema, part.items, depth + 1)];
  if (part.properties) {
    const required = new Set(part.required ?? []);
    const named = Object.entries(part.properties).filter(([name, one]) => (required.size ? required.has(name) : one.default === undefined));
    return Object.fromEntries(named.map(([name, one]) => [name, exampleOf(schema, one, depth + 1)]));
  }
  return { string: "", number: part.minimum ?? 0, integer: part.minimum ?? 0, boolean: false, object: {} }[part.type] ?? null;
}

function form(schema, prefix, path, method, operation, id) {
  const content = resolved(schema, operation.requestBody)?.content ?? {};
  const inJson = content["application/json"];
  const binary = Object.keys(content).find((type) => type === "application/octet-stream" || type.startsWith("image/"));
  const fields = (operation.parameters ?? []).filter((one) => ["path", "query"].includes(one.in)).map((one) => ({ ...one, input: make("input", { id: `${id}-${one.name}`, required: one.in === "path", value: one.name === "model" ? model : null, placeholder: one.in === "query" ? String(resolved(schema, one.schema)?.default ?? "") : "" }) }));
  const area = inJson && make("textarea", { id: `${id}-body`, spellcheck: "false", rows: 8 });
  if (area) {
    const example = inJson.example ?? exampleOf(schema, inJson.schema);
    area.value = JSON.stringify(resolved(schema, inJson.schema)?.properties?.model ? { model, ...example } : example, null, 2);
  }
  const file = !inJson && binary && make("input", { id: `${id}-file`, type: "file", required: true });
  const output = make("div", { class: "stack", "aria-live": "polite" });
  const send = make("button", {}, text("js.send"));
  return make("form", { class: "form", onsubmit: async (event) => {
    event.preventDefault();
    const started = performance.now();
    try {
      const answer = await busy(send, () => ask(`${prefix}${filled(path, fields)}`, { method: method.toUpperCase(), whole: true, ...(area && { body: area.value, headers: { "Content-Type": "application/json" } }), ...(file && { body: file.files[0] }) }));
      output.replaceChildren(...await shown(answer, started));
    } catch (error) {
      output.replaceChildren(problem(error));
    }
  } },
  operation.description && make("p", { class: "soft small" }, operation.description.split("`").map((part, place) => (place % 2 ? make("code", {}, part) : part))),
  fields.length > 0 && make("div", { class: "fields" }, fields.map((one) => make("div", {}, make("label", { for: one.input.id }, one.name), one.input))),
  area && make("div", {}, make("label", { for: area.id }, text("js.body")), area),
  file && make("div", {}, make("label", { for: file.id }, text("js.file")), file),
  make("div", { class: "buttons" }, send), output);
}

function filled(path, fields) {
  const query = new URLSearchParams();
  for (const one of fields) {
    if (one.in === "path") path = path.replace(`{${one.name}}`, encodeURIComponent(one.input.value));
    else if (one.input.value) query.set(one.name, one.input.value);
  }
  return query.size ? `${path}?${query}` : path;
}

/** An answer as it is: text as text, JSON set out, anything else as a file to keep. */
async function shown(answer, started) {
  const kind = answer.headers.get("content-type") ?? "";
  const line = () => make("p", { class: "soft small" }, text("js.took", { status: answer.status, ms: milliseconds(performance.now() - started) }));
  if (kind.includes("json") && !kind.includes("ndjson")) return [line(), make("pre", { tabindex: 0 }, JSON.stringify(await answer.json(), null, 2))];
  if (kind.startsWith("text/") || kind.includes("ndjson")) return [line(), make("pre", { tabindex: 0 }, await answer.text())];
  const url = URL.createObjectURL(await answer.blob());
  return [line(), make("a", { href: url, download: "answer" }, text("js.answer"))];
}

function route({ schema, prefix, path, method, operation }, number) {
  return make("details", { class: "card flush route", open: number === 0 },
    make("summary", {}, make("b", {}, method.toUpperCase()), make("code", {}, path), make("span", {}, operation.summary ?? "")),
    form(schema, prefix, path, method, operation, `route-${number}`));
}

/** The operations of a description, those that answer a question first. */
function operations(schema, prefix) {
  const found = Object.entries(schema.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ schema, prefix, path, method, operation })));
  return found.sort((one, other) => (one.method !== "post") - (other.method !== "post"));
}

try {
  const starts = new Set(place.dataset.starts.split(" "));
  const [mine, all] = await Promise.all([ask(`${own}/openapi.json`), ask("/openapi.json")]);
  const routes = operations(mine, own), protocols = operations(all, "").filter((one) => starts.has(one.path));
  const shown = [...routes, ...protocols].map(route);
  shown.splice(routes.length, 0, ...(routes.length && protocols.length ? [make("h2", {}, text("js.protocols"))] : []));
  place.replaceChildren(...(shown.length ? shown : [empty(text("js.no_routes"))]));
} catch (error) {
  place.replaceChildren(problem(error));
}
