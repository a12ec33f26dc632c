// Home: since when, and the last minutes as charts.
import { ago, ask, make, milliseconds, number, percent, text } from "./desk.js";
import { draw } from "./chart.js";

const EVERY_MS = 5000, MINUTES = 10;

for (const time of document.querySelectorAll("[data-since]")) {
  const begun = Number(time.dataset.since);
  const when = new Date(begun * 1000);
  time.dateTime = when.toISOString();
  time.textContent = `${when.toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" })} (${ago(Math.max(0, Date.now() / 1000 - begun))})`;
}

/** From when the server began, and at least the last two minutes. */
function since(found) {
  const first = Math.min(Math.max(0, found.at.findIndex((at) => at + found.step > found.since)), Math.max(0, found.at.length - 24));
  return Object.fromEntries(Object.entries(found).map(([name, one]) => [name, Array.isArray(one) ? one.slice(first) : one]));
}

const last = (values) => values.findLast((value) => value !== null && value !== undefined);
const sum = (values) => values.reduce((total, value) => total + value, 0);

function charts(found) {
  const seconds = found.step, latest = found.requests.at(-1) ?? 0;
  const failed = sum(found.errors) * seconds, refused = sum(found.refused) * seconds;
  const none = found.total === 0;
  return {
    requests: { now: [number(latest, 1), text("unit.a_second")], series: [{ values: found.requests, kind: "", fill: true, name: text("js.requests") }], show: (value) => number(value, 1), none },
    latency: { now: none ? ["–"] : [milliseconds(last(found.p50_ms)), text("js.median")], series: [{ values: found.p50_ms, kind: "", name: text("js.median") }, { values: found.p95_ms, kind: "second", name: text("js.p95") }], show: milliseconds, none },
    errors: { now: [number(failed), none ? "" : percent(failed / found.total, 2)], series: [{ values: found.errors, kind: "bad", fill: true, name: text("js.failed") }, { values: found.refused, kind: "dash", name: text("js.refused") }], show: (value) => number(value, 1), none, more: refused ? text("js.refused_n", { n: number(refused) }) : "" },
    queue: { now: [number(found.queue.at(-1) ?? 0), text("js.longest", { n: number(Math.max(0, ...found.queue)) })], series: [{ values: found.queue, kind: "", fill: true, name: text("js.waiting") }], show: (value) => number(value, 1), none },
  };
}

function show(found) {
  for (const [name, chart] of Object.entries(charts(found))) {
    const card = document.querySelector(`[data-chart="${name}"]`);
    card.querySelector(".now").replaceChildren(chart.now[0], chart.now[1] ? make("small", {}, ` ${chart.now[1]}`) : "");
    const plot = card.querySelector(".plot");
    if (chart.none) {
      plot.classList.remove("loading");
      plot.replaceChildren(make("p", { class: "none" }, text("js.no_requests")));
    } else draw(plot, found.at, chart.series, chart);
    card.querySelector(".legend")?.remove();
    if (chart.series.length > 1 && !chart.none) card.append(make("div", { class: "legend", "aria-hidden": "true" }, chart.series.map((one) => make("span", { class: one.kind }, make("i"), one.name))));
  }
}

const live = document.getElementById("live");
async function refresh() {
  try {
    show(since(await ask(`/site/figures?minutes=${MINUTES}`)));
    live.classList.remove("stale");
  } catch (error) {
    live.classList.add("stale");
    for (const plot of document.querySelectorAll(".plot.loading")) {
      plot.classList.remove("loading");
      plot.replaceChildren(make("p", { class: "none" }, error.message));
    }
  }
}
if (live) {
  await refresh();
  setInterval(() => { if (!document.hidden && !live.querySelector(".tip:not([hidden])")) refresh(); }, EVERY_MS);
}
