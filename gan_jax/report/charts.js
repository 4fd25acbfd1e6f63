"use strict";
// Draws panels of curves as SVG. The format of a panel is described in panels.py.

const COLOURS = 8;
const DASHES = ["", "7 4", "2 4"];
const HEIGHT = 190, TOP = 8, BOTTOM = 24, RIGHT = 10;

// An element: make("p", { class: "soft" }, "text", child). Texts stay texts.
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "circle", "g", "rect"].includes(tag);
  const node = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== undefined && value !== "") node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function shownNumber(value) {
  if (value === null || value === undefined) return "not finite";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(3).replace(/\.?0+e/, "e").replace("e+", "e");
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return String(+value.toPrecision(size >= 1 ? 5 : 4));
}

function shownStep(step) {
  return step.toLocaleString("en", { maximumFractionDigits: 2 });
}

function shortStep(step) {
  if (Math.abs(step) >= 1e6) return +(step / 1e6).toPrecision(4) + "M";
  return Math.abs(step) >= 1e4 ? +(step / 1e3).toPrecision(4) + "k" : String(+step.toPrecision(6));
}

// Round numbers from low to high, about `count` of them.
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = size * [1, 2, 5, 10].find((factor) => raw <= factor * size * 1.0001);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-6); i * step <= high + 1e-6 * step; i++)
    found.push(+(i * step).toPrecision(12));
  return found;
}

// Powers of ten, with their multiples where there are few.
function logTicks(low, high) {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  const factors = last - first <= 2 ? [1, 2, 5] : [1];
  const every = Math.ceil((last - first) / 6);
  const found = [];
  for (let power = first; power <= last; power++)
    if ((power - first) % every === 0)
      for (const factor of factors) found.push(+(factor * 10 ** power).toPrecision(6));
  return found.filter((value) => value >= low && value <= high);
}

function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(share * (sorted.length - 1))))];
}

// The index of the number that is nearest to x among sorted numbers.
function nearest(numbers, x) {
  let low = 0, high = numbers.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (numbers[middle] <= x) low = middle;
    else high = middle;
  }
  return Math.abs(numbers[high] - x) < Math.abs(numbers[low] - x) ? high : low;
}

class Chart {
  // range: [first, last] step of every panel; hidden: the names of lines that are not drawn
  constructor(panel, range, hidden, withLegend) {
    Object.assign(this, { panel, range, hidden, log: panel.log, step: null });
    const title = make("b", { title: panel.key }, panel.title);
    const values = panel.lines.flatMap((line) => line.strong.y);
    this.button = make("button", { type: "button", class: "log" }, "log");
    this.button.title = "logarithmic scale";
    this.button.setAttribute("aria-label", "logarithmic scale of " + panel.title);
    this.button.disabled = !values.some((value) => value > 0);
    this.button.addEventListener("click", () => { this.log = !this.log; this.redraw(); });
    this.plot = make("div", { class: "plot", tabindex: 0, role: "group" });
    this.plot.setAttribute("aria-label", panel.title + "; arrow keys read its values");
    this.tip = make("div", { class: "tip", role: "status", hidden: "hidden" });
    this.node = make("figure", { class: "chart" },
      make("figcaption", {}, title, make("span", { class: "soft" }, this.note()), this.button),
      this.plot);
    if (withLegend && panel.lines.length > 1) this.node.append(this.legend());
    this.listen();
  }

  note() {
    const missing = this.panel.lines.reduce((sum, line) => sum + line.missing, 0);
    const notes = [this.panel.note];
    const star = this.panel.lines.length === 1 && this.panel.lines[0].star;
    if (star) notes.push(`best ${shownNumber(star[1])} at step ${shownStep(star[0])}`);
    if (missing) notes.push(`${missing} value${missing > 1 ? "s" : ""} not finite`);
    return notes.filter(Boolean).join("; ");
  }

  legend() {
    const list = make("div", { class: "legend" });
    for (const line of this.panel.lines) {
      const button = make("button", { type: "button", title: line.key, "aria-pressed": "true" },
        make("span", { class: swatchClass(line) }), line.name);
      button.addEventListener("click", () => {
        const off = this.hidden.delete(line.name) ? false : this.hidden.add(line.name) && true;
        button.setAttribute("aria-pressed", String(!off));
        this.redraw();
      });
      list.append(button);
    }
    return list;
  }

