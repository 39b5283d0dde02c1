// What tokens are called, in any script: bytes of one character stand under it, equal tokens tell their positions.

// Byte-level tokenizers write each byte as a letter: itself where it has a shape, else one past 255.
/** @type {Map<string, number>} */
const BYTE_LETTERS = new Map();
for (let byte = 0, other = 256; byte < 256; byte++) {
  const shaped = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  BYTE_LETTERS.set(String.fromCodePoint(shaped ? byte : other++), byte);
}

// A token's bytes, if it holds a part of a character: as letters, or one as <0xE4>; else null.
/** @type {(token: Token) => number[] | null} */
function loneBytes({ text, piece = "" }) {
  if (!text.includes("\ufffd")) return null;
  const fallback = /^<0x([0-9A-F]{2})>$/.exec(piece)?.[1];
  if (fallback) return [Number.parseInt(fallback, 16)];
  const bytes = Array.from(piece, (letter) => BYTE_LETTERS.get(letter) ?? -1);
  return bytes.length && !bytes.includes(-1) ? bytes : null;
}

/** @type {(bytes: number[]) => string | null} */
function decoded(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
  } catch {
    return null;
  }
}

/** @type {(bytes: number[]) => string} */
const hexadecimal = (bytes) => bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");

// Tokens from one whole character to the next; a part that never becomes one stands alone.
/** @type {(tokens: Token[]) => TokenGroup[]} */
function groupTokens(tokens) {
  /** @type {TokenGroup[]} */
  const groups = [];
  for (let start = 0; start < tokens.length; ) {
    /** @type {number[]} */
    const bytes = [];
    let text = null;
    let end = start;
    while (text === null && end < tokens.length) {
      const more = loneBytes(/** @type {Token} */ (tokens[end]));
      if (!more) break;
      bytes.push(...more);
      text = decoded(bytes);
      end++;
    }
    if (text === null) end = start + 1;
    groups.push({ start, end, text: text ?? tokens[start]?.text ?? "" });
    start = end;
  }
  return joinEmoji(groups);
}

// An emoji of several characters, such as a family or a flag, is one thing to look at.
/** @type {(groups: TokenGroup[]) => TokenGroup[]} */
function joinEmoji(groups) {
  const whole = groups.map(({ text }) => text).join("");
  /** @type {Set<number>} */
  const inside = new Set(); // Where no group may begin.
  for (const { segment, index } of new Intl.Segmenter("en", { granularity: "grapheme" }).segment(whole)) {
    if (!/\p{Extended_Pictographic}|\p{Regional_Indicator}/u.test(segment)) continue;
    for (let at = 1; at < segment.length; at++) inside.add(index + at);
  }
  /** @type {TokenGroup[]} */
  const joined = [];
  let at = 0;
  for (const group of groups) {
    const last = joined.at(-1);
    if (last && inside.has(at)) joined.splice(-1, 1, { ...last, end: group.end, text: last.text + group.text });
    else joined.push(group);
    at += group.text.length;
  }
  return joined;
}

/** @type {(number: number) => string} */
const subscript = (number) => String(number).replace(/\d/g, (digit) => String.fromCodePoint(0x2080 + Number(digit)));

/** @type {(tokens: Token[]) => TokenLabel[]} */
function labelTokens(tokens) {
  const labels = groupTokens(tokens).flatMap(({ start, end, text }) =>
    tokens.slice(start, end).map((token, part) => {
      const bytes = loneBytes(token);
      const alone = end - start === 1;
      return {
        // After letters that run to the left, a mark keeps what follows on the right.
        name: alone ? tokenName(token) : `${glyphs(text)}\u200e ${part + 1}/${end - start}`,
        shown: alone ? tokenName(token) : part === 0 ? glyphs(text) : "",
        hint: alone ? "" : bytes ? hexadecimal(bytes) : glyphs(token.text),
        part,
        parts: end - start,
        again: false,
      };
    }),
  );
  const counts = Map.groupBy(labels, ({ name }) => name);
  return labels.map((label, position) =>
    (counts.get(label.name)?.length ?? 0) > 1
      ? { ...label, name: `${label.name}\u200e${subscript(position)}`, again: true }
      : label,
  );
}

// Of a token by itself: its text, or its bytes.
/** @type {(token: Token) => string} */
function tokenName(token) {
  const bytes = loneBytes(token);
  return bytes ? `⟨${hexadecimal(bytes)}⟩` : glyphs(token.text);
}

// Of a token that may follow others: the character that its bytes would end.
/** @type {(tokens: Token[], next: Token) => string} */
function followerName(tokens, next) {
  let bytes = loneBytes(next);
  if (!bytes) return glyphs(next.text);
  for (let before = tokens.length - 1; before >= 0; before--) {
    const more = loneBytes(/** @type {Token} */ (tokens[before]));
    if (!more) break;
    bytes = [...more, ...bytes];
    const text = decoded(bytes);
    if (text) return `${glyphs(text)} ${tokenName(next)}`;
  }
  return tokenName(next);
}
