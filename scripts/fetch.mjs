// Brings a web app the model that its env file names: `node fetch.mjs --help`, or `seeThroughModel()` in vite.config.
//
// One file without dependencies, for Node.js 20 and later. It does what scripts/fetch.py does for a build, in the same
// sentences and with the same exit codes: tests/app/fetch_cases.json holds both to it. In order: failures and files,
// the env file, servers, the release, downloads, the whole, the command and the plugin.

import { createHash, randomBytes } from "node:crypto";
import { constants, createReadStream, existsSync, realpathSync } from "node:fs";
import { lstat, mkdir, open, readdir, realpath, rename, rm, rmdir, stat, unlink, writeFile } from "node:fs/promises";
import { basename, dirname, join, normalize, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { getSystemErrorMap, parseArgs } from "node:util";

/** @typedef {{ name: string, size_bytes: number, sha256: string, path?: string }} Entry A file of a release. */
/** @typedef {{ folder: string, url: string, files: Entry[] }} Model What the app gets, the model's file first. */
/** @typedef {{ version: string, url: string, file: string, query: string }} Committed `url` is without its query. */
/** @typedef {AsyncIterable<Uint8Array>} Pieces */
/** @typedef {{ start: number | null, size: number | null, etag: string, pieces: Pieces }} Part Of a file. */
/** @typedef {<T>(file: string, start: number, etag: string, use: (part: Part) => Promise<T>) => Promise<T>} Ask */
/** @typedef {{ patience: typeof PATIENCE, deadline: number, tell: (line: string) => void }} Line */
/** @typedef {{ name: string, ask: Ask, line: Line }} Source */
/**
 * @typedef {object} Request
 * @property {string} envFile Where a release has committed version and URL.
 * @property {string} staticDir The folder that the app serves at its base.
 * @property {string} [precision] Another variant than the one the release chose for the app.
 * @property {string} [layout] `flat`, or `transformers.js`: where that library looks for the files.
 * @property {Record<string, string | undefined>} [environment] GITHUB_TOKEN for a private release, other GitHubs.
 * @property {Partial<typeof PATIENCE>} [patience] How long a server may take.
 * @property {(line: string) => void} [tell] Hears what happens.
 */

const PATIENCE = {
  attempts: 5,
  requestTimeoutS: 10,
  totalTimeoutS: 3600,
  baseWaitS: 2,
  capWaitS: 30,
  longestWaitS: 300,
};
const [URL_KEY, VERSION_KEY] = ["VITE_MODEL_URL", "VITE_MODEL_VERSION"];
const [MANIFEST, CHECKSUMS, CONFIG] = ["manifest.json", "SHA256SUMS", "config.json"];
const LAYOUTS = ["flat", "transformers.js"];
/** What transformers.js asks for; dev servers answer with a page where a file is missing, so it must be there. */
const ASKED_FOR = ["tokenizer_config.json", "generation_config.json"];
const NUMBER = "(?:0|[1-9][0-9]*)";
const IDENTIFIER = `(?:${NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)`;
const TAG = new RegExp(`^model-v${NUMBER}\\.${NUMBER}\\.${NUMBER}(?:-${IDENTIFIER}(?:\\.${IDENTIFIER})*)?$`);
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/;
const NOT_THIS = "Do not use this release; make it again.";
const LFS_POINTER = "a Git LFS pointer in place of the file (run `git lfs pull`, or give actions/checkout `lfs: true`)";
const TREE = `Commit the release's files (all of them, in full), or set ${URL_KEY} to its address to fetch them.`;

// -- failures and files

const [USAGE, WRITING, RELEASE, HOST, ENV_FILE] = [2, 5, 7, 8, 9];

/** A failure with a sentence for whoever ran this, and an exit code. */
export class Failure extends Error {
  constructor(/** @type {number} */ code, /** @type {string} */ sentence, /** What arrived stays. */ goesOn = false) {
    super(printable(sentence).trim().replace(/ +/g, " "));
    this.code = code;
    this.goesOn = goesOn;
  }
}

/** A failure that may pass; a server may say when. */
class Passing extends Error {
  constructor(/** @type {string} */ reason, /** @type {number | null} */ waitS = null) {
    super(reason);
    this.waitS = waitS;
  }
}

/** Text that starts no line of its own and commands no terminal. @param {string} text */
const printable = (text) => text.replace(/[\p{C}\p{Z}]/gu, " ");

/** A text whose addresses tell neither their login nor the keys of their query. @param {string} text */
const discreet = (text) =>
  text
    .replace(/(?<=\/\/)[^/\s'"]*@|(?<![^\s'"=])[^/\s'":=@]+:[^/\s'"=]*@/g, "***@")
    .replace(/([?&][^=&\s]*(?:credential|key|password|secret|sig|token)[^=&\s]*=)[^&#\s'"]+/gi, "$1***");

/** Foreign text as a short quote in ASCII. @param {string} text */
function quoted(text, limit = 80, more = "") {
  const told = discreet(text);
  const short = told.length > limit ? told.slice(0, limit) + more : told;
  const coded = (/** @type {string} */ c) =>
    c < "\x80" ? JSON.stringify(c).slice(1, -1) : `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return `'${short.replace(/[^ -~]|\\/g, coded)}'`;
}

/** What the system says of a failure; nothing if it is not the system's. @param {NodeJS.ErrnoException} [failure] */
const systemWords = (failure) =>
  ({ EISDIR: "is a directory", EEXIST: "file exists", EFBIG: "no file of a sane size" })[failure?.code ?? ""] ??
  getSystemErrorMap().get(failure?.errno ?? 0)?.[1];

/** Turns what the system refuses into a sentence. @template T @param {Promise<T>} work @param {number} code
 * @param {string} must @param {string} advice */
const explained = (work, code, must, advice) =>
  work.catch((failure) => {
    const words = systemWords(failure);
    throw words ? new Failure(code, `${must}, got: ${words[0]?.toUpperCase()}${words.slice(1)}. ${advice}`) : failure;
  });

/** Explains what cannot be written below the static folder. @template T @param {string} path @param {Promise<T>} work */
const placing = (path, work) => {
  const advice = "Choose another --static-dir, or free the space and the permissions it needs.";
  return explained(work, WRITING, `${path} must be writable`, advice);
};

/** A small file's content: a pipe is not waited for, and a device or a sparse giant not read.
 * @param {string} path @param {number} [limit] */
async function readSmall(path, limit = 2 ** 23) {
  const file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  try {
    const found = await file.stat();
    if (found.isDirectory()) throw Object.assign(new Error(), { code: "EISDIR" });
    if (!found.isFile() || found.size > limit) throw Object.assign(new Error(), { code: "EFBIG" });
    return await file.readFile();
  } finally {
    await file.close();
  }
}

/** A file's bytes; null where there is none. @param {string} path @param {number} code */
const bytesOf = (path, code) => {
  const content = readSmall(path).catch((failure) => (failure.code === "ENOENT" ? null : Promise.reject(failure)));
  return explained(content, code, `${path} must be a readable file`, "Correct the path.");
};

/** Writes a file whole or not at all. @param {string} target @param {Uint8Array} content @param {number} code */
async function writeWhole(target, content, code) {
  const path = await realpath(target).catch(() => target); // A symbolic link stays one.
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(4).toString("hex")}.partial`);
  const write = async () => {
    const mode = (await stat(path).catch(() => null))?.mode ?? 0o666;
    await mkdir(dirname(path), { recursive: true });
    await writeFile(temporary, content, { mode, flush: true });
    await rename(temporary, path);
  };
  const advice = "Choose another path, or free the space and the permissions it needs.";
  const clean = () => rm(temporary, { force: true });
  await explained(write(), code, `${target} must be writable`, advice).finally(clean);
}

/** The size of a file that was begun; a pipe or a link in its place is removed. @param {string} path */
async function begun(path) {
  const found = await lstat(path).catch(() => null);
  if (!found || found.isFile()) return found?.size ?? 0;
  await placing(path, unlink(path));
  return 0;
}

/** Whether a file is the promised one. @param {string} path @param {Entry} entry */
async function isThere(path, { size_bytes, sha256 }) {
  const found = await stat(path).catch(() => null);
  if (!found?.isFile() || found.size !== size_bytes) return false;
  const hash = createHash("sha256");
  for await (const piece of createReadStream(path)) hash.update(piece);
  return hash.digest("hex") === sha256;
}

/** Whether Git LFS keeps the file elsewhere, and has put a pointer here. @param {string} path */
async function isPointer(path) {
  const content = await readSmall(path, 1023).catch(() => null);
  return !!content?.toString("latin1").startsWith("version https://git-lfs.github.com/spec/v1\n");
}

// -- the env file: assignments are found as `dotenv` finds them; app/envfile.py explains the rules

const QUOTED = ["'", '"', "`"].map((q) => String.raw`\s*${q}(?:\\${q}|[^${q}])*${q}`).join("|");
const SEPARATOR = String.raw`\s*=\s*?|:(?:\r\n|(?!\r\n)\s)+?`;
const ASSIGNMENT = new RegExp(
  String.raw`^\s*(?:export\s+)?(?<key>[\w.-]+)(?<separator>${SEPARATOR})(?<raw>${QUOTED}|[^#\r\n]+)?\s*(?:#.*)?$`,
  "dgm",
);

/** What a text assigns; `start` and `end` are those of the value, with its quotes. @param {string} text */
const assignments = (text) =>
  [...text.matchAll(ASSIGNMENT)].map((match) => {
    const { key = "", raw = "" } = match.groups ?? {};
    const trimmed = raw.trim();
    let value = trimmed.replace(/\r\n?/g, "\n").replace(/^(['"`])([\s\S]*)\1$/gm, "$2");
    if (trimmed.startsWith('"')) value = value.replaceAll("\\n", "\n").replaceAll("\\r", "\r");
    const quotes = /^(['"`])[\s\S]*\1$/m.exec(trimmed);
    const from = match.indices?.groups?.key?.[0] ?? 0;
    const start = (match.indices?.groups?.separator?.[1] ?? 0) + raw.indexOf(trimmed);
    const line = 1 + (text.slice(0, from).match(/\r\n?|\n/g)?.length ?? 0);
    return { key, value, quote: quotes?.index === 0 ? quotes[1] : "", line, from, start, end: start + trimmed.length };
  });

/** A value after `dotenv-expand`; null if it refers to something outside it. @param {string} value */
const expanded = (value) => (/(?<!\\)\$[\w.{(]/.test(value) ? null : value.replaceAll("\\$", "$"));

/** What Vite reads for a key from this text alone; "" if nothing. @param {string} text @param {string} key */
function readValue(text, key) {
  const found = assignments(text).findLast((each) => each.key === key);
  const value = expanded(found?.value ?? "");
  if (value !== null) return value;
  const got = `got the reference ${quoted(found?.value ?? "", 60, "...")} on line ${found?.line}`;
  const advice = "Write the value itself, or a dollar sign as \\$.";
  throw new Failure(ENV_FILE, `${key} must be a plain value, ${got}. ${advice}`);
}

/** The text with a key set and every other byte as it was; our values hold no quote, `$`, `#` or backslash.
 * @param {string} text @param {string} key @param {string} value */
function withValue(text, key, value) {
  const read = (/** @type {string} */ now, ours = false) =>
    assignments(now).filter((each) => (each.key === key) === ours);
  const values = (/** @type {string} */ now, ours = false) =>
    JSON.stringify(read(now, ours).map((each) => [each.key, each.value]));
  const must = (/** @type {string} */ rest) => new Failure(ENV_FILE, `${key} must ${rest}.`);
  const [at, second] = read(text, true);
  const lines = read(text, true)
    .map((each) => each.line)
    .join(", ");
  if (second) throw must(`be assigned once, got it on lines ${lines}. Delete all but one of them`);
  if (at && expanded(at.value) === value) return text;
  if (at && /[\n\r\u2028\u2029]/.test(text.slice(at.from, at.start)))
    throw must(`share a line with its value, got a break at ${lines}. Join the lines`);
  for (const quote of [at?.quote ?? "", "", '"', "'", "`"]) {
    const written = quote + value + quote;
    const edited = at ? text.slice(0, at.start) + written + text.slice(at.end) : withLine(text, `${key}=${written}`);
    // An open quote further up can swallow what is written here.
    if (values(edited) === values(text) && values(edited, true) === JSON.stringify([[key, value]])) return edited;
  }
  const problem = `have a value that can stand beside the file's other lines, got ${quoted(value, 60, "...")}`;
  throw must(`${problem}. Use fewer kinds of quotes in it, and close the quotes of the other lines`);
}

/** The text with one more line, ended the way most of its lines are. @param {string} text @param {string} line */
function withLine(text, line) {
  const [lf = 0, crlf = 0, cr = 0] = [/(?<!\r)\n/g, /\r\n/g, /\r(?!\n)/g].map((end) => text.match(end)?.length);
  const ending = lf >= crlf && lf >= cr ? "\n" : crlf >= cr ? "\r\n" : "\r";
  return text + (text === "" || /[\n\r]$/.test(text) ? "" : ending) + line + ending;
}

/** An env file's text, and the encoding in which it is the same bytes again. @param {Buffer} bytes
 * @param {string} file @returns {[string, BufferEncoding]} */
function decoded(bytes, file) {
  const latin1 = bytes.toString("latin1");
  const isUtf16 = /^(\xff\xfe|\xfe\xff)/.test(latin1);
  const line = latin1.split("\0", 1)[0]?.split("\n").length;
  const got = isUtf16 ? "the byte order mark of UTF-16" : `a zero byte on line ${line}, as UTF-16 has`;
  const advice = "Save it as UTF-8; > and >> of Windows PowerShell do not.";
  if (isUtf16 || bytes.includes(0)) throw new Failure(ENV_FILE, `${file} must be UTF-8, got ${got}. ${advice}`);
  return Buffer.from(`${bytes}`).equals(bytes) ? [`${bytes}`, "utf8"] : [latin1, "latin1"];
}

/** What the env file says. @param {string} envFile @returns {Promise<Committed>} */
async function readCommitted(envFile) {
  const must = (/** @type {string} */ rest) => new Failure(ENV_FILE, `${envFile} must ${rest}.`);
  const bytes = await bytesOf(envFile, ENV_FILE);
  if (!bytes) throw must("exist. Make a release first, or correct its path");
  const [text] = decoded(bytes, envFile);
  const [version, url] = [VERSION_KEY, URL_KEY].map((key) => readValue(text, key));
  if (!version) throw must(`set ${VERSION_KEY}, got nothing. Make a release first`);
  if (!url) throw must(`set ${URL_KEY}, got nothing. Make a release first`);
  const parts = /^(?:([a-z][a-z0-9+.-]*):)?(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?/i.exec(url);
  const [, scheme = "", host, path = "", query] = parts ?? [];
  const file = unquoted(path).replace(/.*\//s, "");
  if (!/^(https?)?$/i.test(scheme) || (host && !(scheme && URL.canParse(url))) || !file) throw noUrl(envFile, url);
  const asked = new URLSearchParams(query).getAll("v").filter(Boolean).at(-1) ?? "";
  return { version, url: url.replace(/[?#].*/s, ""), file, query: asked };
}

const noUrl = (/** @type {string} */ envFile, /** @type {string} */ url) => {
  const must = `${envFile} must set ${URL_KEY} to an http(s) URL or a path in the app`;
  return new Failure(ENV_FILE, `${must}, got ${quoted(url)}. Correct it.`);
};

const unquoted = (/** @type {string} */ text) => text.replace(/%[2-7][0-9a-f]/gi, decodeURIComponent);

// -- servers

/** A URL for a message: a query may hold a signature. @param {string} url */
const withoutSecrets = (url) => (new URL(url).origin + new URL(url).pathname).slice(0, 200);

/** Where we go: to hosts over http(s), with no login, and never from https down to http. @param {string} to */
function address(to, from = "") {
  const isWhole = /^[a-z][a-z0-9+.-]*:/i.test(to);
  if (isWhole && !/^https?:\/\/[^/?#]/i.test(to)) return null;
  const url = URL.canParse(to, from || undefined) && !to.includes("\\") ? new URL(to, from || undefined) : null;
  const isDown = from.startsWith("https:") && url?.protocol === "http:";
  return !url || url.username || url.password || isDown || to.length > 8192 ? null : url.href;
}

/** Uses an answer: redirects are followed with care, every wait ends, and a token stays with the origin asked first.
 * @template T @param {string} first @param {Record<string, string>} headers @param {Line} line @param {string} token
 * @param {(answer: Response, pieces: Pieces) => Promise<T>} use */
async function get(first, headers, { patience, deadline }, token, use) {
  const must = `${withoutSecrets(first)} must lead to a file`;
  const stop = new AbortController();
  let heard = Date.now();
  const watch = setInterval(() => {
    if (Date.now() > deadline) stop.abort(new Passing("an answer that did not end in time"));
    if (Date.now() > heard + 1000 * patience.requestTimeoutS) stop.abort(new Passing("no answer in time"));
  }, 50);
  const own = { "User-Agent": "model-release", "Accept-Encoding": "identity", ...headers };
  try {
    for (let [url, hops] = [first, 0]; hops <= 10; hops++) {
      const isTrusted = token && new URL(url).origin === new URL(first).origin;
      const all = isTrusted ? { ...own, Authorization: `Bearer ${token}` } : own;
      const answer = await fetch(url, { headers: all, redirect: "manual", signal: stop.signal });
      const location = answer.headers.get("location");
      heard = Date.now();
      if (![301, 302, 303, 307, 308].includes(answer.status) || !location) {
        const pieces = async function* () {
          for await (const piece of answer.body ?? []) {
            yield piece;
            heard = Date.now();
          }
        };
        return await use(answer, pieces());
      }
      await answer.body?.cancel();
      const next = address(location.trim(), url);
      if (!next) throw new Failure(HOST, `${must}, but an address on its way is none to follow. Do not use it.`);
      url = next;
    }
    throw new Failure(HOST, `${must}, got more than 10 redirects. Correct it.`);
  } catch (/** @type {any} */ failure) {
    if (failure.name !== "TypeError") throw failure; // All that `fetch` itself throws is a TypeError.
    const cause = failure.cause?.errors?.[0] ?? failure.cause; // A host may have several addresses.
    throw new Passing(systemWords(cause) ?? "a connection that broke off");
  } finally {
    clearInterval(watch);
    stop.abort();
  }
}

/** Which part of a file an answer is. @param {Response} answer @param {Pieces} pieces
 * @param {string} what @param {number} asked @param {string} advice @returns {Part} */
function partOf({ status, headers }, pieces, what, asked, advice) {
  const number = (/** @type {string} */ text = "") => (/^[0-9]{1,15}$/.test(text) ? Number(text) : null);
  const header = (/** @type {string} */ name) => headers.get(name) ?? "";
  const after = header("retry-after");
  const atMs = / GMT$/.test(after) ? Date.parse(after) : Number.NaN;
  const waitS = number(after) ?? (atMs ? Math.max(0, atMs - Date.now()) / 1000 : null);
  if ([408, 429, 500, 502, 503, 504].includes(status) || (status === 403 && waitS !== null))
    throw new Passing(`status ${status}`, waitS);
  if (![200, 206].includes(status) && !(status === 416 && asked))
    throw new Failure(HOST, `${what} must be open to us, got status ${status}. ${advice}`);
  const encoding = header("content-encoding") || "identity";
  if (encoding.toLowerCase() !== "identity")
    throw new Failure(HOST, `${what} must be sent as it is, got the encoding ${encoding.slice(0, 40)}. ${advice}`);
  const etag = /^"[\x21\x23-\x7e]{0,200}"$/.exec(header("etag"))?.[0] ?? "";
  if (status === 200) return { start: 0, size: number(header("content-length")), etag, pieces };
  const range = status === 206 ? header("content-range") : "";
  const [, start, size] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(range) ?? [];
  return { start: number(start), size: number(size), etag, pieces };
}

/** All of a short answer. @param {Pieces} pieces @param {number} limit @param {Failure} tooLong */
async function whole(pieces, limit, tooLong) {
  let content = Buffer.alloc(0);
  for await (const piece of pieces) {
    content = Buffer.concat([content, piece]);
    if (content.length > limit) throw tooLong;
  }
  return content;
}

/** Where the release is: side by side at an address, or on GitHub, where private ones are read through the API.
 * @param {string} folder @param {string} tag @param {Record<string, string | undefined>} environment
 * @param {Line} line @returns {Source} */
function sourceOf(folder, tag, environment, line) {
  const must = "a release's address must be http(s)://HOST/PATH without a login";
  if (!address(folder)) throw new Failure(USAGE, `${must}, got ${quoted(folder)}. Correct it.`);
  const server = (environment.GITHUB_SERVER_URL?.trim() || "https://github.com").replace(/\/+$/, "");
  const below = folder.startsWith(`${server}/`) ? folder.slice(server.length + 1) : "";
  const repository = /^([\w-]{1,64}\/[\w.-]{1,100})\/releases\/download\/[^/]+$/.exec(below)?.[1];
  const token = (repository && environment.GITHUB_TOKEN?.trim()) || "";
  if (!/^[\x21-\x7e]*$/.test(token)) throw new Failure(USAGE, "GITHUB_TOKEN must be one word of ASCII. Copy it again.");
  const name = repository ? `${tag} of ${repository}` : withoutSecrets(folder);
  const may = token ? " and GITHUB_TOKEN may read it" : "; a private one needs GITHUB_TOKEN";
  const check = `Check the env file, and that the release is public${may}.`;
  const advice = repository ? check : "Correct the address or the tag.";
  const apiServer = (environment.GITHUB_API_URL?.trim() || "https://api.github.com").replace(/\/+$/, "");
  const api = `${apiServer}/repos/${repository}/releases`;
  /** @type {Map<string, number> | undefined} */
  let assets;
  const list = async () => {
    const what = `${name} in GitHub's API`;
    const problem = new Failure(HOST, `${what} must list its assets, got something else. Check GITHUB_API_URL.`);
    const headers = { Accept: "application/vnd.github+json" };
    const content = await get(`${api}/tags/${tag}`, headers, line, token, (answer, pieces) =>
      whole(partOf(answer, pieces, what, 0, advice).pieces, 2 ** 24, problem),
    );
    try {
      /** @type {{ name: string, id: number, state: string }[]} */
      const listed = JSON.parse(`${content}`).assets;
      return new Map(listed.filter((each) => each.state === "uploaded").map((each) => [each.name, each.id]));
    } catch {
      throw problem;
    }
  };
  /** @type {Ask} */
  const ask = async (file, start, etag, use) => {
    const what = repository ? `${file} of ${name}` : withoutSecrets(`${folder}/${file}`);
    /** @type {Record<string, string>} */
    const range = start ? { Range: `bytes=${start}-`, ...(etag && { "If-Range": etag }) } : {};
    const useIt = async (/** @type {Response} */ answer, /** @type {Pieces} */ pieces) =>
      assets || answer.status !== 404 || !token
        ? { value: await use(partOf(answer, pieces, what, start, advice)) }
        : null;
    if (!assets) {
      const found = await get(`${folder}/${file}`, range, line, "", useIt);
      if (found) return found.value;
      assets = await list();
    }
    const headers = { ...range, Accept: "application/octet-stream" };
    const found = assets.has(file) && (await get(`${api}/assets/${assets.get(file)}`, headers, line, token, useIt));
    if (found) return found.value;
    throw new Failure(HOST, `${name} must hold ${file}, got no such file. Publish the release again.`);
  };
  return { name, ask, line };
}

// -- the release

/** A manifest, as far as it is used here. @param {Buffer} content */
function parseManifest(content) {
  const bad = (/** @type {string} */ must) => new Failure(RELEASE, `${MANIFEST} must ${must}. Make the release again.`);
  /** @type {any} */
  let all;
  try {
    all = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(content));
  } catch (/** @type {any} */ failure) {
    throw bad(`be JSON, got: ${failure.message}`);
  }
  const text = (/** @type {any[]} */ ...values) => values.every((value) => typeof value === "string");
  const list = (/** @type {any} */ values, /** @type {(each: any) => boolean} */ fits) =>
    Array.isArray(values) && values.length > 0 && values.every((each) => each && fits(each));
  const isFile = (/** @type {Entry} */ { name, size_bytes, sha256 }) =>
    text(name, sha256) && Number.isInteger(size_bytes) && size_bytes >= 0 && /^[0-9a-f]{64}$/.test(sha256);
  const fits =
    (all?.manifest_version === 1 || (all?.manifest_version === 2 && Array.isArray(all.descriptions))) &&
    text(...(all.descriptions ?? [])) &&
    text(all.tag, all.version, all.name, all.delivery?.file) &&
    list(all.variants, (each) => text(each.precision, each.file)) &&
    list(all.files, isFile);
  if (!fits) throw bad("fit contract/manifest.schema.json, got another form");
  /** @type {{ tag: string, version: string, name: string, delivery: { file: string }, files: Entry[], descriptions?: string[], variants: { precision: string, file: string }[] }} */
  const manifest = all;
  return manifest;
}

/** What the app gets. Names become paths here and sizes become downloads, so both are judged first.
 * @param {ReturnType<typeof parseManifest>} manifest @param {Committed} committed @param {Request} request
 * @returns {Model} */
function modelOf(manifest, { version, file, query }, { precision, layout }) {
  const bad = (/** @type {string} */ problem, advice = NOT_THIS) => new Failure(RELEASE, `${problem}. ${advice}`);
  const tag = `model-v${version}`;
  if (manifest.tag !== tag || manifest.version !== version)
    throw bad(`${MANIFEST} must be of ${tag}, got ${quoted(manifest.tag)} with version ${quoted(manifest.version)}`);
  if (!NAME.test(manifest.name) || manifest.name.length > 100)
    throw bad(`the model's name must match [A-Za-z0-9][A-Za-z0-9._-]{0,99}, got ${quoted(manifest.name)}`);
  const entries = new Map(manifest.files.map((each) => [each.name, each]));
  const folded = new Set(manifest.files.map((each) => each.name.toLowerCase())); // As Windows and macOS see names.
  for (const { name, size_bytes } of manifest.files) {
    if (!NAME.test(name) || name.endsWith("."))
      throw bad(`a release file's name must match ${NAME.source.slice(1, -1)}, got ${quoted(name)}`);
    if (!folded.delete(name.toLowerCase())) throw bad(`${name} must be listed once`);
    if (size_bytes >= 2 ** 31) throw bad(`${name} must be smaller than 2 GiB, got ${size_bytes} bytes`);
  }
  if (entries.size > 1000) throw bad(`a release must have at most 1000 files, got ${entries.size}`);
  const variants = new Map(manifest.variants.map((each) => [each.precision, each.file]));
  const model = precision === undefined ? manifest.delivery.file : variants.get(precision);
  if (model === undefined) {
    const known = [...variants.keys()].sort().map((each) => quoted(each));
    const must = `--precision must be one of this release, ${known.join(", ")}, got ${quoted(precision ?? "", 60)}`;
    throw bad(must, "Choose one of them.");
  }
  const isModel = (/** @type {string} */ name) =>
    name.startsWith(model) && /^(_data(_[1-9][0-9]{0,3})?)?$/.test(name.slice(model.length));
  const others = [...entries.keys()].sort().filter((name) => name !== model);
  const names = [
    model,
    ...others.filter(isModel),
    ...others.filter((name) => /^(tokenizer|vocab\.|merges\.)/.test(name)),
  ];
  const files = [...names, CONFIG].map((name) => {
    const entry = entries.get(name);
    if (!entry) throw bad(`${MANIFEST} must list ${quoted(name)} among its files`);
    return { ...entry, path: layout === "transformers.js" && isModel(name) ? `onnx/${name}` : name };
  });
  if (
    new Set(names).size !== names.length ||
    [MANIFEST, CONFIG].includes(model) ||
    /^(tokenizer|vocab\.|merges\.)/.test(model)
  )
    throw bad(`the model must be a file of its own, got ${quoted(model)}`);
  const versioned = (/** @type {string} */ name) => `${version}-${entries.get(name)?.sha256.slice(0, 8)}`;
  const expected = entries.has(file) ? versioned(file) : "nothing of this name";
  if (query !== expected) {
    const but = `but ${URL_KEY} says ?v=${quoted(query)} and ${tag} has ${expected}`;
    const must = `the env file and the release must agree on ${quoted(file)}, ${but}`;
    throw bad(must, "Release again, or correct the env file.");
  }
  return { folder: manifest.name, url: `models/${manifest.name}/${files[0]?.path}?v=${versioned(model)}`, files };
}

/** The manifest that `SHA256SUMS` vouches for. @param {Source} source */
async function askManifest(source) {
  const bad = (/** @type {string} */ problem) => new Failure(RELEASE, `${problem}. ${NOT_THIS}`);
  const small = (/** @type {string} */ file, /** @type {number} */ limit) => {
    const tooLong = bad(`${file} of ${source.name} must have at most ${(limit / 1e6).toFixed()} MB`);
    return patiently(file, source, () => source.ask(file, 0, "", (part) => whole(part.pieces, limit, tooLong)));
  };
  const sums = new Map();
  for (const line of `${await small(CHECKSUMS, 2 ** 20)}`.split(/\r?\n/).filter(Boolean)) {
    const [, sum, name = ""] = /^([0-9a-f]{64}) [ *](.+)$/.exec(line) ?? [];
    const must = `${CHECKSUMS} must hold a sha256 and a name a line, each name once, got ${quoted(line)}`;
    if (!NAME.test(name) || sums.has(name)) throw bad(must);
    sums.set(name, sum);
  }
  const content = await small(MANIFEST, 2 ** 23);
  const sha256 = createHash("sha256").update(content).digest("hex");
  const promised = sums.get(MANIFEST) ?? "which is none";
  if (promised !== sha256)
    throw bad(`${MANIFEST} must have the sha256 that ${CHECKSUMS} gives, ${promised}, got ${sha256}`);
  const manifest = parseManifest(content);
  for (const each of manifest.files) {
    const both = `got ${each.sha256} in ${MANIFEST} and ${sums.get(each.name) ?? "none"} in ${CHECKSUMS}`;
    if (sums.get(each.name) !== each.sha256) throw bad(`${quoted(each.name)} must have one sha256, ${both}`);
  }
  const missing = manifest.descriptions?.find((each) => !sums.has(each));
  if (missing !== undefined) throw bad(`${CHECKSUMS} must have the sha256 of ${quoted(missing)}, got none`);
  return { content, manifest };
}

// -- downloads

/** Tries until it works, fails for good, or has had its attempts. @template T
 * @param {string} what @param {Source} source @param {() => Promise<T>} attempt */
async function patiently(what, { name, line: { patience, deadline, tell } }, attempt) {
  for (let tried = 1; ; tried++) {
    try {
      return await attempt();
    } catch (/** @type {any} */ failure) {
      if (!(failure instanceof Passing)) throw failure;
      const backoffS = Math.min(patience.baseWaitS * 2 ** (tried - 1), patience.capWaitS);
      const waitS = failure.waitS ?? (backoffS * (1 + Math.random())) / 2;
      const isLast = tried >= patience.attempts;
      if (isLast || waitS > patience.longestWaitS || Date.now() + 1000 * waitS > deadline) {
        const late = isLast ? "" : `; the next attempt would be in ${waitS.toFixed()} s, which is too late`;
        const got = `${failure.message}${late} (attempts: ${tried})`;
        const advice = "Check the network and run it again; it goes on where it stopped.";
        throw new Failure(HOST, `${what} of ${name} must arrive, got: ${got}. ${advice}`, true);
      }
      tell(`${what}: ${failure.message}; attempt ${tried + 1} in ${waitS.toFixed(1)} s`);
      await sleep(1000 * waitS);
    }
  }
}

/** Downloads what is missing beside its place, and puts it there when all has come: how many files. After a final no,
 * nothing is left of it. @param {Entry[]} files @param {string} folder @param {Source} source */
async function downloadAll(files, folder, source) {
  /** @type {Map<string, { own: string, rest: string }>} Of a run, and for the next one. */
  const partials = new Map();
  const [made, places] = [new Map(), new Map()];
  const run = `.${process.pid}-${randomBytes(4).toString("hex")}`;
  try {
    for (const file of files) {
      const path = join(folder, file.path ?? "");
      const top = await placing(dirname(path), mkdir(dirname(path), { recursive: true }));
      if (top) made.set(dirname(path), top);
      if (await isThere(path, file)) continue;
      places.set(file, dirname(path));
    }
    for (const [file, place] of places) {
      const partial = { own: partialOf(file, place, run), rest: partialOf(file, place) };
      partials.set(join(place, file.name), partial);
      await download(partial.own, file, place, source);
    }
    for (const [path, { own }] of partials) await placing(path, rename(own, path));
  } catch (/** @type {any} */ failure) {
    for (const { own, rest } of partials.values()) await rename(own, rest).catch(() => {}); // If anything has come.
    const isFinal = [HOST, RELEASE].includes(failure.code) && !failure.goesOn;
    for (const [file, place] of isFinal ? places : []) await rm(partialOf(file, place), { force: true });
    for (const [place, top] of [...made].reverse())
      for (let each = place; each.startsWith(top); each = dirname(each)) await rmdir(each).catch(() => {}); // If empty.
    throw failure;
  }
  return partials.size;
}

/** Where a file is until it is whole; each run works on one of its own, so that two at once do no harm.
 * @param {Entry} entry @param {string} folder */
const partialOf = ({ name, sha256 }, folder, run = "") => join(folder, `.${name}.${sha256.slice(0, 16)}${run}.partial`);

/** What runs that have ended left of a file, of this release or of others. @param {string} name
 * @param {string} folder */
async function leftovers(name, folder) {
  const isRunning = (/** @type {number} */ pid) => {
    try {
      return process.kill(pid, 0);
    } catch (/** @type {any} */ failure) {
      return failure.code === "EPERM";
    }
  };
  const names = (await readdir(folder)).filter((each) => each.startsWith(`.${name}.`));
  return names.flatMap((each) => {
    const [, sha256, pid] =
      /^([0-9a-f]{16})(?:\.([0-9]+)-[0-9a-f]{8})?\.partial$/.exec(each.slice(name.length + 2)) ?? [];
    return sha256 && !(pid && isRunning(Number(pid))) ? [{ path: join(folder, each), sha256 }] : [];
  });
}

/** Downloads a file beside its place, going on where an earlier run stopped, and verifies it.
 * @param {string} partial @param {Entry} entry @param {string} folder @param {Source} source */
async function download(partial, entry, folder, source) {
  const { name, size_bytes, sha256 } = entry;
  for (const left of await leftovers(name, folder))
    if (sha256.startsWith(left.sha256)) await rename(left.path, partial).catch(() => {}); // Another run may be faster.
  const mb = (/** @type {number} */ bytes) => (bytes / 1e6).toFixed(1);
  const begin = (/** @type {number} */ at) => {
    if (at !== told) source.line.tell(`${name}: ${mb(size_bytes)} MB${at ? `, going on at ${mb(at)}` : ""}`);
    told = at;
  };
  let [etag, told] = ["", -1];
  const goOn = async () => {
    let have = await begun(partial);
    if (have > size_bytes) await rm(partial);
    if (have > size_bytes) have = 0;
    if (have === size_bytes) return placing(partial, writeFile(partial, "", { flag: "a" })); // An empty file, too.
    begin(have);
    await source.ask(name, have, etag, async ({ start, size, etag: now, pieces }) => {
      if (size !== null && size !== size_bytes) return rm(partial, { force: true });
      if (start !== 0 && start !== have) {
        await rm(partial, { force: true });
        throw new Passing("another part than the wanted one");
      }
      begin(start);
      etag = now;
      if ((await append(partial, start, pieces, size_bytes)) < size_bytes)
        throw new Passing("an answer that broke off");
    });
  };
  for (const isLast of [false, true]) {
    await patiently(name, source, goOn);
    if (await isThere(partial, entry)) break;
    await rm(partial, { force: true });
    const promised = `${size_bytes} bytes and the sha256 ${sha256}, got others twice`;
    const advice = "Do not use it; publish the release again.";
    if (isLast) throw new Failure(RELEASE, `${name} of ${source.name} must have ${promised}. ${advice}`);
    source.line.tell(`${name}: other bytes than promised; once more from the start`);
    told = -1;
  }
  for (const { path } of await leftovers(name, folder)) await rm(path, { force: true });
}

/** Writes what arrives, at most a byte more than the file has. @param {string} path @param {number} start
 * @param {Pieces} pieces @param {number} limit */
async function append(path, start, pieces, limit) {
  const file = await placing(path, open(path, start ? "a" : "w"));
  let size = start;
  try {
    for await (const piece of pieces) {
      await placing(path, file.writeFile(piece.subarray(0, limit + 1 - size)));
      size = Math.min(size + piece.length, limit + 1);
      if (size > limit) break;
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return size;
}

// -- the whole

/** Brings the app its model, and writes where it is beside the env file. @param {Request} request */
export async function fetchModel(request) {
  const { envFile, staticDir, environment = process.env, tell = console.error } = request;
  const patience = { ...PATIENCE, ...request.patience };
  const line = { patience, deadline: Date.now() + 1000 * patience.totalTimeoutS, tell };
  const committed = await readCommitted(envFile);
  const { version, url } = committed;
  const tag = `model-v${version}`;
  if (!TAG.test(tag) || tag.length > 100 || tag.endsWith(".lock")) {
    const form = "model-vMAJOR.MINOR.PATCH or model-vMAJOR.MINOR.PATCH-PRERELEASE";
    const must = `tag must be ${form} (SemVer 2.0 without '+', at most 100 characters)`;
    throw new Failure(USAGE, `${must}, got ${quoted(tag, 60, "...")}. Use e.g. model-v1.0.0.`);
  }
  if (!url.includes("://")) return verifyTree(request, committed);
  const local = `${envFile}.local`;
  const [text, encoding] = decoded((await bytesOf(local, ENV_FILE)) ?? Buffer.alloc(0), local);
  const edited = (/** @type {string} */ to, /** @type {string} */ number) =>
    withValue(withValue(text, URL_KEY, to), VERSION_KEY, number);
  edited("x", "x"); // What cannot be edited is refused before there is work.
  let done = "there already, verified";
  let model = await present(request, committed);
  if (!model) {
    const source = sourceOf(url.replace(/\/[^/]*$/, ""), tag, environment, line);
    tell(`release: ${source.name}`);
    const { content, manifest } = await askManifest(source);
    model = modelOf(manifest, committed, request);
    const folder = join(staticDir, "models", model.folder);
    const count = await downloadAll(model.files, folder, source);
    for (const path of filled(request).map((name) => join(folder, name)))
      if (!existsSync(path)) await writeWhole(path, Buffer.from("{}\n"), WRITING);
    const before = await bytesOf(join(folder, MANIFEST), RELEASE);
    if (!before?.equals(content)) await writeWhole(join(folder, MANIFEST), content, WRITING);
    done = `${count} files downloaded, verified`;
  }
  const after = edited(model.url, version);
  if (after !== text) await writeWhole(local, Buffer.from(after, encoding), ENV_FILE);
  const how = after === text ? "unchanged" : "written";
  return { folder: join(staticDir, "models", model.folder), done, url: model.url, version, file: local, how };
}

/** Files of the layout that a release may lack: an empty JSON object stands for them. @param {Request} request */
const filled = ({ layout }) => (layout === "transformers.js" ? ASKED_FOR : []);

/** The model, if an earlier run has brought it whole; what is broken counts as not there.
 * @param {Request} request @param {Committed} committed */
async function present(request, committed) {
  const models = join(request.staticDir, "models");
  for (const name of (await readdir(models).catch(() => [])).sort()) {
    try {
      const model = modelOf(parseManifest(await readSmall(join(models, name, MANIFEST))), committed, request);
      const place = (/** @type {string} */ path) => join(models, name, path);
      const checks = model.files.map((file) => isThere(place(file.path ?? ""), file));
      const isWhole = (await Promise.all(checks)).every(Boolean) && filled(request).map(place).every(existsSync);
      if (model.folder === name && isWhole) return model;
    } catch {}
  }
  return null;
}

/** Delivery by git: all is in the tree already; looks whether it is what the release says.
 * @param {Request} request @param {Committed} committed */
async function verifyTree(request, committed) {
  const { envFile, staticDir, precision, layout = "flat" } = request;
  const bad = (/** @type {string} */ must) => new Failure(RELEASE, `${must}. ${TREE}`);
  if (precision !== undefined || layout !== "flat") {
    const option = precision !== undefined ? "--precision" : "--layout";
    throw new Failure(USAGE, `${option} needs a release to fetch from. Set ${URL_KEY} to its address.`);
  }
  const path = unquoted(committed.url).replace(/^\/+/, "");
  const [, name = "", file] = /^models\/([A-Za-z0-9][\w.-]*)\/([A-Za-z0-9][\w.-]*)$/.exec(path) ?? [];
  if (!name) throw noUrl(envFile, committed.url);
  const folder = join(staticDir, "models", name);
  const listed = join(folder, MANIFEST);
  if (await isPointer(listed)) throw bad(`${listed} must be in the app's tree, got: ${LFS_POINTER}`);
  const content = await explained(readSmall(listed), RELEASE, `${listed} must be in the app's tree`, TREE);
  const model = modelOf(parseManifest(content), committed, request);
  const [first] = model.files;
  if (model.folder !== name || first?.name !== file)
    throw bad(`${path} must be the model of ${listed}, got ${first?.name}`);
  for (const each of model.files) {
    const place = join(folder, each.name);
    if (await isPointer(place)) throw new Failure(RELEASE, `${place} must be the release's file, got ${LFS_POINTER}.`);
    if (!(await isThere(place, each))) throw bad(`${place} must have the sha256 ${each.sha256}`);
  }
  const url = `${committed.url}?v=${committed.query}`;
  return {
    folder,
    done: "part of the app's tree, verified",
    url,
    version: committed.version,
    file: envFile,
    how: "unchanged",
  };
}

// -- the command and the plugin

const HELP = `Usage: node fetch.mjs [OPTIONS]

  Bring the web app the model that its env file names, verified, to be served from the app's own origin. Before Vite
  runs; or add seeThroughModel() of this file to its plugins. GITHUB_TOKEN is used where a repository is private.

Options:
  --env-file PATH    The web app's env file.  [default: apps/web/.env.production]
  --static-dir DIR   What the app serves at its base. [default: static beside the env file]
  --precision NAME   Another variant than the one the release chose for the app.
  --layout NAME      flat, or transformers.js: where that library looks for the files. [default: flat]
  --help             Show this message and exit.`;

/** The command: its exit code. @param {string[]} args @param {Record<string, string | undefined>} environment
 * @param {Partial<typeof PATIENCE>} [patience] */
export async function main(args, environment, patience = {}) {
  try {
    const options = optionsOf(args);
    if (options.help) {
      console.log(HELP);
      return 0;
    }
    const { url, version, folder, done, file, how } = await fetchModel({ ...options, environment, patience });
    for (const [key, value] of Object.entries({ [URL_KEY]: url, [VERSION_KEY]: version })) {
      const found = environment[key];
      const what = `the environment sets ${key} to ${found ? quoted(found) : "nothing"}`;
      if (found !== undefined && found !== value)
        console.error(`warning: ${what}, and Vite takes it before any file. Unset it for the app's build.`);
    }
    console.log(`${folder}: ${done}\n${file} (${how}): ${URL_KEY}=${url}`);
    return 0;
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    console.error(`error: ${failure.message}`);
    if (environment.GITHUB_ACTIONS === "true")
      console.log(`::error title=fetch.mjs::${failure.message.replaceAll("%", "%25")}`);
    return failure.code;
  }
}

/** @param {string[]} args */
function optionsOf(args) {
  const text = { type: /** @type {const} */ ("string") };
  const known = {
    "env-file": text,
    "static-dir": text,
    precision: text,
    layout: text,
    help: { type: /** @type {const} */ ("boolean") },
  };
  const see = "See node fetch.mjs --help.";
  /** @type {{ "env-file"?: string, "static-dir"?: string, precision?: string, layout?: string, help?: boolean }} */
  let options;
  try {
    options = parseArgs({ args, options: known }).values;
  } catch (/** @type {any} */ failure) {
    throw new Failure(USAGE, `${failure.message.split(". ")[0]}. ${see}`);
  }
  const { "env-file": envFile = "apps/web/.env.production", layout = "flat", ...others } = options;
  const staticDir = options["static-dir"] ?? join(dirname(envFile), "static");
  if (!envFile || !staticDir) throw new Failure(USAGE, `a path must not be empty. ${see}`);
  if (!LAYOUTS.includes(layout))
    throw new Failure(USAGE, `--layout must be ${LAYOUTS.join(" or ")}, got ${quoted(layout)}. ${see}`);
  return { envFile: normalize(envFile), staticDir: normalize(staticDir), layout, ...others };
}

/** A plugin for Vite: the model is there before `npm run dev` and `npm run build`, and the app knows its URL in both.
 * @param {Partial<Request>} options The env file is `.env.production` beside the app, unless told otherwise. */
export function seeThroughModel(options = {}) {
  /** @param {{ root?: string, envDir?: string | false, publicDir?: string | false }} user */
  const config = async (user, /** @type {{ isPreview?: boolean }} */ { isPreview }) => {
    if (isPreview) return undefined; // It serves what a build has made.
    const root = resolve(user.root ?? ".");
    const envFile = resolve(root, user.envDir || "", ".env.production");
    const found = await fetchModel({ envFile, staticDir: resolve(root, user.publicDir || "public"), ...options });
    const values = { [URL_KEY]: found.url, [VERSION_KEY]: found.version };
    // `vite dev` does not read `.env.production`; and what the environment sets must not come first.
    const define = Object.entries(values).map(([key, value]) => [`import.meta.env.${key}`, JSON.stringify(value)]);
    return { define: Object.fromEntries(define) };
  };
  return { name: "see-through-model", config };
}

const started = process.argv[1] ?? "";
if (existsSync(started) && realpathSync(started) === fileURLToPath(import.meta.url))
  main(process.argv.slice(2), process.env).then((code) => {
    process.exitCode = code; // Not awaited: Vite bundles its config, and what that imports, as CommonJS in some apps.
  });
