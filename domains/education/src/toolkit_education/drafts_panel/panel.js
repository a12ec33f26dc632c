// Drafts for a person: a list, the one that is read with its steps and why it waits, and that person's word.
const AT_ONCE = 4, PAGE = 50;
const BESIDE = matchMedia("(min-width: 58rem)");
const REASONS = {
  "the solver says nothing": "why_silent", "the solver's answers are split": "why_split",
  "no other numbers fit": "why_numbers", "another solver than the measured one agrees": "why_measured",
};

export default async function open(panel, desk) {
  const { announce, ask, busy, make, text } = desk;
  const byId = (id) => panel.querySelector(`#${id}`);
  const list = byId("drafts"), reading = byId("reading"), refusal = byId("refusal"), outcome = byId("outcome");
  const why = (draft) => (draft.because in REASONS ? text(REASONS[draft.because]) : draft.because);
  const problemOf = (draft) => draft.items[0]?.problem ?? draft.text;

  outcome.addEventListener("change", () => load());
  byId("draft").addEventListener("click", async (event) => {
    refusal.replaceChildren();
    try {
      await busy(event.currentTarget, () => ask("/v1/drafts", { method: "POST", json: { many: AT_ONCE } }));
      await load();
    } catch (error) {
      refusal.replaceChildren(desk.problem(error));
    }
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], all = [...list.querySelectorAll("button")];
    if (!step || !all.includes(document.activeElement)) return;
    event.preventDefault();
    all[all.indexOf(document.activeElement) + step]?.focus();
  });

  /** The first drafts of the outcome that is wanted, or those behind the last one. */
  async function load(after = 0) {
    try {
      const found = await ask(`/v1/drafts?outcome=${outcome.value}&limit=${PAGE}&after=${after}`);
      for (const option of outcome.options) option.textContent = `${text(option.value)} (${found.counts[option.value]})`;
      byId("draft").disabled = Boolean(found.drafting);
      byId("mistrust").hidden = !found.drafting;
      byId("mistrust").textContent = text("drafting_off", { why: found.drafting });
      const rows = found.drafts.map(row);
      if (found.drafts.length === PAGE) rows.push(more(found.drafts.at(-1).number));
      if (after) list.append(...rows);
      else {
        list.replaceChildren(...(rows.length ? rows : [desk.empty(text("none"), text("none_about"))]));
        reading.replaceChildren(...(rows.length ? [desk.empty(text("choose"), text("choose_about"))] : []));
      }
      return rows;
    } catch (error) {
      list.replaceChildren(desk.problem(error));
      return [];
    }
  }

  function more(last) {
    const button = make("button", { class: "draft", type: "button", onclick: async () => {
      const rows = await busy(button, () => load(last));
      button.remove();
      rows[0]?.focus();
    } }, text("more"));
    return button;
  }

  function row(draft) {
    const button = make("button", { class: "draft", type: "button", onclick: () => {
      list.querySelector("[aria-current]")?.removeAttribute("aria-current");
      button.setAttribute("aria-current", "true");
      read(draft, button);
    } }, make("span", {}, problemOf(draft)), make("small", {}, why(draft) || text(draft.outcome)));
    return button;
  }

  function read(draft, button) {
    const [own, ...others] = draft.items;
    const note = make("textarea", { id: "note", rows: 2, maxlength: 1000, "aria-describedby": "note-about" });
    const said = make("div", {});
    const may = { accept: draft.outcome === "waiting", reject: ["waiting", "solved", "accepted"].includes(draft.outcome) };
    const buttons = { accept: decide("accept", "A", ""), reject: decide("reject", "R", "danger") };

    function decide(word, key, kind) {
      return make("button", { class: kind, type: "button", "aria-keyshortcuts": key, onclick: async (event) => {
        try {
          await busy(event.currentTarget, () => ask(`/v1/drafts/${encodeURIComponent(draft.id)}/${word}`, { method: "POST", json: { note: note.value } }));
          await decided(word === "accept" ? "accepted" : "rejected", button);
        } catch (error) {
          said.replaceChildren(desk.problem(error));
        }
      } }, text(word), make("kbd", { "aria-hidden": "true" }, key));
    }

    // Letters are keys only while the draft itself has the focus, so that they can be typed everywhere else (WCAG 2.1.4).
    const card = make("article", { class: "card reading appear", tabindex: -1, "aria-labelledby": "reading-problem", onkeydown: (event) => {
      const word = { a: "accept", r: "reject" }[event.key.toLowerCase()];
      if (event.target === card && word && may[word] && !event.ctrlKey && !event.metaKey && !event.altKey) buttons[word].click();
    } },
    make("div", { class: "meta" },
      make("span", { class: `pill ${{ waiting: "warn", solved: "good", accepted: "good" }[draft.outcome] ?? "bad"}` }, text(draft.outcome)),
      draft.because && make("span", { class: "pill" }, why(draft))),
    make("h2", { class: "problem-text", id: "reading-problem", lang: draft.language ?? "en" }, problemOf(draft)),
    own && solved(own, draft.language),
    others.length > 0 && make("details", {}, make("summary", {}, text("other_numbers")), others.map((item) => make("div", { class: "set" }, make("p", { lang: draft.language }, item.problem), solved(item, draft.language)))),
    make("details", {}, make("summary", {}, text("as_written")), make("pre", { tabindex: 0 }, draft.text)),
    make("p", { class: "soft small" }, [text("drafted_by", { who: draft.drafter }), text("solver", { who: draft.solver }), draft.reviewer && text("by", { who: draft.reviewer, when: desk.moment(draft.reviewed) }), draft.note].filter(Boolean).join(" · ")),
    (may.accept || may.reject) && make("div", {}, make("label", { for: "note" }, text("note")), note, make("p", { class: "hint", id: "note-about" }, text("note_about"))),
    make("div", { class: "buttons" }, may.accept && buttons.accept, may.reject && buttons.reject), said);
    reading.replaceChildren(card);
    card.focus({ preventScroll: true });
    if (!BESIDE.matches) card.scrollIntoView();
  }

  function solved(item, language) {
    return make("div", { class: "set", lang: language }, make("ol", {}, item.steps.map((step) => make("li", {}, step))), make("strong", {}, text("answer_is", { answer: [item.answer, item.unit].filter(Boolean).join(" ") })));
  }

  /** The draft leaves the list it was in, and the next one is read. */
  async function decided(became, button) {
    const place = [...list.querySelectorAll(".draft")].indexOf(button);
    const rows = await load();
    announce(text(`done_${became}`));
    const next = rows[Math.min(place, rows.length - 1)];
    if (next) next.click();
    else outcome.focus();
  }

  await load();
}
