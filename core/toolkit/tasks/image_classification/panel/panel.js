// Pictures in, verdicts out: dropped, pasted or chosen; the heat map laid on where the model gives one.
const ABREAST = 3, MOST_BARS = 8, FULL = 2, SIDE = 512, AT_FIRST = 60;

export default function open(panel, desk) {
  const { make, text } = desk;
  const zone = panel.querySelector("#drop"), input = panel.querySelector("#pictures");
  const results = panel.querySelector("#results"), head = panel.querySelector("#results-head"), tally = panel.querySelector("#tally");
  const classes = [...panel.querySelectorAll(".tag")].map((tag) => tag.textContent);
  const nothing = results.firstElementChild;
  let judged = 0, passed = 0, graded = 0, working = 0;
  const waiting = [];

  function take(files) {
    for (const file of files) {
      const card = make("article", { class: "card verdict appear", "aria-busy": "true" });
      const picture = preview(file);
      card.append(picture, make("div", { class: "body" }, make("p", { class: "file" }, file.name), make("p", { class: "soft" }, text("waiting"))));
      nothing.remove();
      results.prepend(card);
      head.hidden = false;
      waiting.push([file, card, picture]);
    }
    advance();
  }

  function preview(file) {
    const url = URL.createObjectURL(file);
    const view = make("div", { class: "view" });
    view.append(make("img", { src: url, alt: file.name, onload: () => URL.revokeObjectURL(url), onerror: () => { URL.revokeObjectURL(url); view.replaceChildren(text("unseen")); } }));
    return view;
  }

  function advance() {
    while (working < ABREAST && waiting.length) {
      working += 1;
      judge(...waiting.shift()).finally(() => { working -= 1; advance(); });
    }
  }

  async function judge(file, card, picture) {
    try {
      const answer = await desk.ask("/v1/inspect", { method: "POST", body: file, headers: { "Content-Type": file.type.startsWith("image/") ? file.type : "application/octet-stream" } });
      card.replaceChildren(picture, body(file, answer, picture));
      judged += 1;
      if (answer.pass !== null) graded += 1;
      passed += answer.pass === true;
      tally.textContent = graded ? text("of_judged", { passed, n: judged }) : "";
      desk.announce(text("verdict", { name: file.name, verdict: said(answer) }));
    } catch (error) {
      card.replaceChildren(picture, make("div", { class: "body" }, make("p", { class: "file" }, file.name), desk.problem(error)));
    } finally {
      card.removeAttribute("aria-busy");
    }
  }

  const grade = (answer) => (answer.pass === null ? "" : text(answer.pass ? "pass" : "reject"));
  const said = (answer) => [answer.verdict, grade(answer)].filter(Boolean).join(" · ");

  function body(file, answer, picture) {
    const odds = Object.entries(answer.probabilities ?? {}).sort((one, other) => other[1] - one[1]).slice(0, MOST_BARS);
    return make("div", { class: "body" },
      make("header", {}, make("h3", {}, answer.verdict), answer.pass !== null && make("span", { class: `pill ${answer.pass ? "good" : "bad"}` }, grade(answer))),
      odds.length > 0 && make("ul", { class: "odds", "aria-label": text("probability") }, odds.map(([name, share], place) => make("li", { class: place ? "" : "first" }, make("span", {}, name), make("progress", { max: 1, value: share, "aria-label": name }), make("span", { class: "share" }, desk.percent(share))))),
      answer.map && heat(answer, picture),
      make("div", { class: "foot" }, make("span", { class: "file" }, [file.name, text("took", { ms: desk.milliseconds(answer.latency_ms) })].join(" · ")), desk.judgement(answer.request_id, classes)));
  }

  /** The map over the picture, as the report paints it: yellow from half the limit on, red above it. */
  function heat(answer, picture) {
    const canvas = make("canvas", { "aria-hidden": "true" });
    canvas.style.opacity = AT_FIRST / 100;
    const map = new Image();
    map.onload = () => {
      // Of the picture's own form, so that both are fitted into the same place, whatever form the map has.
      const { naturalWidth: wide, naturalHeight: high } = picture.querySelector("img") ?? map;
      const scale = SIDE / Math.max(wide, high), width = Math.max(1, Math.round(wide * scale)), height = Math.max(1, Math.round(high * scale));
      Object.assign(canvas, { width, height });
      const pen = canvas.getContext("2d");
      pen.drawImage(map, 0, 0, width, height);
      const pixels = pen.getImageData(0, 0, width, height);
      for (let at = 0; at < pixels.data.length; at += 4) {
        const strange = (pixels.data[at] / 255) * FULL;
        pixels.data[at] = 235;
        pixels.data[at + 1] = 200 * Math.min(1, Math.max(0, 2 - 2 * strange));
        pixels.data[at + 2] = 0;
        pixels.data[at + 3] = 255 * 0.75 * Math.min(1, Math.max(0, strange - 0.5));
      }
      pen.putImageData(pixels, 0, 0);
    };
    map.src = answer.map;
    picture.append(canvas);
    const id = `heat-${answer.request_id}`;
    const slider = make("input", { id, type: "range", min: 0, max: 100, value: AT_FIRST, title: text("heat_about"), oninput: () => { canvas.style.opacity = slider.value / 100; } });
    const places = answer.regions?.length ?? 0;
    return make("div", { class: "heat" }, make("label", { for: id }, text("heat")), slider, make("span", { class: "soft" }, [text("score", { score: desk.number(answer.score, 2) }), places ? text("regions", { n: places }) : ""].filter(Boolean).join(" · ")));
  }

  input.addEventListener("change", () => { take(input.files); input.value = ""; });
  for (const kind of ["dragenter", "dragover"]) panel.addEventListener(kind, (event) => { event.preventDefault(); zone.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) panel.addEventListener(kind, () => zone.classList.remove("over"));
  panel.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files); });
  document.addEventListener("paste", (event) => take(event.clipboardData.files));
  panel.querySelector("#clear").addEventListener("click", () => {
    judged = passed = graded = 0;
    waiting.length = 0;
    head.hidden = true;
    results.replaceChildren(nothing);
    input.focus();
  });
}
