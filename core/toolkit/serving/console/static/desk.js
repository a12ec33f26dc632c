// What every page and panel works with: asking this server, making elements, saying things in the person's language.
// Text from a server becomes text nodes only, never markup; the policy of the page would refuse it too.

const body = document.body;
export const language = document.documentElement.lang;
export const role = body.dataset.role;
const routes = new Set(body.dataset.routes.split(" "));
const texts = JSON.parse(document.getElementById("texts").textContent);

/** The text of a key, with what stands in its braces. */
export function text(key, values = {}, from = texts) {
  return (from[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

export const says = (key) => key in texts;

/** What a server calls something, in the reader's language where that has a text for it. */
export const called = (kind, name) => (says(`js.${kind}_${name}`) ? text(`js.${kind}_${name}`) : name);

/** Whether this server has a route of its own by that path, such as /site/review. */
export const has = (path) => routes.has(path);

const RANKS = ["infer", "operate", "admin"];
export const may = (wanted) => RANKS.indexOf(role) >= RANKS.indexOf(wanted);

/** An element. Attributes named on… are listeners; children that are null or false are left out. */
export function make(tag, attributes = {}, ...children) {
  const namespace = ["svg", "path", "line", "circle", "rect", "g"].includes(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const element = document.createElementNS(namespace, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** A refusal of the server: its code and status, a sentence in the person's language, and in `detail` what the server said. */
export class Refusal extends Error {
  constructor(status, { code, message = "", hint = "" }) {
    super(text(says(`error.${code}`) ? `error.${code}` : "error.other"));
    this.status = status;
    this.code = code;
    this.detail = [message, hint].map(sentence).filter(Boolean).join(" ");
  }
}

const sentence = (said) => (said ? said.charAt(0).toUpperCase() + said.slice(1) + (/[.!?。]$/.test(said) ? "" : ".") : "");

/** Ask a route of this server. `json` is sent as the body; what comes back is parsed where it is JSON.
 *  Throws a Refusal where the server says no, or does not answer. */
export async function ask(path, { method = "GET", json, body: sent, headers = {}, signal, whole = false } = {}) {
  const options = { method, headers: { "X-CSRF-Token": body.dataset.csrf, Accept: "application/json", ...headers }, credentials: "same-origin", signal };
  if (json !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(json);
  } else if (sent !== undefined) options.body = sent;
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, { code: "unreachable", message: "" });
  }
  if (answer.status === 401) location.assign(`/console/sign-in?next=${encodeURIComponent(location.pathname)}`);
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    const error = typeof told.error === "object" ? told.error : { message: String(told.error ?? "") };
    throw new Refusal(answer.status, error);
  }
  if (whole) return answer;
  if (answer.status === 204) return null;
  return (answer.headers.get("content-type") ?? "").includes("json") ? answer.json() : answer.text();
}

/** Server-sent events of an answer, as they come: the data of each. */
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    kept += value;
    const parts = kept.split("\n\n");
    kept = parts.pop();
    for (const part of parts) {
      for (const line of part.split("\n")) if (line.startsWith("data: ")) yield line.slice(6);
    }
  }
}

/** Say something to those who do not see the page. */
export function announce(said) {
  document.getElementById("announcer").textContent = said;
}

/** A refusal as a piece of the page. */
export function problem(error) {
  if (!(error instanceof Refusal)) throw error;
  announce(error.message);
  return make("p", { class: "note bad", role: "alert" }, icon("warning"), make("span", {}, error.message, error.detail && make("small", {}, error.detail)));
}

/** What stands where there is nothing yet. */
export function empty(title, about, ...more) {
  return make("div", { class: "card empty" }, make("strong", {}, title), about && make("p", {}, about), ...more);
}

/** Run what a button asks for, once at a time. */
export async function busy(button, work) {
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  try {
    return await work();
  } finally {
    button.disabled = false;
    button.removeAttribute("aria-busy");
  }
}

/** Ask a person first; resolves to whether they agree. `content` may hold fields, which the caller reads. */
export function confirm(title, content, action, { danger = false } = {}) {
  return new Promise((resolve) => {
    const id = `dialog-${Math.random().toString(36).slice(2)}`;
    const form = make("form", { method: "dialog" }, make("h2", { id }, title), content,
      make("div", { class: "buttons" }, make("button", { class: "ghost", value: "", formnovalidate: true }, text("js.cancel")), make("button", { class: danger ? "danger" : "", value: "yes" }, action)));
    const dialog = make("dialog", { "aria-labelledby": id, onclose: () => { resolve(dialog.returnValue === "yes"); dialog.remove(); } }, form);
    document.body.append(dialog);
    dialog.showModal();
  });
}

const PATHS = {
  warning: "M10 3.5 2.8 16h14.4zM10 8.5v3.5M10 14v.1", check: "m4 10.5 4 4 8-9", cross: "M5 5l10 10M15 5 5 15",
  up: "M10 16V4.5M5 9l5-5 5 5", copy: "M7.5 7.5h8v9h-8zM5 12.5V4h7.5", picture: "M3 4h14v12H3zM3.5 14.5l4-3.5 2.5 2 3-3 3.5 3.5",
};
export const icon = (name) => make("svg", { class: "icon", viewBox: "0 0 20 20", fill: "none", stroke: "currentColor", "stroke-width": 1.6, "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true" }, make("path", { d: PATHS[name] }));

export const number = (value, digits = 0) => new Intl.NumberFormat(language, { maximumFractionDigits: digits, minimumFractionDigits: 0 }).format(value);
export const percent = (share, digits = 1) => new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: digits, minimumFractionDigits: digits }).format(share);
export const milliseconds = (value) => (value >= 999.5 ? `${number(value / 1000, 2)} s` : `${number(value, value < 10 ? 2 : value < 100 ? 1 : 0)} ms`);
export const moment = (when) => new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(new Date(when));

/** "3 hours ago". */
export function ago(seconds) {
  const units = [["day", 86400], ["hour", 3600], ["minute", 60]];
  const [unit, size] = units.find(([, length]) => seconds >= length) ?? ["second", 1];
  return new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(-Math.floor(seconds / size), unit);
}
