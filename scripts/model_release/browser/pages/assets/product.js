// Why a token looks at another: query times key, number by number, the sum, its scale, and the softmax of the row.

/** Pairs of kinds that may enter the product, the last stage of a model first. */
const PAIRS = /** @type {const} */ ([
  ["q_rot", "k_rot"],
  ["q_normed", "k_normed"],
  ["q", "k"],
]);

// The row of one head and position: [head, position, channel].
/** @type {(shown: Shown, head: number, position: number, from?: number, to?: number) => Float32Array} */
function rowOf(shown, head, position, from = 0, to = shown.shape.at(-1) ?? 0) {
  const [, seq = 0, width = 0] = shown.shape;
  const start = (head * seq + position) * width;
  return valuesOf(shown).subarray(start + from, start + to);
}

/** @type {(a: Float32Array, b: Float32Array) => number} */
const dot = (a, b) => a.reduce((sum, value, index) => sum + value * (b[index] ?? 0), 0);

// How probabilities follow from sums: ln p = scale x sum + something all keys share. The scale is measured, and so is
// how well it fits: queries that are turned or normed later, or a cap of the scores, fit badly.
/** @type {(sums: number[], row: number[]) => { scale: number, error: number }} */
function fitScale(sums, row) {
  const seen = row.map((p, key) => ({ p, sum: sums[key] ?? 0, log: Math.log(p) })).filter(({ p }) => p > 1e-4);
  /** @type {(value: (one: typeof seen[number]) => number) => number} */
  const mean = (value) => seen.reduce((total, one) => total + value(one), 0) / seen.length;
  const [sum, log] = [mean((one) => one.sum), mean((one) => one.log)];
  const spread = mean((one) => (one.sum - sum) ** 2);
  if (seen.length < 3 || !spread) return { scale: NaN, error: Infinity };
  const scale = mean((one) => (one.sum - sum) * (one.log - log)) / spread;
  const error = Math.max(...seen.map((one) => Math.abs(one.log - log - scale * (one.sum - sum))));
  return { scale, error };
}

