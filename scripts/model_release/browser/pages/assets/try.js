// The live page: what the release beside it returns for a text, and how the text goes on.

const MAX_TOKENS = 256; // Pictures of more are too small to read.

function startPage() {
  const views = createViews(
    {
      append: (position, id) => attempt(() => goOn(position, id)),
      switchHead: (head) => attempt(() => switchHead(head)),
    },
    switchesView,
  );
  /** @type {Release | undefined} */
  let release;
  /** @type {Model | undefined} */
  let model;
  /** @type {Written | undefined} */
  let shown;
  /** @type {Head[]} */
  let off = [];
  let isBusy = false;
  let isStopped = false;

  /** @param {string} text */
  const say = (text) => (element("status").textContent = text);

  // Runs one thing at a time, and puts what went wrong into one sentence.
  /** @param {() => Promise<unknown>} work */
  async function attempt(work) {
    if (isBusy) return;
    const focused = document.activeElement;
    isBusy = true;
    allow();
    element("error").hidden = true;
    try {
      await work();
    } catch (failure) {
      say(model?.loaded ?? "");
      element("error").textContent =
        failure instanceof Explained ? failure.message : `Unexpected: ${failure}. Please report it.`;
      element("error").hidden = false;
    } finally {
      element("stop").disabled = true;
      element("pace").textContent = "";
      isBusy = false;
      allow();
      // A button that is switched off loses the focus, which keys would then look for from the top.
      if (focused instanceof HTMLElement && document.activeElement === document.body) focused.focus();
    }
  }

  function allow() {
    element("run").disabled = isBusy;
    element("run").textContent = model || isBusy ? "Run" : "Try again";
    element("precision").disabled = isBusy || !release;
    element("step").disabled = element("write").disabled = isBusy || !model;
    element("text").readOnly = isBusy;
    mark();
  }

  // Pictures of another text or model than the one above them say so.
  const isCurrent = () => shown?.text === element("text").value && shown.model === model;

  function mark() {
    element("stale").hidden = !shown || isCurrent();
  }

  async function getRelease() {
    if (release) return release;
    say("Reading the release");
    release = await loadRelease();
    const { manifest } = release;
    element("tag").textContent = `Live, in this browser · ${manifest.tag}`;
    element("name").textContent = document.title = manifest.name;
    element("version").textContent = manifest.version;
    const options = manifest.variants.map(({ file, precision, size_bytes: size }) =>
      make("option", { value: file }, `${precision}, ${(size / 1e6).toFixed(1)} MB`),
    );
    element("precision").replaceChildren(...options);
    element("precision").value = manifest.delivery.file;
    offerTries(release.tries, ({ text, sample }) => {
      element("text").value = text ?? "";
      attempt(() => run(sample?.telling));
    });
    return release;
  }

  async function getModel() {
    const { manifest } = await getRelease();
    const file = element("precision").value;
    if (model?.file === file) return model;
    await model?.session.release();
    model = undefined;
    say(`Loading ${file}`);
    model = await loadModel(file, manifest, (share) => (element("progress").value = share));
    element("no-cache").hidden = hasCache(model.session);
    return model;
  }

  /** @param {Manifest} manifest */
  const longest = ({ model: { shape } }) => Math.min(MAX_TOKENS, shape.context ?? shape.positions ?? MAX_TOKENS);

  // What to look at comes with a text, or from the report for the first one.
  /** @param {Partial<Choice>} [telling] */
  async function run(telling) {
    const [{ manifest, tokenizer, telling: first }, model] = [await getRelease(), await getModel()];
    const text = element("text").value;
    const { ids } = tokenizer.encode(text, { add_special_tokens: false });
    const most = longest(manifest);
    if (ids.length < 1 || ids.length > most)
      throw new Explained(
        `The text must have 1 to ${most} tokens, it has ${ids.length}. ${ids.length ? "Shorten it." : "Write something."}`,
      );
    const reading = new Reading(model, hasGains(model.session) ? off : []);
    await reading.read(ids);
    const plain = off.length ? new Reading(model) : reading;
    const choice = telling ?? (shown ? {} : first);
    show({ model, reading, plain, typed: text, prompt: ids.length, text }, tokenizer, choice);
    await compare();
    say(`${model.loaded}; ran ${ids.length} tokens in ${Math.round(reading.took)} ms`);
  }

  /** @type {(written: Written, tokenizer: Tokenizer, telling?: Partial<Choice>) => void} */
  function show(written, tokenizer, telling = {}) {
    shown = written;
    element("text").value = written.text;
    element("text").scrollTop = element("text").scrollHeight;
    views.show({ ...written.reading.sample(tokenizer, written.plain), telling });
  }

  // Lets the model with all heads on catch up, so that what both expect stands side by side.
  async function compare() {
    const { tokenizer } = await getRelease();
    if (!shown || shown.plain === shown.reading) return;
    const { ids } = shown.reading;
    const missing = ids.slice(shown.plain.ids.length);
    if (missing.length) await shown.plain.read(missing);
    show(shown, tokenizer);
  }

  /** @param {Head} [head] */
  async function switchHead(head) {
    if (!shown) return;
    const others = head ? off.filter((each) => !hasHead([each], head.layer, head.head)) : [];
    off = head && others.length === off.length ? [...off, head] : others;
    const { ids } = shown.reading;
    await compare();
    const { plain, model } = shown;
    const reading = off.length ? new Reading(model, off) : plain;
    if (reading !== plain) await reading.read(ids);
    shown = { ...shown, reading };
    show(shown, (await getRelease()).tokenizer);
    say(`${model.loaded}; ran ${ids.length} tokens in ${Math.round(reading.took)} ms`);
  }

  // What was typed stays as it was; tokens are spelled together, for one may hold a part of a character.
  /** @type {(written: Written, tokenizer: Tokenizer) => string} */
  function textOf({ reading: { ids }, typed, prompt }, tokenizer) {
    const [before, all] = [ids.slice(0, prompt), ids].map((ids) => spellAll(tokenizer, ids));
    return typed + (all ?? "").slice((before ?? "").length);
  }

  /** @type {(id: number) => Promise<void>} */
  async function append(id) {
    const { tokenizer } = await getRelease();
    if (!shown) return;
    await shown.reading.read([id]);
    show({ ...shown, text: textOf(shown, tokenizer) }, tokenizer);
  }

  // With a token of the list of what may come next: after the last position, or in place of all that came after another.
  /** @type {(position: number, id: number) => Promise<void>} */
  async function goOn(position, id) {
    const { manifest, tokenizer } = await getRelease();
    if (!shown) return;
    const before = shown.reading.ids.slice(0, position + 1);
    if (before.length >= longest(manifest)) throw new Explained(fullSentence(manifest));
    if (before.length < shown.reading.ids.length) {
      const reading = new Reading(shown.model, shown.reading.off);
      await reading.read(before);
      const plain = off.length ? new Reading(shown.model) : reading;
      const prompt = Math.min(shown.prompt, before.length);
      const typed = prompt < shown.prompt ? spellAll(tokenizer, before) : shown.typed;
      shown = { ...shown, reading, plain, prompt, typed };
    }
    await append(id);
    await compare();
    say(`${shown.model.loaded}; the new token took ${Math.round(shown.reading.took)} ms`);
  }

  /** @param {Manifest} manifest */
  const fullSentence = (manifest) =>
    `The text must have at most ${longest(manifest)} tokens, and has as many. Shorten it.`;

  /** @param {number} count */
  async function write(count) {
    const settings = readSettings();
    if (!(isCurrent() && shown)) await run();
    const [{ manifest, tokenizer, ends }, began] = [await getRelease(), performance.now()];
    const times = [];
    let end = "";
    isStopped = false;
    element("stop").disabled = false;
    while (times.length < count && !isStopped && shown) {
      const { ids, scores } = shown.reading;
      const id = chooseNext(scores, settings, chanceOf(settings.seed, ids.length));
      if (ends.has(id)) end = ` The model ends the text here, with ${spell(tokenizer, id)}.`;
      else if (ids.length >= longest(manifest)) end = ` ${fullSentence(manifest)}`;
      if (end) break;
      await append(id);
      times.push(shown.reading.took);
      element("pace").textContent = `${times.length} of ${count} tokens`;
      await new Promise((resolve) => setTimeout(resolve)); // Lets the browser draw, and the button stop.
    }
    const whole = performance.now() - began;
    await compare();
    const each = (/** @type {number} */ whole) => `${(whole / times.length).toFixed(1)} ms`;
    const model = times.reduce((sum, time) => sum + time, 0);
    const pace = times.length
      ? `Wrote ${times.length} ${times.length === 1 ? "token" : "tokens"}: ${each(model)} each in the model, ${each(whole)} with the pictures.`
      : "Wrote nothing.";
    say(pace + end);
  }

  /** @returns {Settings} */
  const readSettings = () => ({
    temperature: element("temperature").valueAsNumber,
    topK: element("top-k").valueAsNumber,
    seed: element("seed").valueAsNumber,
  });

  /** @param {() => number} count */
  const startWriting = (count) => element("ask").reportValidity() && attempt(() => write(count()));

  element("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(() => run());
  });
  element("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element("run").click();
  });
  element("text").addEventListener("input", mark);
  element("precision").addEventListener("change", () => attempt(() => run()));
  element("step").addEventListener("click", () => startWriting(() => 1));
  element("write").addEventListener("click", () => startWriting(() => element("count").valueAsNumber));
  element("stop").addEventListener("click", () => {
    isStopped = true;
  });
  document.addEventListener("keydown", ({ key }) => {
    isStopped ||= key === "Escape";
  });
  attempt(() => run());
}

startPage();
