// Files beside a page, and what went wrong in one sentence. The browser gate loads this too.

// What can be said in a sentence; anything else is a defect, and says so.
class Explained extends Error {}

/** @type {(name: string, options?: RequestInit) => Promise<Response>} */
async function fetchFile(name, options = {}) {
  const answer = await fetch(name, options).catch(() => null);
  if (!answer?.ok) {
    throw new Explained(
      `${name} must be served beside this page, ${answer ? `the server answers ${answer.status}` : "the server does not answer"}. Serve a whole release.`,
    );
  }
  return answer;
}

/** @param {string} name */
const fetchJson = async (name) => (await fetchFile(name)).json();

// What another's code says of its failure; WebAssembly may throw a number.
/** @type {(failure: any) => string} */
const wordsOf = (failure) => String(failure?.message ?? failure);