/** @type {(stage: Stage) => View} */
function productView(stage) {
  rove(element("product-rows"), "li");

  const FITS = 0.05; // Of a logarithm: what float16 and the less exact precisions cost.

  // What truly enters the product: the pair whose sums explain the row.
  /** @type {(shown: Attention, query: number) => Product[]} */
  function candidates(shown, query) {
    const { head } = stage.chosen;
    const keys = Array.from({ length: query + 1 }, (_, key) => key);
    const row = keys.map((key) => shown.at(head, query, key));
    const qkv = stage.tensor("qkv");
    const width = (qkv?.shape.at(-1) ?? 0) / 3;
    const pairs = PAIRS.flatMap(([q, k]) => {
      const [queries, keysOf] = [stage.tensor(q), stage.tensor(k)];
      if (!queries || !keysOf) return [];
      // Of grouped heads, several queries share a key.
      const shared = Math.floor((head * (keysOf.shape[0] ?? 1)) / (queries.shape[0] ?? 1));
      return [
        {
          kinds: `${q} and ${k}`,
          query: rowOf(queries, head, query),
          keyOf: (/** @type {number} */ key) => rowOf(keysOf, shared, key),
        },
      ];
    });
    if (qkv)
      pairs.push({
        kinds: "qkv",
        query: rowOf(qkv, head, query, 0, width),
        keyOf: (key) => rowOf(qkv, head, key, width, 2 * width),
      });
    return pairs.map((pair) => {
      const sums = keys.map((key) => dot(pair.query, pair.keyOf(key)));
      return { ...pair, row, sums, ...fitScale(sums, row) };
    });
  }

  /** @type {(name: string, values: Float32Array, limit: number) => HTMLElement} */
  function strip(name, values, limit) {
    const scale = signedScale(limit);
    const canvas = paintCells({ rows: 1, columns: values.length, value: (_, column) => values[column] ?? NaN, scale });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${name}: ${Array.from(values, figure).join(", ")}`);
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      const channel = Math.min(
        values.length - 1,
        Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * values.length)),
      );
      const x = event.clientX;
      tip.show(`channel ${channel}: ${figure(values[channel] ?? NaN)}`, { ...edges(box), left: x, right: x });
    });
    canvas.addEventListener("pointerleave", () => tip.hide());
    return make("div", { class: "factor" }, make("span", {}, name), canvas);
  }

  /** @type {(found: Product, key: number, query: number) => HTMLElement[]} */
  function explain(found, key, query) {
    const keyRow = found.keyOf(key);
    const products = found.query.map((value, channel) => value * (keyRow[channel] ?? 0));
    /** @param {Float32Array} values */
    const limit = (values) => Math.max(...values.map(Math.abs)) || 1;
    const most = Math.max(limit(found.query), limit(keyRow));
    const sum = found.sums[key] ?? NaN;
    const root = Math.sqrt(keyRow.length);
    const usual = Math.abs(found.scale * root - 1) < 0.02;
    const scale = usual ? `√${keyRow.length}` : "";
    const scores = found.sums.map((one) => one * found.scale);
    const rows = found.row.flatMap((p, other) => {
      if (!p) return []; // A window hides it.
      const bar = make("i", { "aria-hidden": "true" });
      bar.style.width = `${100 * p}%`;
      const button = make("button", { type: "button", class: "plain" }, stage.names[other] ?? "");
      button.addEventListener("click", () => stage.choose({ key: other }));
      return make(
        "li",
        other === key ? { class: "came" } : {},
        button,
        make("span", { class: "number" }, figure(scores[other] ?? NaN)),
        make("span", { class: "bar" }, bar),
        make("span", { class: "number" }, figure(p)),
      );
    });
    const steps = [
      strip(`query of ${stage.word(query)}`, found.query, most),
      strip(`key of ${stage.word(key)}`, keyRow, most),
      strip("their product, channel by channel", products, limit(products)),
      make(
        "p",
        { class: "sum" },
        `Sum ${figure(sum)} ${usual ? "÷" : "×"} ${scale || figure(found.scale)} = score ${figure(sum * found.scale)}. `,
        `Softmax over the row makes it ${figure(found.row[key] ?? NaN)}.`,
      ),
      make("p", { class: "hint" }, `Computed here from ${found.kinds}; the scale is what explains the row.`),
    ];
    return [
      make("div", {}, ...steps),
      make(
        "div",
        {},
        make("p", { class: "hint" }, "Score and probability of every token it sees:"),
        make("ol", { class: "next softmax" }, ...rows),
      ),
    ];
  }

  return () => {
    const shown = stage.attention();
    element("product").hidden = !shown;
    if (!shown) return;
    const { position, head } = stage.chosen;
    const best = mostOf(position + 1, (key) => shown.at(head, position, key));
    const key = stage.chosen.key >= 0 && stage.chosen.key <= position ? stage.chosen.key : best;
    element("product-hint").textContent = `${stage.pairOf(position, key)}. Choose another pair in the map.`;
    const found = candidates(shown, position);
    const right = found.filter(({ error }) => error < FITS).sort((a, b) => a.error - b.error)[0];
    if (right) {
      const focused = element("product-rows").contains(document.activeElement);
      element("product-rows").replaceChildren(...explain(right, key, position));
      const list = element("product-rows").querySelector("ol");
      const chosen = list?.querySelector("li.came");
      const button = chosen?.querySelector("button");
      tabTo(element("product-rows"), button);
      if (list) reveal(list, chosen);
      if (focused) button?.focus({ preventScroll: true });
    } else element("product-rows").replaceChildren(make("p", { class: "hint" }, why(found, position)));
  };

  /** @type {(found: Product[], position: number) => string} */
  function why(found, position) {
    if (position < 2) return "So early there is too little to compare. Choose a later token.";
    if (!found.length) return stage.absence("q", "k");
    const { kinds = "" } = found[0] ?? {};
    const turned = PAIRS[0].some((kind) => stage.lacks(kind)) ? ` ${stage.absence(...PAIRS[0])}` : "";
    return `${kinds} alone do not explain this row: the model turns, norms or caps more before softmax.${turned}`;
  }
}

/** @type {(box: DOMRect) => { left: number, right: number, top: number, bottom: number }} */
const edges = ({ left, right, top, bottom }) => ({ left, right, top, bottom });
