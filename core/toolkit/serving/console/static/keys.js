// Keys: who may ask what.
import { announce, ask, busy, confirm, empty, has, icon, make, moment, problem, text } from "./desk.js";

const place = document.getElementById("keys"), form = document.getElementById("add"), made = document.getElementById("made");
const me = document.querySelector(".who strong")?.textContent;

function row(key) {
  const remove = make("button", { class: "danger compact", type: "button", onclick: async () => {
    if (!await confirm(text("js.remove_title", { name: key.name }), make("p", { class: "soft" }, text("js.remove_about")), text("js.remove"), { danger: true })) return;
    try {
      await busy(remove, () => ask(`/site/keys/${encodeURIComponent(key.name)}`, { method: "DELETE" }));
      announce(text("js.removed", { name: key.name }));
      await refresh();
    } catch (error) {
      place.prepend(problem(error));
    }
  } }, text("js.remove"));
  return make("tr", {},
    make("th", { scope: "row" }, key.name, key.name === me && make("small", {}, text("js.you"))),
    make("td", {}, make("span", { class: `pill ${key.role === "admin" ? "accent" : ""}` }, text(`role.${key.role}`))),
    make("td", { class: "soft" }, text("js.created", { when: moment(key.created) })),
    make("td", { class: "actions" }, key.name !== me && remove));
}

async function refresh() {
  if (!has("/site/keys")) {
    form.closest("section").hidden = true;
    place.replaceChildren(empty(text("js.keys_off"), text("js.keys_off_about")));
    return;
  }
  try {
    const { keys } = await ask("/site/keys");
    const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, text("js.name")), make("th", { scope: "col" }, text("js.role")), make("td", {}), make("td", {})));
    place.replaceChildren(keys.length ? make("div", { class: "card flush scroll" }, make("table", {}, head, make("tbody", {}, keys.map(row)))) : empty(text("js.keys_none"), text("js.keys_none_about")));
  } catch (error) {
    place.replaceChildren(problem(error));
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new FormData(form), button = form.querySelector("button");
  try {
    const found = await busy(button, () => ask("/site/keys", { method: "POST", json: { name: fields.get("name"), role: fields.get("role") } }));
    const secret = found.key ?? found.secret;
    const copy = make("button", { class: "ghost compact", type: "button", onclick: async () => {
      await navigator.clipboard.writeText(secret);
      copy.lastChild.textContent = text("js.copied");
    } }, icon("copy"), make("span", {}, text("js.copy")));
    made.replaceChildren(make("div", { class: "appear" }, make("p", {}, text("js.made", { name: fields.get("name") })), make("div", { class: "secret" }, make("code", {}, secret), navigator.clipboard && copy)));
    form.reset();
    await refresh();
  } catch (error) {
    made.replaceChildren(problem(error));
  }
});
await refresh();
