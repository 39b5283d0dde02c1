// A grid of coloured cells with a cursor: rows of tokens, moved over with pointer or keys.

const QUIET = 0.65; // opacity of what is not chosen
const NARROWEST = 9; // pixels a column's name takes

class Grid {
  #canvas;
  #output;
  /** @type {GridFacts} */
  #facts;
  /** @type {HTMLCanvasElement} */
  #cells;
  #left = 0;
  #top = 0;
  #cellWidth = 0;
  #cellHeight = 0;
  /** @type {Cell | null} */
  #cursor = null;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement} output
   * @param {(row: number, column: number) => void} choose
   */
  constructor(canvas, output, choose) {
    this.#canvas = canvas;
    this.#output = output;
    canvas.addEventListener("pointermove", (event) => this.#move(this.#under(event)));
    canvas.addEventListener("pointerleave", () => this.#move(null));
    canvas.addEventListener("click", (event) => {
      const cell = this.#under(event);
      if (cell) choose(cell.row, cell.column);
      this.#move(cell);
    });
    canvas.addEventListener(
      "focus",
      () => canvas.matches(":focus-visible") && this.#move({ row: this.#facts.marked, column: 0 }),
    );
    canvas.addEventListener("blur", () => this.#move(null));
    canvas.addEventListener("keydown", (event) => {
      const { row, column } = this.#cursor ?? { row: this.#facts.marked, column: 0 };
      const last = this.#facts.columns - 1;
      /** @type {Record<string, [number, number]>} */
      const moves = {
        ArrowUp: [row - 1, column],
        ArrowDown: [row + 1, column],
        ArrowLeft: [row, column - 1],
        ArrowRight: [row, column + 1],
        Home: [row, 0],
        End: [row, last],
      };
      const next = moves[event.key];
      if (event.key === "Enter") choose(row, column);
      else if (!next) return;
      event.preventDefault();
      const [r, c] = next ?? [row, column];
      this.#move({
        row: Math.min(this.#facts.rows - 1, Math.max(0, r)),
        column: Math.min(last, Math.max(0, c)),
      });
    });
    new ResizeObserver(() => this.#paint()).observe(this.#place);
  }

  /** @param {GridFacts} facts */
  draw(facts) {
    this.#facts = facts;
    this.#cells = paintCells(facts);
    this.#paint();
    this.#tell();
  }

  get #place() {
    return /** @type {HTMLElement} */ (this.#canvas.parentElement);
  }

  /** @param {MouseEvent} event */
  #under(event) {
    const box = this.#canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - this.#left) / this.#cellWidth);
    const row = Math.floor((event.clientY - box.top - this.#top) / this.#cellHeight);
    const inside = column >= 0 && row >= 0 && column < this.#facts.columns && row < this.#facts.rows;
    return inside ? { row, column } : null;
  }

  /** @param {Cell | null} cell */
  #move(cell) {
    this.#cursor = cell;
    this.#paint();
    this.#tell();
  }

  #tell() {
    const { describe, rest } = this.#facts;
    const said = this.#cursor ? describe(this.#cursor.row, this.#cursor.column) : rest;
    this.#output.textContent = said;
    if (!this.#cursor) return tip.hide();
    const box = this.#canvas.getBoundingClientRect();
    const left = box.left + this.#left + this.#cursor.column * this.#cellWidth;
    const top = box.top + this.#y(this.#cursor.row);
    tip.show(said, { left, top, right: left + this.#cellWidth, bottom: top + this.#cellHeight });
  }

  #paint() {
    if (!this.#facts) return;
    const context = this.#measure();
    this.#paintCells(context);
    context.fillStyle = context.strokeStyle = getComputedStyle(this.#canvas).color;
    this.#nameRows(context);
    if (this.#top) this.#nameColumns(context);
    this.#frame(context, {
      row: this.#facts.marked,
      column: 0,
      columns: this.#facts.columns,
      width: 1,
      opacity: QUIET,
    });
    if (this.#cursor) this.#frame(context, { ...this.#cursor, columns: 1, width: 2, opacity: 1 });
  }

  // Fits the cells and their names into the width there is, and empties the canvas.
  #measure() {
    const { rows, columns, columnLabels } = this.#facts;
    const width = this.#place.clientWidth;
    this.#left = Math.min(96, Math.round(width * 0.2));
    this.#cellWidth = (width - this.#left) / columns;
    this.#top = columnLabels ? 72 : 0;
    this.#cellHeight = columnLabels ? Math.max(12, Math.min(22, this.#cellWidth)) : 13;
    const height = Math.ceil(this.#top + rows * this.#cellHeight);
    const density = window.devicePixelRatio || 1;
    this.#canvas.width = Math.round(width * density);
    this.#canvas.height = Math.round(height * density);
    this.#canvas.style.height = `${height}px`;
    const context = brush(this.#canvas);
    context.scale(density, density);
    const across = columnLabels ? Math.max(NARROWEST, this.#cellWidth) : Infinity;
    const size = Math.min(12, this.#cellHeight - 1, across);
    context.font = `${size}px ${getComputedStyle(this.#canvas).fontFamily}`;
    context.textBaseline = "middle";
    return context;
  }

  // Row by row: where channels are narrower than a pixel and run together, tokens do not.
  /** @param {CanvasRenderingContext2D} context */
  #paintCells(context) {
    const { rows, columns } = this.#facts;
    context.imageSmoothingEnabled = this.#cellWidth < 1;
    for (let row = 0; row < rows; row++) {
      const width = columns * this.#cellWidth;
      context.drawImage(this.#cells, 0, row, columns, 1, this.#left, this.#y(row), width, this.#cellHeight);
    }
  }

  /** @param {number} row */
  #y(row) {
    return this.#top + row * this.#cellHeight;
  }

  /** @param {CanvasRenderingContext2D} context */
  #nameRows(context) {
    context.textAlign = "right";
    this.#facts.labels.forEach((label, row) => {
      context.globalAlpha = row === this.#facts.marked ? 1 : QUIET;
      context.fillText(fitted(context, label, this.#left - 8), this.#left - 6, this.#y(row + 0.5));
    });
  }

  /** @param {CanvasRenderingContext2D} context */
  #nameColumns(context) {
    context.textAlign = "left";
    const { marked } = this.#facts;
    const every = Math.ceil(NARROWEST / this.#cellWidth);
    this.#facts.columnLabels?.forEach((label, column) => {
      // Where columns are too narrow for all names, those of some are there, the chosen one's among them.
      if ((column - marked) % every) return;
      context.save();
      context.translate(this.#left + (column + 0.5) * this.#cellWidth, this.#top - 5);
      context.rotate(-Math.PI / 2);
      context.globalAlpha = column === marked ? 1 : QUIET;
      context.fillText(fitted(context, label, this.#top - 6), 0, 0);
      context.restore();
    });
  }

  // A line around cells of a row; never too narrow to be seen.
  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Cell & { columns: number, width: number, opacity: number }} frame
   */
  #frame(context, { row, column, columns, width, opacity }) {
    const wide = Math.max(5, columns * this.#cellWidth);
    const right = this.#left + this.#facts.columns * this.#cellWidth;
    const x = Math.min(right - wide, this.#left + column * this.#cellWidth);
    context.globalAlpha = opacity;
    context.lineWidth = width;
    context.strokeRect(x + width / 2, this.#y(row) + width / 2, wide - width, this.#cellHeight - width);
  }
}

/** @type {(context: CanvasRenderingContext2D, text: string, width: number) => string} */
function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 1 && context.measureText(`${text.slice(0, end)}…`).width > width) end--;
  return `${text.slice(0, end)}…`;
}

// One pixel a cell; a cell without a value stays transparent.
/** @param {Cells} cells */
function paintCells({ rows, columns, value, scale }) {
  const canvas = make("canvas", { width: columns, height: rows });
  const pixels = new ImageData(columns, rows);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const here = value(row, column);
      if (!Number.isNaN(here)) pixels.data.set([...scale.colour(here), 255], 4 * (row * columns + column));
    }
  }
  brush(canvas).putImageData(pixels, 0, 0);
  return canvas;
}
