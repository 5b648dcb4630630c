/* What a page does beside being read: tables sort, and the plot of candidates can be asked. Without this script all numbers are there too. */
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, facts = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), facts);
    element.append(...children);
    return element;
  };

  /* ---- tables: a click or Enter on a column's head sorts by it; what is missing stays last ---- */

  const MISSING = new Set(["", "-", "not estimable", "(simulated)"]);

  function key(cell, isText) {
    const text = cell.textContent.trim();
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    if (MISSING.has(text)) return null;
    if (isText) return text;
    const number = parseFloat(text.replace(/[~,]/g, ""));
    return Number.isNaN(number) ? text : number;
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }

  function sort(table, heads, column, descending) {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, value: key(row.cells[column], heads[column].classList.contains("text")) }));
    const there = rows.filter((r) => r.value !== null);
    there.sort((a, b) => (descending ? compare(b.value, a.value) : compare(a.value, b.value)));
    body.append(...[...there, ...rows.filter((r) => r.value === null)].map((r) => r.row));
    heads.forEach((head, i) => {
      if (i === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }

  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    if (table.tBodies[0].rows.length < 2) return;
    table.classList.add("sortable");
    heads.forEach((head, i) => {
      const button = make("button", { type: "button" }, ...head.childNodes);
      button.addEventListener("click", () => sort(table, heads, i, head.getAttribute("aria-sort") === "ascending"));
      head.append(button);
    });
  }

  all("table").forEach(sortable);

  /* ---- the plot of candidates ---- */

  const holder = document.getElementById("choice-data");
  if (!holder || !window.vegaEmbed) return;
  const data = JSON.parse(holder.textContent);
  const [controls, live, status, table] = ["controls", "live", "status", "candidates"].map((id) => document.getElementById(id));
  const tip = make("div", { className: "tip", hidden: true });
  tip.setAttribute("role", "tooltip");
  const chosen = Object.fromEntries(data.facets.map((facet) => [facet, new Set()]));
  const costs = Object.keys(data.costs);
  const has = (cost) => (row) => row.quality !== null && row[cost] !== null;
  let cost = costs.find((name) => data.rows.some(has(name)));
  let turn = 0; // of drawing: an older one that ends later is dropped
  let width = 0;

  const [VALUE, LOW, HIGH, KIND] = [0, 1, 2, 3];

  /* As edgekit/candidate.py: at least as good, certainly not dearer, and certainly better in one of the two. */
  function dominates(a, b) {
    const [x, y] = [a[cost], b[cost]];
    return a.quality >= b.quality && x[HIGH] <= y[LOW] && (a.quality > b.quality || x[HIGH] < y[LOW]);
  }

  const left = () => data.rows.filter((row) => data.facets.every((facet) => !chosen[facet].size || chosen[facet].has(row[facet])));

  function logTicks(low, high) {
    const ticks = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const k of high / low < 400 ? [1, 2, 5] : [1]) ticks.push(Number(`${k}e${e}`));
    return ticks.filter((t) => low <= t && t <= high);
  }

  function axes(rows) {
    const low = Math.min(...rows.map((r) => (r[cost][LOW] > 0 ? r[cost][LOW] : r[cost][VALUE])));
    const high = Math.max(...rows.map((r) => r[cost][HIGH]));
    const title = data.costs[cost].axis;
    if (low <= 0 || high / low < data.logFrom)
      return [{ type: "linear", domain: [Math.min(0, 1.05 * low), 1.05 * high], nice: false }, { title, tickCount: 6 }];
    const domain = [low / 1.3, high * 1.3];
    return [{ type: "log", domain, nice: false }, { title: `${title} (logarithmic)`, values: logTicks(...domain), format: data.ticks }];
  }

  function specification(rows, front) {
    const spec = structuredClone(data.spec);
    const [scale, axis] = axes(rows);
    const quality = rows.map((r) => data.times * r.quality);
    const [worst, best] = [Math.min(...quality), Math.max(...quality)];
    const room = Math.max(data.margin * (best - worst), 0.01 * Math.abs(best)) || 1;
    for (const layer of spec.layer) {
      Object.assign(layer.encoding.x, { scale, axis });
      layer.encoding.y.scale = { domain: [worst - room, best + room], nice: false };
    }
    const stairs = rows.filter((r, i) => front.has(r.i) && !rows.slice(0, i).some((o) => front.has(o.i) && o.quality >= r.quality));
    const at = (r) => ({ i: r.i, x: r[cost][VALUE], y: data.times * r.quality });
    const line = [...stairs.map(at), { ...at(stairs[stairs.length - 1]), x: scale.domain[1] }];
    const bars = rows.filter((r) => r[cost][HIGH] > r[cost][LOW]).map((r) => ({
      x: Math.max(r[cost][LOW], scale.domain[0]), x2: r[cost][HIGH], y: data.times * r.quality, stroke: r.colour, opacity: front.has(r.i) ? data.bar : data.faint / 2,
    }));
    const points = rows.map((r) => {
      const mark = data.marks[r[cost][KIND]];
      const opacity = front.has(r.i) ? 1 : data.faint;
      return { ...at(r), shape: mark.shape, stroke: r.colour, fill: mark.full ? r.colour : data.card, opacity, said: r.tip.join("\n") };
    });
    const shown = width < 560 ? [] : labels(stairs, scale, worst - room, best + room);
    spec.datasets = { line, bars, points, rings: rows.filter((r) => r.doubtful).map(at), labels: shown };
    spec.description = `${data.costs[cost].axis} against quality, ${rows.length} candidates`;
    return Object.assign(spec, { width, height: width < 560 ? 340 : 440 });
  }

  /* Up and left of the front there is nothing, so that names fit there; one that would lie on another is left out. */
  function labels(stairs, scale, bottom, top) {
    const part = (x) => {
      const [low, high] = scale.type === "log" ? scale.domain.map(Math.log) : scale.domain;
      return ((scale.type === "log" ? Math.log(x) : x) - low) / (high - low);
    };
    const placed = [];
    for (const r of [...stairs].reverse()) {
      const [x, y, size] = [part(r[cost][VALUE]) * (width - 70), ((top - data.times * r.quality) / (top - bottom)) * 380, 6.1 * r.label.length + 12];
      if (x - size > 0 && !placed.some((p) => Math.abs(p.y - y) < 15 && p.x - p.size < x && x - size < p.x)) placed.push({ r, x, y, size });
    }
    return placed.map(({ r }) => ({ x: r[cost][VALUE], y: data.times * r.quality, label: r.label }));
  }

  async function draw() {
    const mine = ++turn;
    hide();
    const there = left();
    const rows = there.filter(has(cost)).sort((a, b) => a[cost][VALUE] - b[cost][VALUE]);
    const front = new Set(rows.filter((b) => !rows.some((a) => dominates(a, b))).map((r) => r.i));
    const word = data.costs[cost].word;
    const without = there.length - rows.length;
    status.textContent = `${rows.length} of ${data.rows.length} candidates drawn, ${front.size} on the front by ${word}`
      + (without ? `; ${without} without ${word} or score.` : ".");
    const ids = new Set(there.map((r) => r.i));
    all("tr[data-i]", table).forEach((row) => { row.hidden = !ids.has(Number(row.dataset.i)); });
    const inner = make("div");
    const canvas = make("div", { className: "drawing" }, inner);
    if (rows.length) {
      await window.vegaEmbed(inner, specification(rows, front), {
        mode: "vega-lite", ast: true, renderer: "svg", actions: false, defaultStyle: false, tooltip: false, hover: false,
      });
      if (mine !== turn) return;
    } else canvas.append(make("p", { className: "caption" }, "No candidate that is left has this cost: press a filter again to let it go."));
    live.replaceChildren(canvas, tip);
    reachable(canvas);
  }

  /* ---- each mark tells its row: under the pointer, and by Tab and the arrow keys ---- */

  function reachable(canvas) {
    const marks = all("path", canvas).filter((p) => p.__data__ && p.__data__.datum && p.__data__.datum.said !== undefined);
    marks.forEach((mark, n) => {
      mark.setAttribute("tabindex", n === 0 ? "0" : "-1");
      mark.setAttribute("role", "img");
      mark.setAttribute("aria-label", mark.__data__.datum.said);
      mark.dataset.i = mark.__data__.datum.i;
      mark.addEventListener("focus", () => show(mark, marks));
      mark.addEventListener("blur", hide);
    });
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -Infinity, End: Infinity };
    canvas.addEventListener("keydown", (event) => {
      const n = marks.indexOf(event.target);
      if (n < 0) return;
      if (event.key === "Enter") toRow(marks[n]);
      if (event.key === "Escape") hide();
      if (!(event.key in step)) return;
      event.preventDefault();
      marks[n].setAttribute("tabindex", "-1");
      const next = marks[Math.max(0, Math.min(marks.length - 1, n + step[event.key]))];
      next.setAttribute("tabindex", "0");
      next.focus();
    });
    canvas.addEventListener("pointermove", (event) => {
      const near = nearest(marks, event);
      if (near) show(near, marks);
      else hide();
    });
    canvas.addEventListener("pointerleave", hide);
    canvas.addEventListener("click", (event) => {
      const near = nearest(marks, event);
      if (near && near.classList.contains("hit")) toRow(near);
      else if (near) show(near, marks); // a finger asks first, and goes on by a second touch
    });
  }

  function nearest(marks, event) {
    let [found, least] = [null, 20];
    for (const mark of marks) {
      const box = mark.getBoundingClientRect();
      const far = Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
      if (far < least) [found, least] = [mark, far];
    }
    return found;
  }

  function show(mark, marks) {
    marks.forEach((m) => m.classList.toggle("hit", m === mark));
    const [name, ...lines] = data.rows[Number(mark.dataset.i)].tip;
    tip.replaceChildren(make("strong", {}, name), ...lines.map((line) => make("span", {}, line)));
    tip.hidden = false;
    const [frame, box] = [live.getBoundingClientRect(), mark.getBoundingClientRect()];
    const x = box.x + box.width / 2 - frame.x;
    const below = box.y - frame.y < tip.offsetHeight + 14;
    tip.style.left = `${Math.max(0, Math.min(frame.width - tip.offsetWidth, x - tip.offsetWidth / 2))}px`;
    tip.style.top = `${below ? box.bottom - frame.y + 10 : box.y - frame.y - tip.offsetHeight - 10}px`;
  }

  function hide() {
    tip.hidden = true;
    all("path.hit", live).forEach((mark) => mark.classList.remove("hit"));
  }

  function toRow(mark) {
    const row = table.querySelector(`tr[data-i="${Number(mark.dataset.i)}"]`);
    all("tr.hit", table).forEach((other) => other.classList.remove("hit"));
    row.classList.add("hit");
    row.scrollIntoView({ block: "center" });
    row.focus({ preventScroll: true });
  }

  /* ---- controls ---- */

  function group(title, ...children) {
    return make("fieldset", {}, make("legend", {}, title), ...children);
  }

  function costChoice(name) {
    const input = make("input", { type: "radio", name: "cost", value: name, checked: name === cost, disabled: !data.rows.some(has(name)) });
    input.addEventListener("change", () => { cost = name; draw(); });
    return make("label", {}, input, data.costs[name].word);
  }

  function filter(facet, value) {
    const button = make("button", { type: "button" }, value);
    if (facet === data.painted && Object.hasOwn(data.colours, value)) button.prepend(swatch(data.colours[value]));
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const on = !chosen[facet].has(value);
      if (on) chosen[facet].add(value);
      else chosen[facet].delete(value);
      button.setAttribute("aria-pressed", String(on));
      draw();
    });
    return button;
  }

  function swatch(colour) {
    const image = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    image.setAttribute("viewBox", "0 0 10 10");
    image.setAttribute("class", "drawing swatch");
    image.setAttribute("aria-hidden", "true");
    const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const [name, value] of Object.entries({ cx: 5, cy: 5, r: 4.5, fill: colour })) dot.setAttribute(name, value);
    image.append(dot);
    return image;
  }

  controls.append(group("cost", make("span", { className: "switch" }, ...costs.map(costChoice))));
  for (const facet of data.facets) {
    const values = [...new Set(data.rows.map((row) => row[facet]))].sort(compare);
    if (values.length > 1 && values.length <= 40) controls.append(group(facet, ...values.map((value) => filter(facet, value))));
  }
  controls.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("still").hidden = true;
  for (const element of [controls, live, status]) element.hidden = false;
  new ResizeObserver(() => {
    if (Math.abs(live.clientWidth - width) < 4) return;
    width = live.clientWidth;
    draw();
  }).observe(live);
})();
