// Copy about a product, as it is written and once it is checked, with what the checks found in its place.
const EXAMPLE = {
  en: { brand: "Nordal", model: "K3", category: "kettle", colour: "red", material: "stainless steel", capacity: "1.7 L" },
  zh: { brand: "Nordal", model: "K3", category: "kettle", colour: "red", material: "stainless steel", capacity: "1.7升" },
};

export default async function open(panel, desk) {
  const { ask, busy, make, text } = desk;
  const byId = (id) => panel.querySelector(`#${id}`);
  const slots = JSON.parse(byId("slots").textContent);
  const form = byId("wanted"), copies = byId("copies"), attributes = byId("attributes");
  const mine = desk.language.startsWith("zh") ? "zh" : "en";
  if (mine in slots) byId("language").value = mine;
  const language = () => byId("language").value;
  let channels = {}, writing = null;

  function attribute(name = "", value = "") {
    const names = `names-${attributes.children.length}`, values = `values-${attributes.children.length}`;
    const known = make("datalist", { id: values });
    const fill = () => known.replaceChildren(...(slots[language()]?.[key.value] ?? []).map((one) => make("option", { value: one })));
    const key = make("input", { class: "name", value: name, "aria-label": text("attribute"), list: names, maxlength: 60, oninput: fill, placeholder: text("attribute") });
    const said = make("input", { class: "value", value, "aria-label": `${text("value")} ${name}`, list: values, maxlength: 500, placeholder: text("value") });
    const row = make("div", { class: "attribute" }, key, said,
      make("button", { class: "quiet square", type: "button", "aria-label": `${text("remove")} ${name}`, onclick: () => { row.remove(); byId("add-attribute").focus(); } }, desk.icon("cross")),
      make("datalist", { id: names }, Object.keys(slots[language()] ?? {}).map((one) => make("option", { value: one }))), known);
    fill();
    attributes.append(row);
    return key;
  }
  const known = slots[language()] ?? {};
  const begin = Object.entries(EXAMPLE[language()] ?? {}).filter(([name]) => name in known);
  for (const [name, value] of begin.length ? begin : Object.keys(known).slice(0, 5).map((one) => [one, known[one][0] ?? ""])) attribute(name, value);
  byId("add-attribute").addEventListener("click", () => attribute().focus());

  function offer() {
    const wanted = byId("form-of").value, chosen = byId("channel").value;
    const fitting = Object.entries(channels).filter(([, one]) => one.languages.includes(language()) && wanted in one.limits);
    byId("channel").replaceChildren(make("option", { value: "" }, text("no_channel")), ...fitting.map(([name, one]) => make("option", { value: name }, `${name} · ≤ ${one.limits[wanted].most}`)));
    byId("channel").value = fitting.some(([name]) => name === chosen) ? chosen : "";
  }
  for (const id of ["language", "form-of"]) byId(id).addEventListener("change", offer);
  try {
    channels = await ask("/v1/channels");
  } catch (error) {
    copies.prepend(desk.problem(error));
  }
  offer();

  const product = () => Object.fromEntries([...attributes.children].map((row) => [row.querySelector(".name").value.trim(), row.querySelector(".value").value.trim()]).filter(([name, value]) => name && value));
  const words = (id) => byId(id).value.split(/[,，、]/).map((word) => word.trim()).filter(Boolean);
  const brief = () => ({ form: byId("form-of").value, channel: byId("channel").value, language: language(), must: words("must"), never: words("never") });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    copies.replaceChildren();
    writing = new AbortController();
    byId("stop").hidden = false;
    try {
      await busy(byId("write"), write);
    } catch (error) {
      if (error.name !== "AbortError") copies.append(desk.problem(error));
    } finally {
      byId("stop").hidden = true;
      for (const left of copies.querySelectorAll(".drafting")) left.remove();
    }
  });
  byId("stop").addEventListener("click", () => writing?.abort());

  async function write() {
    const sent = product();
    const answer = await ask("/v1/copy", { method: "POST", whole: true, signal: writing.signal, json: { product: sent, brief: brief(), variants: Number(byId("variants").value), stream: true } });
    const cards = new Map(), drafts = new Map();
    for await (const data of desk.events(answer)) {
      if (data === "[DONE]") return;
      const told = JSON.parse(data);
      if (told.error) throw new desk.Refusal(422, told.error);
      if (!cards.has(told.variant)) {
        cards.set(told.variant, make("article", { class: "card copy drafting", "aria-busy": "true" }));
        copies.append(cards.get(told.variant));
      }
      const card = cards.get(told.variant);
      if (told.copy) {
        card.className = "card copy";
        card.removeAttribute("aria-busy");
        card.replaceChildren(...written(told.copy));
        desk.announce(told.copy.text);
      } else {
        const before = drafts.get(told.variant);
        const now = before?.number === told.draft ? { number: told.draft, text: before.text + told.text } : { number: told.draft, text: told.text };
        drafts.set(told.variant, now);
        card.replaceChildren(make("header", {}, make("span", { class: "pill" }, text("draft", { n: now.number }))), make("p", { class: "said-text" }, filled(now.text, sent)));
      }
    }
  }

  /** A draft with the values where the student left their places. */
  const filled = (draft, values) => draft.replace(/\[(\w+)\]/g, (whole, name) => values[name] ?? whole);

  function written(copy) {
    const button = make("button", { class: "quiet", type: "button", onclick: async () => {
      await navigator.clipboard.writeText(copy.published ?? copy.text);
      button.lastChild.textContent = text("copied");
    } }, desk.icon("copy"), make("span", {}, text("copy")));
    return [
      make("header", {}, make("span", { class: `pill ${copy.passes ? "good" : "bad"}` }, text(copy.passes ? "passes" : "blocked")), make("span", { class: "soft" }, copy.by === "student" ? text("by_student", { n: copy.drafts }) : text("by_template")), navigator.clipboard && button),
      make("p", { class: "said-text", lang: language() }, painted(copy.text, copy.findings, copy.said)),
      ...told(copy.findings, copy.said?.length),
      Object.keys(copy.metadata ?? {}).length > 0 && make("p", { class: "soft small" }, text("marks")),
    ].filter(Boolean);
  }

  const RANKS = { block: 3, review: 2, note: 1, said: 0 };

  /** The text with its spans marked; where several meet, the gravest shows. Places count characters, as Python does. */
  function painted(said, findings, values = []) {
    const letters = Array.from(said);
    const spans = [
      ...values.map((one) => ({ from: one.span[0], to: one.span[1], kind: "said", about: text("said", { name: one.attribute }) })),
      ...findings.filter((one) => one.span[1] > one.span[0]).map((one) => ({ from: one.span[0], to: one.span[1], kind: one.severity, about: one.message })),
    ];
    const edges = [...new Set([0, letters.length, ...spans.flatMap((span) => [span.from, span.to])])].sort((one, other) => one - other);
    const parts = [];
    edges.slice(0, -1).forEach((from, place) => {
      const span = spans.filter((one) => one.from <= from && one.to >= edges[place + 1]).sort((one, other) => RANKS[other.kind] - RANKS[one.kind])[0];
      const part = { kind: span?.kind, about: span?.about, said: letters.slice(from, edges[place + 1]).join("") };
      const before = parts.at(-1);
      if (before && before.kind === part.kind && part.kind !== "said") before.said += part.said;
      else parts.push(part);
    });
    return parts.map((part) => (part.kind ? make("mark", { class: part.kind === "said" ? "attribute-said" : part.kind, title: part.about }, part.said) : part.said));
  }

  function told(findings, says) {
    const kinds = new Set(findings.map((one) => one.severity));
    const legend = [says && ["", "legend_said"], kinds.has("block") && ["bad", "legend_block"], kinds.has("review") && ["review", "legend_review"]].filter(Boolean);
    return [
      legend.length > 0 && make("div", { class: "legend", "aria-hidden": "true" }, legend.map(([kind, key]) => make("span", { class: kind }, make("i"), text(key)))),
      findings.length ? make("ul", { class: "findings", "aria-label": text("findings") }, findings.map((one) => make("li", {}, make("span", { class: `pill ${{ block: "bad", review: "warn" }[one.severity] ?? ""}` }, text(one.severity)), make("span", {}, one.message)))) : make("p", { class: "soft small" }, text("no_findings")),
    ].filter(Boolean);
  }

  byId("checking").addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = byId("any-text").value;
    const named = product();
    try {
      const found = await busy(event.submitter, () => ask("/v1/check", { method: "POST", json: { text: said, brief: brief(), ...(Object.keys(named).length && { product: named }) } }));
      byId("checked").replaceChildren(make("div", { class: "copy appear" }, make("header", {}, make("span", { class: `pill ${found.passes ? "good" : "bad"}` }, text(found.passes ? "passes" : "blocked"))), make("p", { class: "said-text" }, painted(said, found.findings)), ...told(found.findings, 0)));
    } catch (error) {
      byId("checked").replaceChildren(desk.problem(error));
    }
  });
}
