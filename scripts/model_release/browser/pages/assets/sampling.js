// Scores of the next token -> the most likely tokens, and one of them. Pure: equal numbers give equal choices.

// The most likely tokens of one position, of equal ones the smaller id first.
/** @type {(scores: Float32Array, count: number) => Likely[]} */
function mostLikely(scores, count) {
  const ids = count < scores.length ? highestOf(scores, count) : idsByScore(scores);
  const highest = scores[ids[0] ?? -1] ?? NaN;
  let total = 0; // By a loop, not by `reduce`: of 256k scores a third of the time.
  for (let id = 0; id < scores.length; id++) total += Math.exp((scores[id] ?? NaN) - highest);
  return ids.map((id) => {
    const score = scores[id] ?? NaN;
    return { id, score, p: Math.exp(score - highest) / total };
  });
}

// A few ids, kept in order on one way through the scores: a vocabulary of 256k is not sorted for ten of them.
/** @type {(scores: Float32Array, count: number) => number[]} */
function highestOf(scores, count) {
  /** @type {number[]} */
  const ids = [];
  let least = -Infinity; // Of those kept, once they are as many as can be.
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id] ?? NaN;
    if (ids.length < count ? Number.isNaN(score) : !(score > least)) continue;
    let place = ids.length;
    while (place > 0 && (scores[ids[place - 1] ?? 0] ?? 0) < score) place--;
    ids.splice(place, 0, id);
    ids.length = Math.min(ids.length, count);
    least = scores[ids.at(-1) ?? 0] ?? NaN;
  }
  return ids;
}

/** @type {(scores: Float32Array) => number[]} */
const idsByScore = (scores) =>
  [...scores.keys()].filter((id) => !Number.isNaN(scores[id])).sort((a, b) => (scores[b] ?? 0) - (scores[a] ?? 0));

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
