// The workbench: opens a domain's panel and hands it what a panel works with.
import * as desk from "./desk.js";

const panel = document.getElementById("panel");
const texts = JSON.parse(document.getElementById("panel-texts").textContent);

/** The product's own routes, whichever others are served beside it; one version answers all that a page asks. */
const prefix = `/products/${encodeURIComponent(panel.dataset.product)}`;
const session = crypto.randomUUID?.() ?? String(Math.random());
const ask = (path, options = {}) => desk.ask(path.startsWith("/v") ? prefix + path : path, { ...options, headers: { "X-Toolkit-Session": session, ...options.headers } });

/** What a panel's script gets: everything of desk.js, its own texts, and which model it stands before. */
const own = Object.freeze({
  ...desk,
  ask,
  text: (key, values) => (key in texts ? desk.text(key, values, texts) : desk.text(key, values)),
  product: panel.dataset.product,
  version: panel.dataset.version,
  judgement,
});

/** Agree or disagree with an answer; nothing where this site keeps no review set. `labels`: what it might have been. */
function judgement(request, labels = []) {
  if (!desk.has("/site/review")) return null;
  const { make, text } = desk;
  const row = make("div", { class: "buttons judgement" });
  const tell = async (button, agree, more = {}) => {
    try {
      await desk.busy(button, () => desk.ask("/site/review", { method: "POST", json: { request_id: request, agree, ...more } }));
      row.replaceChildren(make("p", { class: "soft small" }, text("js.thanks")));
      desk.announce(text("js.thanks"));
    } catch (error) {
      row.after(desk.problem(error));
    }
  };
  const agree = make("button", { class: "ghost compact", type: "button", onclick: () => tell(agree, true) }, desk.icon("check"), text("js.agree"));
  const disagree = make("button", { class: "ghost compact", type: "button", onclick: async () => {
    const label = labels.length ? make("select", { id: "right-label" }, make("option", { value: "" }, "–"), labels.map((one) => make("option", { value: one }, one))) : null;
    const note = make("textarea", { id: "right-note", maxlength: 2000 });
    const fields = make("div", { class: "form" },
      label && make("div", {}, make("label", { for: "right-label" }, text("js.right_class")), label),
      make("div", {}, make("label", { for: "right-note" }, text("js.note")), note, make("p", { class: "hint" }, text("js.note_about"))));
    if (await desk.confirm(text("js.disagree"), fields, text("js.send_judgement"))) {
      await tell(disagree, false, { ...(label?.value && { label: label.value }), ...(note.value.trim() && { note: note.value.trim() }) });
    }
  } }, desk.icon("cross"), text("js.disagree"));
  row.append(agree, disagree);
  return row;
}

try {
  const { default: open } = await import(panel.dataset.script);
  await open(panel, own);
  panel.disabled = false; // what is pressed before its listener is there would be lost, or a form sent without it
} catch (error) {
  panel.replaceChildren(desk.empty(desk.text("js.panel_failed"), error.message));
  throw error;
}
