// Lines over time as SVG: one or two series, a scale that fits, and what a point says under the pointer or the arrows.
import { make, text } from "./desk.js";

const WIDTH = 480, HEIGHT = 150, LEFT = 38, TOP = 10, BOTTOM = 20;

/** The least of 1, 2, 5, 10, … that is no less. */
function rounded(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value * 0.999);
}

/** Draw into `plot`. `series`: [{values, kind, name}], values may be null; `show` makes words of a value. */
export function draw(plot, at, series, { show, least = 0 }) {
  const most = rounded(Math.max(least, ...series.flatMap((one) => one.values.map((value) => value ?? 0))));
  const x = (place) => LEFT + ((WIDTH - LEFT - 4) * place) / Math.max(at.length - 1, 1);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
  const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const part of [0, 0.5, 1]) svg.append(make("line", { class: "grid", x1: LEFT, x2: WIDTH - 4, y1: y(most * part), y2: y(most * part), "vector-effect": "non-scaling-stroke" }));
  for (const one of series) {
    for (const run of runs(one.values)) {
      const points = run.map((place) => `${x(place).toFixed(1)} ${y(one.values[place]).toFixed(1)}`);
      if (one.fill) svg.append(make("path", { class: `fill ${one.kind}`, d: `M${x(run[0]).toFixed(1)} ${y(0)}L${points.join("L")}L${x(run.at(-1)).toFixed(1)} ${y(0)}Z` }));
      svg.append(make("path", { class: `line ${one.kind}`, d: `M${points.join("L")}${run.length === 1 ? "h0.1" : ""}`, "vector-effect": "non-scaling-stroke" }));
    }
  }
  const labels = [0, 0.5, 1].map((part) => make("span", { class: `tick at-${part * 100}` }, show(most * part)));
  const minutes = Math.round((at.at(-1) - at[0]) / 60);
  const ends = make("span", { class: "span-ends" }, make("span", {}, text("js.minutes_ago", { n: minutes })), make("span", {}, text("js.now")));
  plot.classList.remove("loading");
  plot.replaceChildren(svg, ...labels, ends);
  pointing(plot, svg, at, series, show, x);
}

/** Stretches of places that have a value. */
function runs(values) {
  const found = [];
  values.forEach((value, place) => {
    if (value === null) return;
    if (place && values[place - 1] !== null && found.length) found.at(-1).push(place);
    else found.push([place]);
  });
  return found;
}

function pointing(plot, svg, at, series, show, x) {
  const cross = make("line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM, "vector-effect": "non-scaling-stroke" });
  const tip = make("div", { class: "tip", hidden: true });
  plot.append(tip);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const inside = ((event.clientX - box.left) / box.width) * WIDTH - LEFT;
    const place = Math.min(at.length - 1, Math.max(0, Math.round((inside / (WIDTH - LEFT - 4)) * (at.length - 1))));
    cross.setAttribute("x1", x(place));
    cross.setAttribute("x2", x(place));
    svg.append(cross);
    const when = new Date(at[place] * 1000).toLocaleTimeString(document.documentElement.lang);
    tip.replaceChildren(when, ...series.map((one) => make("div", {}, `${one.name} ${one.values[place] === null ? "–" : show(one.values[place])}`)));
    tip.hidden = false;
    tip.style.left = `${Math.min(86, Math.max(14, (100 * x(place)) / WIDTH))}%`;
  });
  svg.addEventListener("pointerleave", () => { cross.remove(); tip.hidden = true; });
}
