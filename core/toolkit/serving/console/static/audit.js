// Audit: the signed trail, newest first, and whether its chain holds.
import { ask, busy, empty, has, icon, make, moment, problem, text } from "./desk.js";

const place = document.getElementById("entries"), chain = document.getElementById("chain");
const PAGE = 50;

function say(holds, why = "") {
  chain.hidden = false;
  chain.className = `note ${holds ? "good" : "bad"}`;
  chain.replaceChildren(icon(holds ? "check" : "warning"), make("span", {}, holds ? text("js.chain_holds") : text("js.chain_broken"), why && make("small", {}, why)));
}

function entry(one) {
  const details = Object.entries(one.details ?? {}).filter(([, value]) => value !== "" && value !== null);
  return make("div", { class: "entry", role: "listitem" },
    make("span", { class: "soft" }, `#${one.sequence}`),
    make("time", { class: "soft", datetime: one.time }, moment(one.time)),
    make("div", {}, make("strong", {}, one.event), (one.key || one.who) && make("span", { class: "soft" }, ` ${one.key ?? one.who}`),
      details.length > 0 && make("dl", {}, details.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value)))))));
}

async function open() {
  if (!has("/site/audit")) {
    place.replaceChildren(empty(text("js.audit_off"), text("js.audit_off_about")));
    return;
  }
  try {
    const entries = [];
    let next = 0;
    do {
      const found = await ask(`/site/audit?after=${next}&limit=500`);
      entries.push(...found.entries);
      next = found.entries.length && found.next !== null && found.next !== undefined && found.next !== next ? found.next : null;
      if (found.verified === false) say(false, found.why);
    } while (next !== null && entries.length < 20000);
    if (chain.hidden) say(true);
    entries.reverse();
    show(entries, PAGE);
  } catch (error) {
    if (error.code === "integrity") say(false, error.message);
    place.replaceChildren(problem(error));
  }
}

function show(entries, many) {
  const list = make("div", { class: "card flush", role: "list" }, entries.slice(0, many).map(entry));
  const more = make("button", { class: "ghost", type: "button", onclick: () => busy(more, async () => show(entries, many + PAGE)) }, text("js.earlier"));
  place.replaceChildren(entries.length ? list : empty(text("js.no_entries")), ...(entries.length > many ? [make("div", { class: "buttons" }, more)] : []));
}
await open();
