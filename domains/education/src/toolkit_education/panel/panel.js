// A learner's desk: choose what to practise, get a problem, answer it, see what was wrong, go on.
export default async function open(panel, desk) {
  const { ask, busy, make, text } = desk;
  const byId = (id) => panel.querySelector(`#${id}`);
  const form = byId("wanted"), sheet = byId("sheet"), refusal = byId("refusal"), learner = byId("learner");
  const mine = desk.language.startsWith("zh") ? "zh" : "en";
  byId("language").value = mine;

  const [found, themes] = await Promise.all([ask("/v1/skills"), ask("/v1/themes")]);
  const skills = new Map(found.map((skill) => [skill.id, skill]));
  byId("skill").append(...found.map((skill) => make("option", { value: skill.id }, skill.names[mine] ?? skill.id)));
  byId("theme-of").append(...Object.entries(themes).map(([id, words]) => make("option", { value: id }, words[mine]?.name ?? id)));
  byId("skill").value = found[0]?.id ?? "";
  levels();

  function levels() {
    const skill = skills.get(byId("skill").value);
    byId("level").disabled = !skill;
    byId("level").replaceChildren(...(skill ? Array.from({ length: skill.levels }, (_, place) => make("option", { value: place + 1 }, text("level_n", { n: place + 1 }))) : [make("option", { value: 0 }, "–")]));
  }
  byId("skill").addEventListener("change", levels);

  byId("enrol").addEventListener("click", async (event) => {
    try {
      learner.value = (await busy(event.currentTarget, () => ask("/v1/learners", { method: "POST" }))).learner;
      await standing();
    } catch (error) {
      refusal.replaceChildren(desk.problem(error));
    }
  });
  learner.addEventListener("change", standing);

  form.addEventListener("submit", (event) => { event.preventDefault(); next(byId("ask")); });

  async function next(button) {
    refusal.replaceChildren();
    const wanted = Object.fromEntries(new FormData(form));
    if (!wanted.skill && !wanted.learner) {
      refusal.replaceChildren(make("p", { class: "note warn", role: "alert" }, text("need_learner")));
      return;
    }
    try {
      show(await busy(button, () => ask("/v1/problem", { method: "POST", json: { ...wanted, level: Number(wanted.level ?? 0) } })), wanted.learner);
    } catch (error) {
      refusal.replaceChildren(desk.problem(error));
    }
  }

  function show(problem, who) {
    const answer = make("input", { id: "answer", autocomplete: "off", required: true, maxlength: 200 });
    const working = make("textarea", { id: "working", rows: 4, maxlength: 4000, "aria-describedby": "working-about" });
    const feedback = make("div", { "aria-live": "polite" });
    const check = make("button", {}, text("check"));
    const skill = skills.get(problem.skill);
    const card = make("form", { class: "card sheet appear", onsubmit: async (event) => {
      event.preventDefault();
      try {
        const given = await busy(check, () => ask("/v1/answer", { method: "POST", whole: true, json: { learner: who, item: problem.item, answer: answer.value, working: working.value } }));
        const found = await given.json();
        feedback.replaceChildren(marked(found, given.headers.get("x-request-id")));
        if (found.right) feedback.querySelector(".next").focus();
        if (who) await standing();
      } catch (error) {
        feedback.replaceChildren(desk.problem(error));
      }
    } },
    make("div", { class: "meta" },
      make("span", { class: "pill accent" }, skill?.names[mine] ?? problem.skill), make("span", { class: "pill" }, text("level_n", { n: problem.level })),
      make("span", { class: "pill good", title: problem.provenance.checks.join("\n") }, text("checked", { n: problem.provenance.checks.length }))),
    make("p", { class: "question", lang: problem.language, id: "question", tabindex: -1 }, problem.problem),
    make("div", {}, make("label", { for: "answer" }, text("answer")), make("div", { class: "answer-row" }, problem.unit ? make("div", { class: "unit-row" }, answer, make("span", { class: "soft" }, problem.unit)) : answer, check)),
    make("details", {}, make("summary", {}, text("working")), make("label", { for: "working", class: "sr" }, text("working")), working, make("p", { class: "hint", id: "working-about" }, text("working_about"))),
    feedback);
    sheet.replaceChildren(card);
    answer.focus();
  }

  /** What is said of an answer. Of a wrong one the way is told step by step, as far as it is asked for. */
  function marked(found, request) {
    const kind = found.right ? "right" : "wrong";
    const box = make("div", { class: `feedback ${kind} appear` }, make("h3", {}, text(found.verdict)), make("p", {}, found.reason));
    const wrong = found.first_wrong_step;
    if (wrong) box.append(make("p", {}, make("code", {}, text("wrong_step", { line: wrong.line, text: wrong.text })), make("br"), wrong.explanation));
    const steps = make("ol", { class: "steps", "aria-label": text("steps") });
    const buttons = make("div", { class: "buttons" });
    const whole = () => {
      steps.replaceChildren(...found.steps.map((step) => make("li", {}, step)));
      steps.after(make("p", {}, make("strong", {}, text("answer_is", { answer: found.answer_text }))));
      buttons.replaceChildren(again());
    };
    const again = () => { const button = make("button", { class: "next", type: "button", onclick: () => next(button) }, text("next")); return button; };
    if (found.right) {
      steps.append(...found.steps.map((step) => make("li", {}, step)));
      buttons.append(again());
    } else if (found.verdict !== "unreadable") {
      const hint = make("button", { class: "ghost", type: "button", onclick: () => {
        steps.append(make("li", {}, found.steps[steps.children.length]));
        hint.textContent = text("more_hint");
        if (steps.children.length >= found.steps.length - 1) hint.remove();
      } }, text("hint"));
      if (found.steps.length > 1) buttons.append(hint);
      buttons.append(make("button", { class: "ghost", type: "button", onclick: whole }, text("solution")));
    }
    box.append(steps, buttons, ...[desk.judgement(request)].filter(Boolean));
    return box;
  }

  async function standing() {
    const place = byId("mastery");
    place.hidden = true;
    if (!learner.value.trim()) return;
    try {
      const found = Object.entries(await ask(`/v1/learners/${encodeURIComponent(learner.value.trim())}`)).filter(([, known]) => known.answers);
      place.hidden = !found.length;
      byId("skills-known").replaceChildren(make("div", { class: "known" }, found.flatMap(([id, known]) => {
        const name = skills.get(id)?.names[mine] ?? id;
        return [make("span", {}, name), make("progress", { max: 1, value: known.mastery, "aria-label": name }), make("span", { class: "soft" }, `${desk.percent(known.mastery, 0)} · ${known.mastered ? text("mastered") : text("answers", { n: known.answers })}`)];
      })));
    } catch (error) {
      refusal.replaceChildren(desk.problem(error));
    }
  }
}