  get lines() {
    return this.panel.lines.filter((line) => !this.hidden.has(line.name));
  }

  // The range of the y axis; a few outliers of a faint line must not flatten everything else.
  domain() {
    const positive = (value) => value !== null && (!this.log || value > 0);
    const found = [];
    for (const line of this.lines) {
      found.push(...line.strong.y.filter(positive));
      for (const faint of line.faint) {
        const sorted = faint.y.filter(positive).sort((a, b) => a - b);
        if (sorted.length) found.push(quantile(sorted, 0.01), quantile(sorted, 0.99));
      }
    }
    if (!found.length) return this.log ? [1, 10] : [0, 1];
    let low = found.reduce((a, b) => Math.min(a, b)), high = found.reduce((a, b) => Math.max(a, b));
    if (this.log) return low === high ? [low / 2, high * 2] : [low / 1.15, high * 1.15];
    const room = 0.06 * (high - low) || 0.1 * Math.abs(high) || 0.1;
    return [low - room, high + room];
  }

  redraw() {
    const width = this.plot.clientWidth;
    if (!width) return;
    const [low, high] = this.domain();
    const marks = this.log ? logTicks(low, high) : ticks(low, high, 4);
    const labels = marks.map(shownNumber);
    this.left = 14 + 6.6 * Math.max(...labels.map((text) => text.length), 2);
    const scale = this.log ? Math.log10 : (value) => value;
    const inner = width - this.left - RIGHT, tall = HEIGHT - TOP - BOTTOM;
    const [first, last] = this.range;
    this.x = (step) => this.left + (inner * (step - first)) / (last - first || 1);
    this.stepAt = (x) => first + ((x - this.left) * (last - first || 1)) / inner;
    const span = scale(high) - scale(low);
    this.y = (value) => TOP + tall * (1 - (scale(value) - scale(low)) / span);
    const svg = make("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" });
    marks.forEach((value, i) => svg.append(
      make("line", { class: "grid", x1: this.left, x2: width - RIGHT, y1: this.y(value), y2: this.y(value) }),
      make("text", { class: "mark", x: this.left - 6, y: this.y(value) + 4, "text-anchor": "end" }, labels[i])));
    for (const step of ticks(first, last, Math.max(2, Math.min(6, inner / 75))))
      svg.append(make("text", { class: "mark", x: this.x(step), y: HEIGHT - 6, "text-anchor": "middle" }, shortStep(step)));
    this.area = make("svg", { x: this.left - 5, y: TOP - 4, width: inner + 10, height: tall + 8,
      viewBox: `${this.left - 5} ${TOP - 4} ${inner + 10} ${tall + 8}` });
    for (const line of this.lines) for (const faint of line.faint) this.draw(line, faint, "faint");
    for (const line of this.lines) this.draw(line, line.strong, "strong");
    for (const line of this.lines) if (line.star) this.star(line);
    this.cross = make("g");
    svg.append(this.area, this.cross);
    this.plot.replaceChildren(svg, this.tip);
    this.button.setAttribute("aria-pressed", String(this.log));
    if (this.step !== null) this.point(this.step);
  }

  visible(value) {
    return value !== null && (!this.log || value > 0);
  }

  draw(line, points, style) {
    let path = "", pen = false;
    const dots = style === "strong" && (points.x.length <= 40 || (line.kind === "eval" && points.x.length <= 80));
    points.x.forEach((step, i) => {
      const value = points.y[i];
      if (!this.visible(value)) { pen = false; return; }
      const place = `${this.x(step).toFixed(1)} ${this.y(value).toFixed(1)}`;
      const alone = !pen && !this.visible(points.y[i + 1] ?? null);
      path += (pen ? "L" : "M") + place;
      pen = true;
      if (dots || (alone && style === "strong"))
        this.area.append(make("circle", { class: colourClass(line), cx: this.x(step), cy: this.y(value), r: 2.4 }));
    });
    const dash = DASHES[Math.min(Math.floor(line.colour / COLOURS), DASHES.length - 1)];
    this.area.append(make("path", { class: `${style} ${colourClass(line)}`, d: path, "stroke-dasharray": dash }));
  }

  star(line) {
    const [step, value] = line.star;
    if (!this.visible(value)) return;
    let path = "";
    for (let i = 0; i < 10; i++) {
      const radius = i % 2 ? 3.8 : 9, angle = (Math.PI * i) / 5 - Math.PI / 2;
      path += `${i ? "L" : "M"}${this.x(step) + radius * Math.cos(angle)} ${this.y(value) + radius * Math.sin(angle)}`;
    }
    const text = `best: ${shownNumber(value)} at step ${shownStep(step)}`;
    const star = make("path", { class: "star " + colourClass(line), d: path + "Z" });
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = text;
    star.append(title);
    this.area.append(star);
  }

  // Shows the values at the point that is nearest to a step; null hides them.
  point(step) {
    this.cross.replaceChildren();
    const lines = this.lines.filter((line) => line.strong.x.length);
    if (step === null || !lines.length) {
      this.step = null;
      this.tip.hidden = true;
      return;
    }
    const found = lines.map((line) => {
      const i = nearest(line.strong.x, step);
      return { line, at: line.strong.x[i], value: line.strong.y[i] };
    });
    const at = found.reduce((best, one) => Math.abs(one.at - step) < Math.abs(best - step) ? one.at : best, found[0].at);
    this.step = at;
    const x = this.x(at);
    this.cross.append(make("line", { class: "cross", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }));
    const rows = found.map(({ line, at: own, value }) => {
      if (this.visible(value))
        this.cross.append(make("circle", { class: "ring " + colourClass(line), cx: this.x(own), cy: this.y(value), r: 4 }));
      const name = lines.length > 1 ? line.name + (own === at ? "" : ` (step ${shownStep(own)})`) : "";
      return make("div", {}, make("span", { class: swatchClass(line) }), name ? name + " " : "", make("b", {}, shownNumber(value)));
    });
    const best = lines.find((line) => line.star && line.star[0] === at);
    const averaged = Math.max(...lines.map((line) => line.averaged));
    const notes = [`step ${shownStep(at)}`, best && "the best", averaged > 1 && `means of ${averaged} rows`];
    this.tip.replaceChildren(make("div", { class: "soft" }, notes.filter(Boolean).join(", ")), ...rows.slice(0, 12));
    if (rows.length > 12) this.tip.append(make("div", { class: "soft" }, `and ${rows.length - 12} more`));
    this.tip.hidden = false;
    const width = this.plot.clientWidth, own = this.tip.offsetWidth;
    const side = x + 12 + own <= width ? x + 12 : x - 12 - own;
    this.tip.style.left = Math.max(0, Math.min(side, width - own)) + "px";
    this.tip.style.top = TOP + "px";
  }

  // Every step at which a visible line has a point.
  steps() {
    return [...new Set(this.lines.flatMap((line) => line.strong.x))].sort((a, b) => a - b);
  }

  listen() {
    const follow = (event) => this.point(this.stepAt(event.clientX - this.plot.getBoundingClientRect().left));
    this.plot.addEventListener("pointermove", follow);
    this.plot.addEventListener("pointerdown", follow);
    this.plot.addEventListener("pointerleave", (event) => {
      // who reads by keys keeps the values when the page moves under the mouse
      if (event.pointerType === "mouse" && !this.plot.matches(":focus-visible")) this.point(null);
    });
    this.plot.addEventListener("blur", () => this.point(null));
    this.plot.addEventListener("keydown", (event) => {
      const steps = this.steps();
      if (!steps.length) return;
      const now = this.step === null ? steps.length : nearest(steps, this.step);
      const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: steps.length - 1 }[event.key];
      if (event.key === "Escape") this.point(null);
      if (to === undefined) return;
      event.preventDefault();
      this.point(steps[Math.max(0, Math.min(to, steps.length - 1))]);
    });
    new ResizeObserver(() => this.redraw()).observe(this.plot);
  }
}

function colourClass(line) {
  return "c" + (line.colour % COLOURS);
}

function swatchClass(line) {
  return `swatch ${colourClass(line)}${line.colour >= COLOURS ? " dashed" : ""}`;
}
