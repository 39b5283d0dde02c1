"use strict";

// The views of one prompt. A sample is {tokens: [{id, text}], tensors: {name: {shape, values}}, next:
// [{position, top: [{id, text, p}]}]}; a tensor may hold its values as float16 in base64 instead.

const element = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// White space and other characters without a shape of their own, made visible.
const glyphs = (text) =>
  text.replaceAll(" ", "·").replaceAll("\n", "↵").replaceAll("\t", "⇥").replace(/\p{C}/gu, "�");

function figure(value) {
  const size = Math.abs(value);
  const text = size === 0 ? "0" : size >= 1e-3 && size < 1e5 ? value.toFixed(size < 100 ? 3 : 1) : value.toExponential(1);
  return text.replaceAll("-", "−");
}

function valuesOf(tensor) {
  tensor.values ??= decodeFloat16(tensor.float16);
  return tensor.values;
}

function decodeFloat16(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const words = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 2 }, (_, index) => {
    const word = words.getUint16(2 * index, true);
    const exponent = (word >> 10) & 31;
    const fraction = (word & 1023) / 1024;
    const magnitude = exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction;
    return word >> 15 ? -magnitude : magnitude;
  });
}

// -- Colour. Lightness runs evenly from the paper to the ink in OKLab (https://bottosson.github.io/posts/oklab/),
// so that equal steps of a value look like equal steps, in grey print and to any kind of colour vision.

const DARK = window.matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const scheme = getComputedStyle(document.documentElement).colorScheme;
  return scheme === "dark" || (scheme !== "light" && DARK.matches);
}

function oklch(lightness, chroma, hue) {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  return linear.map((x) => {
    const light = Math.min(1, Math.max(0, x));
    return Math.round(255 * (light <= 0.0031308 ? 12.92 * light : 1.055 * light ** (1 / 2.4) - 0.055));
  });
}

const STEPS = 256;
const BLUE = 262;
const ORANGE = 55;

function ramp(hue) {
  const [paper, ink] = isDark() ? [0.25, 0.93] : [0.975, 0.36];
  return Array.from({ length: STEPS }, (_, step) => {
    const share = step / (STEPS - 1);
    return oklch(paper + (ink - paper) * share, 0.15 * Math.sin(Math.PI * 0.8 * share), hue);
  });
}

const pick = (colours, share) => colours[Math.round((STEPS - 1) * Math.min(1, Math.max(0, share)))];

// Black or white, whichever is further away.
const readableOn = ([red, green, blue]) => (0.299 * red + 0.587 * green + 0.114 * blue > 118 ? "black" : "white");

// Probabilities: most are small, so the colour goes with their square root, and the legend says so.
function probabilityScale() {
  const colours = ramp(BLUE);
  return {
    colour: (value) => pick(colours, Math.sqrt(value)),
    at: (share) => share ** 2,
    ticks: [0, 0.05, 0.25, 0.5, 1].map((value) => ({ share: Math.sqrt(value), label: String(value) })),
  };
}

function signedScale(limit) {
  const [below, above] = [ramp(ORANGE), ramp(BLUE)];
  const colour = (value) => pick(value < 0 ? below : above, Math.abs(value) / limit);
  return {
    colour,
    at: (share) => (2 * share - 1) * limit,
    ticks: [-1, 0, 1].map((sign) => ({ share: (sign + 1) / 2, label: sign ? (sign < 0 ? "" : "+") + figure(sign * limit) : "0" })),
  };
}

function drawLegend(place, scale) {
  const bar = make("canvas", { width: STEPS, height: 1, "aria-hidden": "true" });
  const pixels = new ImageData(STEPS, 1);
  for (let step = 0; step < STEPS; step++) {
    pixels.data.set([...scale.colour(scale.at(step / (STEPS - 1))), 255], 4 * step);
  }
  bar.getContext("2d").putImageData(pixels, 0, 0);
  const ticks = scale.ticks.map(({ share, label }) => {
    const tick = make("span", {}, label);
    tick.style.left = `${100 * share}%`;
    return tick;
  });
  place.replaceChildren(bar, make("div", {}, ...ticks));
}

// -- A grid of coloured cells with a cursor: rows of tokens, moved over with pointer or keys.

const QUIET = 0.65; // opacity of what is not chosen

class Grid {
  #canvas; #output; #facts; #cells; #left; #top; #cellWidth; #cellHeight;
  #cursor = null;

