// Review and drift: whether the work still looks as it did, and what people said of answers.
import { ask, empty, has, make, moment, number, problem, text } from "./desk.js";

const drift = document.getElementById("drift"), review = document.getElementById("review");
const KINDS = { ok: "good", watch: "warn", alert: "bad", too_few: "" };

function signal(name, value) {
  if (value === null || value === undefined) return null;
  const shown = typeof value === "object" ? Object.entries(value).map(([part, inner]) => `${part} ${typeof inner === "number" ? number(inner, 3) : inner}`).join(" · ") : typeof value === "number" ? number(value, 3) : String(value);
  return make("div", {}, make("dt", {}, name), make("dd", {}, shown));
}

function product(one) {
  return make("article", { class: "card model" },
    make("div", { class: "model-head" }, make("h3", {}, one.product ?? one.name ?? ""), make("p", { class: `pill ${KINDS[one.state] ?? ""}` }, text(`js.drift_${one.state}`))),
    make("dl", { class: "facts" }, signal("PSI", one.psi), signal("KS", one.ks), signal(text("js.week"), one.week?.n ?? one.week?.rows), signal(text("js.reference"), one.reference?.n ?? one.reference?.rows)));
}

function judged(one) {
  const agree = one.agree ?? one.judgement?.agree;
  return make("div", { class: "entry", role: "listitem" },
    make("span", { class: agree === true ? "good" : agree === false ? "bad" : "soft" }, agree === true ? "✓" : agree === false ? "✗" : "?"),
    make("time", { class: "soft", datetime: one.time ?? one.at }, one.time ?? one.at ? moment(one.time ?? one.at) : ""),
    make("div", {}, make("strong", {}, one.verdict ?? one.why ?? one.id ?? ""), agree !== undefined && make("span", { class: "soft" }, ` ${text(agree ? "js.agreed" : "js.disagreed")}${one.label ? ` → ${one.label}` : ""}`), one.note && make("p", { class: "small" }, one.note), one.key && make("p", { class: "soft small" }, one.key)));
}

async function fill(place, path, off, none, draw) {
  if (!has(path)) {
    place.replaceChildren(empty(text(`js.${off}`), text(`js.${off}_about`)));
    return;
  }
  try {
    const found = draw(await ask(path));
    place.replaceChildren(...(found.length ? found : [empty(text(`js.${none}`), text(`js.${none}_about`))]));
  } catch (error) {
    place.replaceChildren(problem(error));
  }
}

await Promise.all([
  fill(drift, "/site/drift", "drift_off", "drift_off", (found) => (found.products ?? (Array.isArray(found) ? found : Object.entries(found).map(([name, one]) => ({ product: name, ...one })))).map(product)),
  fill(review, "/site/review", "review_off", "review_none", (found) => {
    const entries = (found.entries ?? found.samples ?? found.items ?? []).map(judged);
    return entries.length ? [make("div", { class: "card flush", role: "list" }, entries)] : [];
  }),
]);
