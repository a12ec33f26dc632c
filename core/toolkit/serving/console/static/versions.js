// Versions: what is installed, which share each has, and switching them.
import { announce, ask, busy, confirm, empty, has, make, may, moment, number, percent, problem, text } from "./desk.js";

const place = document.getElementById("versions"), incoming = document.getElementById("incoming");
const AGAIN = 700;
const KINDS = { serving: "good", canary: "accent", kept: "", loading: "warn", failed: "bad" };
const state = (name) => make("span", { class: `pill ${KINDS[name] ?? ""}` }, text(name === "failed" ? "js.failed_state" : `js.${name}`));

/** Run a change that a button asks for; the page then shows what became of it, and a refusal stands where it was asked. */
async function change(button, row, path, json) {
  row.querySelector(":scope > .note")?.remove();
  try {
    await busy(button, () => ask(path, { method: "POST", json }));
  } catch (error) {
    row.append(problem(error));
    button.focus();
    return;
  }
  await refresh();
  announce(text("js.done"));
  place.focus();
}

async function promote(button, row, one) {
  const slider = make("input", { id: "share", type: "range", min: 1, max: 100, value: 100, oninput: () => { said.textContent = percent(slider.value / 100, 0); } });
  const said = make("output", { for: "share", class: "number" }, percent(1, 0));
  const content = make("div", { class: "form" }, make("p", { class: "soft" }, text("js.promote_about")), make("div", {}, make("label", { for: "share" }, text("js.share")), make("div", { class: "share" }, slider, said)));
  if (await confirm(text("js.promote_title", { version: one.version }), content, text("js.promote"))) {
    await change(button, row, `/site/versions/${encodeURIComponent(one.bundle)}/promote`, { share: slider.value / 100 });
  }
}

function version(product, one) {
  const row = make("div", { class: "version-row" });
  const button = make("button", { class: "ghost compact", type: "button", onclick: () => promote(button, row, one) }, text("js.promote"));
  const figures = one.metrics && text("js.version_figures", { requests: number(one.metrics.requests), faults: percent(one.metrics.error_share) });
  const alike = typeof one.metrics?.agreement === "number" && text("js.version_alike", { share: percent(one.metrics.agreement) });
  row.append(
    make("div", {},
      make("h3", {}, one.version, state(one.state)),
      make("p", { class: "soft small" }, [one.bundle.slice(0, 16), one.installed && text("js.installed_on", { when: moment(one.installed) }), figures, alike].filter(Boolean).join(" · ")),
      one.why && make("p", { class: "problem small" }, one.why)),
    make("div", { class: "buttons" },
      typeof one.share === "number" && one.share > 0 && make("strong", { title: text("js.share") }, percent(one.share, 0)),
      may("admin") && one.state !== "loading" && (one.state !== "serving" || one.share < 1) && button));
  return row;
}

function product(one) {
  const card = make("section", { class: "card flush", "aria-label": one.product });
  const back = make("button", { class: "ghost compact", type: "button", onclick: async () => {
    if (await confirm(text("js.roll_back_title", { product: one.product }), make("p", { class: "soft" }, text("js.roll_back_about")), text("js.roll_back"))) await change(back, card, "/site/rollback", { product: one.product });
  } }, text("js.roll_back"));
  card.append(make("div", { class: "version-row" }, make("h2", {}, one.product), may("admin") && one.versions.some((other) => other.state === "kept" || other.state === "canary") && back), ...one.versions.map((other) => version(one, other)));
  return card;
}

/** A bundle in the folder incoming: it can be installed where it can be read, and is not there already. */
function waiting({ name, product, version, kept, problem: because }) {
  const row = make("div", { class: "version-row" });
  const button = make("button", { class: "compact", type: "button", onclick: async () => {
    if (await confirm(text("js.install_title", { name }), make("p", { class: "soft" }, text("js.install_about")), text("js.install"))) await change(button, row, "/site/install", { name });
  } }, text("js.install"));
  row.append(make("div", {},
    make("h3", {}, name, because ? make("span", { class: "pill bad" }, text("js.unreadable")) : kept && make("span", { class: "pill" }, text("js.installed"))),
    version && make("p", { class: "soft small" }, `${product} ${version}`),
    because && make("p", { class: "problem small" }, because)));
  if (may("admin") && !kept && !because) row.append(button);
  return row;
}

/** Draw what there is, and again as long as a version comes to life. */
async function refresh() {
  if (!has("/site/versions")) {
    place.replaceChildren(empty(text("js.not_managed"), text("js.not_managed_about")));
    return;
  }
  try {
    const [{ products }, { bundles }] = await Promise.all([ask("/site/versions"), ask("/site/incoming")]);
    place.replaceChildren(...products.map(product));
    incoming.hidden = false;
    document.getElementById("incoming-list").replaceChildren(bundles.length ? make("div", { class: "card flush" }, bundles.map(waiting)) : empty(text("js.no_incoming"), text("js.no_incoming_about")));
    if (products.some((one) => one.versions.some((version) => version.state === "loading"))) setTimeout(look, AGAIN);
  } catch (error) {
    place.replaceChildren(problem(error));
  }
}

/** Not while somebody has a button of the page in hand, or is being asked. */
function look() {
  if (document.querySelector("main button:focus, dialog")) setTimeout(look, AGAIN);
  else refresh();
}
await refresh();
