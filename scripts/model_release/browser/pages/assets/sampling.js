// Scores of the next token -> the most likely tokens, and one of them. Pure: equal numbers give equal choices.

// The most likely tokens of one position, of equal ones the smaller id first.
/** @type {(scores: Float32Array, count: number) => Likely[]} */
function mostLikely(scores, count) {
  const sorted = scores.toSorted(); // Only scores are sorted whole, not ids: it is faster.
  const [highest, least] = [sorted.at(-1) ?? NaN, sorted.at(-count) ?? -Infinity];
  const total = scores.reduce((sum, score) => sum + Math.exp(score - highest), 0);
  /** @type {Likely[]} */
  const likely = [];
  scores.forEach((score, id) => {
    if (score >= least) likely.push({ id, score, p: Math.exp(score - highest) / total });
  });
  return likely.sort((a, b) => b.score - a.score).slice(0, count);
}

// The most likely token of one position, where no other is asked for: without sorting.
/** @param {Float32Array} scores */
function likeliest(scores) {
  const highest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  return { id: scores.indexOf(highest), p: 1 / scores.reduce((sum, score) => sum + Math.exp(score - highest), 0) };
}

// A temperature of 0 takes the most likely token; a top-k of 0 allows all. `chance` is from 0 to below 1.
/** @type {(scores: Float32Array, settings: { temperature: number, topK: number }, chance: number) => number} */
function chooseNext(scores, { temperature, topK }, chance) {
  const likely = mostLikely(scores, temperature === 0 ? 1 : topK || scores.length);
  const [best] = likely;
  if (!best) throw new Explained("The model's scores must be numbers, they are not. Choose another precision.");
  const weights = likely.map(({ score }) => (temperature === 0 ? 1 : Math.exp((score - best.score) / temperature)));
  let left = chance * weights.reduce((sum, weight) => sum + weight, 0);
  const chosen = likely.find((_, rank) => {
    left -= /** @type {number} */ (weights[rank]);
    return left < 0;
  });
  return (chosen ?? best).id; // None only where rounding leaves a last grain.
}

// A number from 0 to below 1 for a position: the same seed writes the same text, in single steps or in one go.
/** @type {(seed: number, position: number) => number} */
const chanceOf = (seed, position) => scramble(scramble(seed + 0x9e3779b9) + position) / 2 ** 32;

// The finalizer of MurmurHash3, in which each bit changes all others: https://github.com/aappleby/smhasher.
/** @param {number} word */
function scramble(word) {
  let bits = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
