// A page that fits every model: its routes as the API's own description has them, each with a form.
import { ask, busy, empty, make, milliseconds, problem, text } from "./desk.js";

const ASIDE = ["/site/", "/healthz", "/readyz", "/metrics", "/console"];
const place = document.getElementById("routes");

function resolved(schema, part) {
  return part?.$ref ? part.$ref.split("/").slice(1).reduce((node, name) => node?.[name], schema) : part;
}

/** A value that fits a schema: its example, its default, or the plainest one. */
function exampleOf(schema, part, depth = 0) {
  part = resolved(schema, part);
  if (!part || depth > 6) return null;
  if (part.example !== undefined) return part.example;
  if (part.default !== undefined && part.default !== null) return part.default;
  if (part.enum) return part.enum[0];
  if (part.const !== undefined) return part.const;
  const inner = part.anyOf ?? part.oneOf ?? part.allOf;
  if (inner) return exampleOf(schema, inner.find((one) => one.type !== "null") ?? inner[0], depth + 1);
  if (part.type === "array") return [exampleOf(schema, part.items, depth + 1)];
  if (part.properties) {
    const required = new Set(part.required ?? []);
    const named = Object.entries(part.properties).filter(([name, one]) => required.has(name) || one.default === undefined);
    return Object.fromEntries(named.map(([name, one]) => [name, exampleOf(schema, one, depth + 1)]));
  }
  return { string: "", number: part.minimum ?? 0, integer: part.minimum ?? 0, boolean: false, object: {} }[part.type] ?? null;
}

function form(schema, path, method, operation, id) {
  const content = resolved(schema, operation.requestBody)?.content ?? {};
  const inJson = content["application/json"];
  const binary = Object.keys(content).find((type) => type === "application/octet-stream" || type.startsWith("image/"));
  const fields = (operation.parameters ?? []).filter((one) => ["path", "query"].includes(one.in)).map((one) => ({ ...one, input: make("input", { id: `${id}-${one.name}`, required: one.in === "path", placeholder: one.in === "query" ? String(resolved(schema, one.schema)?.default ?? "") : "" }) }));
  const area = inJson && make("textarea", { id: `${id}-body`, spellcheck: "false", rows: 8 });
  if (area) area.value = JSON.stringify(inJson.example ?? exampleOf(schema, inJson.schema), null, 2);
  const file = !inJson && binary && make("input", { id: `${id}-file`, type: "file", required: true });
  const output = make("div", { class: "stack", "aria-live": "polite" });
  const send = make("button", {}, text("js.send"));
  return make("form", { class: "form", onsubmit: async (event) => {
    event.preventDefault();
    const started = performance.now();
    try {
      const answer = await busy(send, () => ask(`/products/${encodeURIComponent(place.dataset.product)}${filled(path, fields)}`, { method: method.toUpperCase(), whole: true, ...(area && { body: area.value, headers: { "Content-Type": "application/json" } }), ...(file && { body: file.files[0] }) }));
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

function route(schema, path, method, operation, number) {
  return make("details", { class: "card flush route", open: number === 0 },
    make("summary", {}, make("b", {}, method.toUpperCase()), make("code", {}, path), make("span", {}, operation.summary ?? "")),
    form(schema, path, method, operation, `route-${number}`));
}

try {
  const schema = await ask(`/products/${encodeURIComponent(place.dataset.product)}/openapi.json`);
  const found = Object.entries(schema.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => [path, method, operation])).filter(([path]) => !ASIDE.some((start) => path.startsWith(start)));
  found.sort((one, other) => (one[1] !== "post") - (other[1] !== "post"));
  place.replaceChildren(...(found.length ? found.map((one, number) => route(schema, ...one, number)) : [empty(text("js.no_routes"))]));
} catch (error) {
  place.replaceChildren(problem(error));
}
