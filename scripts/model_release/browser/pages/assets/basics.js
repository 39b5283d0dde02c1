"use strict";

// Small things every view needs: elements, texts, numbers.

/** @type {FindElement} */
const element = (id) => /** @type {any} */ (document.getElementById(id));

/** @type {MakeElement} */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/** @param {HTMLCanvasElement} canvas */
const brush = (canvas) => /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));

// What has no shape of its own, made visible: white space, marks without a letter, and what would turn or hide a text.
// Joiners within a word or an emoji stay, and so do the letters of a flag.
const SHAPELESS =
  /(?<=[\p{L}\p{M}\p{Extended_Pictographic}\p{Emoji_Modifier}])[\u200c\u200d](?=[\p{L}\p{M}\p{Extended_Pictographic}])|\u{1f3f4}[\u{e0020}-\u{e007f}]+|(?<hidden>\p{C})/gu;

/** @param {string} text */
const glyphs = (text) =>
  text
    .replaceAll(" ", "·")
    .replaceAll("\n", "↵")
    .replaceAll("\t", "⇥")
    .replace(/\p{Z}/gu, "␣")
    .replace(SHAPELESS, (found, hidden) => (hidden ? "�" : found))
    .replace(/^\p{M}/u, "◌$&");

// Scrolls a place, and nothing around it, until a part of it is seen.
/** @type {(place: Element, part: Element | null | undefined) => void} */
function reveal(place, part) {
  if (!part) return;
  const [seen, box] = [place.getBoundingClientRect(), part.getBoundingClientRect()];
  if (box.left < seen.left || box.right > seen.right)
    place.scrollLeft += (box.left + box.right - seen.left - seen.right) / 2;
  if (box.top < seen.top || box.bottom > seen.bottom)
    place.scrollTop += (box.top + box.bottom - seen.top - seen.bottom) / 2;
}

// A value as people read it: three decimals, fewer of a large one, a power of ten of a tiny one.
/** @param {number} value */
function figure(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  const plain = size >= 1e-3 && size < 1e5;
  return (plain ? value.toFixed(size < 100 ? 3 : 1) : value.toExponential(1)).replaceAll("-", "−");
}

/** @param {Shown} tensor */
function valuesOf(tensor) {
  tensor.values ??= decodeFloat16(/** @type {string} */ (tensor.float16));
  return tensor.values;
}

/** @param {string} base64 */
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
