// The page itself: pictures over time, the places of the curves, and small conveniences.

const byId = (name) => document.getElementById(name);
const read = (name) => JSON.parse(byId(name)?.textContent ?? "null");

function showCurves() {
  const place = byId("charts"), sections = read("curves-data");
  if (!place || !sections) return;
  const runs = read("runs-data");
  const steps = sections.flatMap((s) => s.panels.flatMap((p) => p.lines.flatMap((l) =>
    [l.strong, ...l.faint].flatMap(({ x }) => x.length ? [x[0], x[x.length - 1]] : []))));
  const first = Math.min(...steps), last = Math.max(...steps);
  const range = [first < 0.2 * last ? 0 : first, last > first ? last : first + 1];
  const shared = new Set(), charts = [];
  for (const section of sections) {
    const panels = make("div", { class: "panels" });
    for (const panel of section.panels) {
      const chart = new Chart(panel, range, runs ? shared : new Set(), !runs);
      charts.push(chart);
      panels.append(chart.node);
    }
    place.append(make("h3", {}, section.title), panels);
  }
  if (runs) place.before(runLegend(runs, shared, charts));
  charts.forEach((chart) => chart.redraw());
}

function runLegend(runs, hidden, charts) {
  const list = make("div", { class: "legend all" });
  runs.forEach((name, colour) => {
    const button = make("button", { type: "button", "aria-pressed": "true" },
      make("span", { class: swatchClass({ colour }) }), name);
    button.addEventListener("click", () => {
      if (!hidden.delete(name)) hidden.add(name);
      button.setAttribute("aria-pressed", String(!hidden.has(name)));
      charts.forEach((chart) => chart.redraw());
    });
    list.append(button);
  });
  return list;
}

function showFrames() {
  const data = read("frames-data"), slider = byId("slider"), play = byId("play");
  if (!data || !slider) return;
  const figures = data.films.map((frames, i) => {
    const node = document.querySelector(`[data-film="${i}"]`), image = node.querySelector("img");
    frames[frames.length - 1][1] = image.src;
    return { frames, image, label: node.querySelector("figcaption .soft") };
  });
  function show(at) {
    const step = data.steps[at];
    byId("step").textContent = "step " + shownStep(step);
    slider.setAttribute("aria-valuetext", "step " + shownStep(step));
    for (const { frames, image, label } of figures) {
      const frame = frames.findLast(([own]) => own <= step) ?? frames[0];
      if (image.src !== frame[1]) image.src = frame[1];
      label.textContent = "step " + shownStep(frame[0]);
    }
  }
  let timer = null;
  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }
  slider.addEventListener("input", () => { stop(); show(+slider.value); });
  play.addEventListener("click", () => {
    if (timer) return stop();
    const last = data.steps.length - 1, calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (+slider.value === last) { slider.value = 0; show(0); }
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
    timer = setInterval(() => {
      slider.value = +slider.value + 1;
      show(+slider.value);
      if (+slider.value === last) stop();
    }, calm ? 1500 : 350);
  });
}

// Buttons that show and hide the pictures of a section.
function showChoices() {
  for (const place of document.querySelectorAll("[data-choose]")) {
    const figures = [...place.querySelectorAll("figure")];
    if (figures.length < 2) continue;
    const bar = make("div", { class: "choose", role: "group", "aria-label": "pictures shown" },
      make("span", { class: "soft" }, "Show"));
    for (const figure of figures) {
      const button = make("button", { type: "button", "aria-pressed": "true" }, figure.querySelector("b").textContent);
      button.addEventListener("click", () => {
        figure.hidden = !figure.hidden;
        button.setAttribute("aria-pressed", String(!figure.hidden));
      });
      bar.append(button);
    }
    place.before(bar);
  }
}

function showLarge() {
  const large = make("img"), close = make("button", { type: "button", class: "close" }, "Close");
  const dialog = make("dialog", { "aria-label": "picture in full size" }, large, close);
  dialog.addEventListener("click", () => dialog.close());
  document.body.append(dialog);
  for (const button of document.querySelectorAll(".enlarge"))
    button.addEventListener("click", () => {
      const image = button.querySelector("img");
      large.src = image.src;
      large.alt = image.alt;
      dialog.showModal();
    });
}

function showCopy() {
  for (const button of document.querySelectorAll(".copy")) {
    const code = button.parentNode.querySelector("code");
    button.hidden = false;
    button.addEventListener("click", async () => {
      getSelection().selectAllChildren(code);
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
}

function showTimes() {
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const node of document.querySelectorAll("time")) {
    const time = new Date(node.dateTime);
    if (isNaN(time)) continue;
    const seconds = (time - Date.now()) / 1000;
    const [unit, size] = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]]
      .find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
    node.title = node.textContent;
    node.textContent = time.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" })
      + `, ${words.format(Math.round(seconds / size), unit)}`;
  }
}

showChoices();
showFrames();
showCurves();
showLarge();
showCopy();
showTimes();