  constructor(canvas, output, choose) {
    [this.#canvas, this.#output] = [canvas, output];
    canvas.addEventListener("pointermove", (event) => this.#move(this.#under(event)));
    canvas.addEventListener("pointerleave", () => this.#move(null));
    canvas.addEventListener("click", (event) => {
      const cell = this.#under(event);
      if (cell) choose(cell.row);
      this.#move(cell);
    });
    canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && this.#move({ row: this.#facts.marked, column: 0 }));
    canvas.addEventListener("blur", () => this.#move(null));
    canvas.addEventListener("keydown", (event) => {
      const { row, column } = this.#cursor ?? { row: this.#facts.marked, column: 0 };
      const last = this.#facts.columns - 1;
      const next = {
        ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
        ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
        Home: [row, 0], End: [row, last],
      }[event.key];
      if (event.key === "Enter") choose(row);
      else if (!next) return;
      event.preventDefault();
      const [r, c] = next ?? [row, column];
      this.#move({ row: Math.min(this.#facts.rows - 1, Math.max(0, r)), column: Math.min(last, Math.max(0, c)) });
    });
    new ResizeObserver(() => this.#paint()).observe(canvas.parentElement);
  }

  // facts: rows, columns, value(row, column) (NaN is no cell), scale, labels, columnLabels, marked (a row),
  // rest (the text without a cursor), describe(row, column).
  draw(facts) {
    this.#facts = facts;
    this.#cells = paintCells(facts);
    this.#paint();
    this.#tell();
  }

  #under(event) {
    const box = this.#canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - this.#left) / this.#cellWidth);
    const row = Math.floor((event.clientY - box.top - this.#top) / this.#cellHeight);
    const inside = column >= 0 && row >= 0 && column < this.#facts.columns && row < this.#facts.rows;
    return inside ? { row, column } : null;
  }

  #move(cell) {
    this.#cursor = cell;
    this.#paint();
    this.#tell();
  }

  #tell() {
    const { describe, rest } = this.#facts;
    this.#output.textContent = this.#cursor ? describe(this.#cursor.row, this.#cursor.column) : rest;
  }

  #paint() {
    if (!this.#facts) return;
    const { rows, columns, labels, columnLabels, marked } = this.#facts;
    const width = this.#canvas.parentElement.clientWidth;
    this.#left = Math.min(96, Math.round(width * 0.2));
    this.#cellWidth = (width - this.#left) / columns;
    const named = columnLabels && this.#cellWidth >= 11;
    this.#top = named ? 72 : 0;
    this.#cellHeight = columnLabels ? Math.max(12, Math.min(22, this.#cellWidth)) : 13;
    const height = Math.ceil(this.#top + rows * this.#cellHeight);
    const density = window.devicePixelRatio || 1;
    this.#canvas.width = Math.round(width * density);
    this.#canvas.height = Math.round(height * density);
    this.#canvas.style.height = `${height}px`;
    const context = this.#canvas.getContext("2d");
    context.scale(density, density);
    context.imageSmoothingEnabled = this.#cellWidth < 1;
    for (let row = 0; row < rows; row++) {
      const y = this.#top + row * this.#cellHeight; // Row by row: no token's colours run into the next one's.
      context.drawImage(this.#cells, 0, row, columns, 1, this.#left, y, columns * this.#cellWidth, this.#cellHeight);
    }
    const style = getComputedStyle(this.#canvas);
    context.font = `${Math.min(12, this.#cellHeight - 1)}px ${style.fontFamily}`;
    context.fillStyle = style.color;
    context.textBaseline = "middle";
    context.textAlign = "right";
    labels.forEach((label, row) => {
      context.globalAlpha = row === marked ? 1 : QUIET;
      context.fillText(fitted(context, label, this.#left - 8), this.#left - 6, this.#top + (row + 0.5) * this.#cellHeight);
    });
    if (named) this.#nameColumns(context, columnLabels, marked);
    context.strokeStyle = style.color;
    context.globalAlpha = QUIET;
    context.lineWidth = 1;
    context.strokeRect(this.#left + 0.5, this.#top + marked * this.#cellHeight + 0.5, columns * this.#cellWidth - 1, this.#cellHeight - 1);
    if (this.#cursor) {
      context.globalAlpha = 1;
      context.lineWidth = 2;
      const wide = Math.max(5, this.#cellWidth);
      const x = Math.min(width - wide, this.#left + this.#cursor.column * this.#cellWidth);
      context.strokeRect(x + 1, this.#top + this.#cursor.row * this.#cellHeight + 1, wide - 2, this.#cellHeight - 2);
    }
  }

  #nameColumns(context, names, marked) {
    context.textAlign = "left";
    names.forEach((label, column) => {
      context.save();
      context.translate(this.#left + (column + 0.5) * this.#cellWidth, this.#top - 5);
      context.rotate(-Math.PI / 2);
      context.globalAlpha = column === marked ? 1 : QUIET;
      context.fillText(fitted(context, label, this.#top - 6), 0, 0);
      context.restore();
    });
  }
}

function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 1 && context.measureText(`${text.slice(0, end)}…`).width > width) end--;
  return `${text.slice(0, end)}…`;
}

// One pixel a cell; a cell without a value stays transparent.
function paintCells({ rows, columns, value, scale }) {
  const canvas = make("canvas", { width: columns, height: rows });
  const pixels = new ImageData(columns, rows);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const here = value(row, column);
      if (!Number.isNaN(here)) pixels.data.set([...scale.colour(here), 255], 4 * (row * columns + column));
    }
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

// -- The views, and what is chosen in them.

function createViews() {
  let sample = null;
  const chosen = { layer: -1, head: 0, position: 0 };
  const map = new Grid(element("map"), element("map-value"), choosePosition);
  const strips = new Map();

  const word = (position) => `“${glyphs(sample.tokens[position].text)}”`;
  const names = () => sample.tokens.map((token) => glyphs(token.text));
  const tensor = (kind) => sample.tensors[`layer_${chosen.layer}_${kind}`] ?? sample.tensors[kind];

  // [head, query, key] -> probability; later keys are no cells.
  function attention() {
    const shown = tensor("attn_probs");
    if (!shown) return null;
    const [heads, seq] = shown.shape;
    const values = valuesOf(shown);
    return { heads, seq, at: (head, row, column) => (column > row ? NaN : values[(head * seq + row) * seq + column]) };
  }

  function choosePosition(position) {
    chosen.position = position;
    element("tokens").querySelectorAll("input")[position].checked = true;
    drawChosen();
  }

  function buildTokens() {
    const group = sample.tokens.map((token, position) => {
      const input = make("input", { type: "radio", name: "token", value: position });
      input.addEventListener("change", () => choosePosition(position));
      return make("label", { title: `position ${position}, id ${token.id}` }, input, make("span", {}, glyphs(token.text)));
    });
    element("tokens").replaceChildren(...group);
  }

  function buildLayers() {
    const numbers = Object.keys(sample.tensors).map((name) => /^layer_(\d+)_/.exec(name)?.[1]);
    const layers = [...new Set(numbers.filter(Boolean))].map(Number).sort((a, b) => a - b);
    element("layer").replaceChildren(...layers.map((layer) => make("option", { value: layer }, String(layer))));
    if (!layers.includes(chosen.layer)) chosen.layer = layers.at(-1) ?? 0;
    element("layer").value = chosen.layer;
    element("layers").hidden = layers.length === 0;
    element("attention").hidden = !attention();
  }

  function drawHeads(shown, scale) {
    chosen.head = Math.min(chosen.head, shown.heads - 1);
    const heads = Array.from({ length: shown.heads }, (_, head) => {
      const input = make("input", { type: "radio", name: "head", value: head, "aria-label": `Head ${head}` });
      input.checked = head === chosen.head;
      input.addEventListener("change", () => {
        chosen.head = head;
        drawAttention();
      });
      const value = (row, column) => shown.at(head, row, column);
      return make("label", {}, input, paintCells({ rows: shown.seq, columns: shown.seq, value, scale }), make("span", {}, String(head)));
    });
    element("heads").replaceChildren(...heads);
  }

  function drawAttention() {
    const shown = attention();
    const tints = element("tokens").querySelectorAll("span");
    if (!shown) return;
    const { layer, head, position } = chosen;
    const scale = probabilityScale();
    const at = (row, column) => shown.at(head, row, column);
    const best = Array.from({ length: position + 1 }, (_, key) => key).reduce((a, b) => (at(position, b) > at(position, a) ? b : a));
    tints.forEach((tint, key) => {
      const value = at(position, key);
      const colour = Number.isNaN(value) ? null : scale.colour(value);
      tint.style.backgroundColor = colour ? `rgb(${colour})` : "";
      tint.style.color = colour ? readableOn(colour) : "";
    });
    element("map").setAttribute("aria-label", `Attention of layer ${layer}, head ${head}: ${shown.seq} tokens by ${shown.seq}`);
    map.draw({
      rows: shown.seq, columns: shown.seq, value: at, scale, labels: names(), columnLabels: names(), marked: position,
      rest: `${word(position)} looks most at ${best === position ? "itself" : word(best)}: ${figure(at(position, best))}`,
      describe: (row, column) =>
        column > row
          ? `${word(row)} cannot see ${word(column)}: it comes later`
          : `${word(row)} → ${word(column)}: ${figure(at(row, column))} (row ${row}, column ${column})`,
    });
    drawLegend(element("map-legend"), scale);
    if (element("numbers").open) drawNumbers();
  }

  function drawNumbers() {
    const shown = attention();
    const head = make("tr", {}, make("th", { scope: "col" }, "token"), ...names().map((name) => make("th", { scope: "col" }, name)));
    const rows = names().map((name, row) => {
      const cells = names().map((_, column) => make("td", { class: "number" }, column > row ? "" : figure(shown.at(chosen.head, row, column))));
      return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
    });
    element("numbers").lastElementChild.replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
  }

  function drawNext() {
    const { position } = chosen;
    const entry = sample.next.find((entry) => entry.position === position);
    const follower = sample.tokens[position + 1];
    const came = follower ? ` What came: ${word(position + 1)}.` : "";
    element("next-hint").textContent = entry
      ? `What the model expects after ${word(position)}.${came}`
      : "This model returns the distribution after the last token alone.";
    element("next").replaceChildren(
      ...(entry?.top ?? []).map(({ id, text, p }) => {
        const bar = make("i", { "aria-hidden": "true" });
        bar.style.width = `${100 * p}%`;
        const right = follower?.id === id;
        const name = make("b", { title: `id ${id}` }, glyphs(text));
        return make("li", right ? { class: "came" } : {}, name, make("span", { class: "bar" }, bar), make("span", { class: "number" }, `${(100 * p).toFixed(1)} %`));
      }),
    );
  }

  function drawStrips() {
    const kinds = [...new Set(Object.entries(sample.tensors).filter(([, { shape }]) => shape.length === 2).map(([name]) => name.replace(/^layer_\d+_/, "")))];
    element("vectors").hidden = kinds.length === 0;
    for (const [kind, strip] of strips) strip.place.hidden = !kinds.includes(kind);
    for (const kind of kinds) drawStrip(kind);
  }

  function drawStrip(kind) {
    const layered = `layer_${chosen.layer}_${kind}` in sample.tensors;
    const name = layered ? `layer_${chosen.layer}_${kind}` : kind;
    if (!strips.has(kind)) strips.set(kind, buildStrip(kind));
    const strip = strips.get(kind);
    const shown = tensor(kind);
    strip.place.hidden = !shown;
    if (!shown) return;
    const [rows, columns] = shown.shape;
    const values = valuesOf(shown);
    const sizes = values.map(Math.abs).sort();
    const scale = signedScale(sizes[Math.floor(0.99 * (sizes.length - 1))] || sizes.at(-1) || 1);
    strip.title.textContent = name;
    strip.canvas.setAttribute("aria-label", `${name}: ${rows} tokens by ${columns} channels`);
    strip.grid.draw({
      rows, columns, scale, labels: names(), marked: chosen.position,
      value: (row, column) => values[row * columns + column],
      rest: `${columns} channels, from ${figure(values.reduce((a, b) => Math.min(a, b)))} to ${figure(values.reduce((a, b) => Math.max(a, b)))}`,
      describe: (row, column) => `${word(row)}, channel ${column}: ${figure(values[row * columns + column])}`,
    });
    drawLegend(strip.legend, scale);
  }

  function buildStrip(kind) {
    const output = make("output", { class: "value", id: `${kind}-value` });
    const canvas = make("canvas", {
      class: "grid", tabindex: "0", role: "application", "aria-roledescription": "heat map", "aria-describedby": `${kind}-value keys`,
    });
    const title = make("h3");
    const legend = make("div", { class: "legend" });
    const place = make("figure", { id: `strip-${kind}` }, title, make("div", {}, canvas), make("figcaption", {}, output), legend);
    element("strips").append(place);
    return { place, canvas, title, legend, grid: new Grid(canvas, output, choosePosition) };
  }

  function drawAll() {
    const shown = attention();
    if (shown) drawHeads(shown, probabilityScale());
    drawChosen();
  }

  function drawChosen() {
    drawAttention();
    drawNext();
    drawStrips();
  }

  element("layer").addEventListener("change", (event) => {
    chosen.layer = Number(event.target.value);
    drawAll();
  });
  element("numbers").addEventListener("toggle", (event) => event.target.open && drawNumbers());
  onThemeChange(() => sample && drawAll());

  return {
    show(given) {
      sample = given;
      chosen.position = sample.tokens.length - 1;
      element("views").hidden = false;
      buildTokens();
      buildLayers();
      element("tokens").querySelectorAll("input")[chosen.position].checked = true;
      drawAll();
    },
  };
}

// The system's theme counts until the button is pressed; paper is light.
function onThemeChange(redraw) {
  const root = document.documentElement;
  const button = element("theme");
  const tell = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    redraw();
  };
  button.addEventListener("click", () => {
    root.style.colorScheme = isDark() ? "light" : "dark";
    tell();
  });
  for (const query of [DARK, window.matchMedia("print")]) query.addEventListener("change", tell);
  tell();
}
