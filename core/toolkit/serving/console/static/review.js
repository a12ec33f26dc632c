// Review and drift: whether the work still looks as it did, and what people said of answers.
import { ask, busy, called, empty, has, make, moment, number, problem, says, text } from "./desk.js";

const drift = document.getElementById("drift"), review = document.getElementById("review");
const KINDS = { ok: "good", watch: "warn", alert: "bad" };
const state = (name) => make("span", { class: `pill ${KINDS[name] ?? ""}` }, text(says(`js.drift_${name}`) ? `js.drift_${name}` : "js.drift_too_few"));
const figure = (value) => (typeof value === "number" ? number(value, 3) : "–");

/** A version: how each measure of its week lies beside the reference. */
function product(one) {
  const measures = Object.keys(one.states ?? {});
  const head = make("thead", {}, make("tr", {}, [text("js.measure"), "PSI", "KS", text("js.week"), text("js.reference"), ""].map((name, place) => make(name ? "th" : "td", { scope: name ? "col" : null, class: place && name ? "number" : "" }, name))));
  const rows = measures.map((name) => make("tr", {}, make("th", { scope: "row" }, called("measure", name)), make("td", { class: "number" }, figure(one.psi?.[name])), make("td", { class: "number" }, figure(one.ks?.[name])), make("td", { class: "number" }, number(one.week?.[name] ?? 0)), make("td", { class: "number" }, number(one.reference?.[name] ?? 0)), make("td", { class: "actions" }, state(one.states[name]))));
  return make("article", { class: "card model" },
    make("div", { class: "model-head" }, make("h3", {}, one.product, " ", make("span", { class: "version" }, one.version ?? "")), state(one.state)),
    measures.length > 0 && make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": one.product }, make("table", {}, head, make("tbody", {}, rows))));
}

/** Why an answer is in the set, in words; `drift:MEASURE` names the measure that it is at the ends of. */
function reason(why) {
  const [kind, measure] = why.split(":");
  return measure ? text("js.why_drift", { measure: called("measure", measure) }) : called("why", kind);
}

const JUDGED = { true: ["good", "js.agreed"], false: ["bad", "js.disagreed"], null: ["warn", "js.open"] };

function judged(one) {
  const [kind, said] = JUDGED[one.agree ?? null];
  const about = make("div", {}, make("strong", {}, one.verdict || one.kind), " ", make("span", { class: "soft" }, (one.why ?? []).map(reason).join(", ")), one.by && make("p", { class: "soft small" }, one.by));
  const details = make("div", { class: "sample" });
  const look = make("button", { class: "quiet", type: "button", "aria-expanded": "false", onclick: async () => {
    if (details.childElementCount) { details.replaceChildren(); look.setAttribute("aria-expanded", "false"); return; }
    try {
      details.replaceChildren(shown(await busy(look, () => ask(`/site/review/${encodeURIComponent(one.id)}`))));
      look.setAttribute("aria-expanded", "true");
    } catch (error) {
      details.replaceChildren(problem(error));
    }
  } }, text("js.look"));
  about.append(details);
  return make("div", { class: "entry wide", role: "listitem" },
    make("span", { class: `pill ${kind}` }, text(said)), make("time", { class: "soft", datetime: one.time }, moment(one.time)), about, one.held === false ? make("span", { class: "soft small" }, text("js.not_held")) : look);
}

/** What was asked, decrypted for this look alone; and what a person said of it. */
function shown(found) {
  const { sample, said } = found;
  const picture = sample?.kind === "image" || (typeof sample?.content === "string" && sample.kind !== "text");
  return make("div", { class: "form appear" },
    sample && (picture ? make("img", { alt: found.verdict, src: `data:image/*;base64,${sample.content}` }) : make("pre", { tabindex: 0 }, JSON.stringify(sample.content, null, 2))),
    said && (said.label || said.note) && make("p", {}, said.label && make("strong", {}, `→ ${said.label} `), said.note));
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
  fill(drift, "/site/drift", "drift_off", "drift_off", (found) => found.products.map(product)),
  fill(review, "/site/review", "review_off", "review_none", (found) => (found.entries.length ? [make("div", { class: "card flush", role: "list" }, found.entries.map(judged))] : [])),
]);
