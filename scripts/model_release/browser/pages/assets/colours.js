// Colours. Lightness runs evenly from the paper to the ink in OKLab (https://bottosson.github.io/posts/oklab/),
// so that equal steps of a value look like equal steps, in grey print and to any kind of colour vision.

const DARK = window.matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const scheme = getComputedStyle(document.documentElement).colorScheme;
  return scheme === "dark" || (scheme !== "light" && DARK.matches);
}

/** @type {(lightness: number, chroma: number, hue: number) => Colour} */
function oklch(lightness, chroma, hue) {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    channel(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    channel(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    channel(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ];
}

// Linear light -> what a screen is told, 0 to 255.
/** @param {number} linear */
function channel(linear) {
  const light = Math.min(1, Math.max(0, linear));
  return Math.round(255 * (light <= 0.0031308 ? 12.92 * light : 1.055 * light ** (1 / 2.4) - 0.055));
}

const STEPS = 256;
const BLUE = 262;
const ORANGE = 55;

/** @param {number} hue */
function ramp(hue) {
  const [paper, ink] = isDark() ? [0.25, 0.93] : [0.975, 0.36];
  return Array.from({ length: STEPS }, (_, step) => {
    const share = step / (STEPS - 1);
    return oklch(paper + (ink - paper) * share, 0.15 * Math.sin(Math.PI * 0.8 * share), hue);
  });
}

/** @type {(colours: Colour[], share: number) => Colour} */
const pick = (colours, share) =>
  /** @type {Colour} */ (colours[Math.round((STEPS - 1) * Math.min(1, Math.max(0, share)))]);

// Black or white, whichever is further away.
/** @param {Colour} colour */
const readableOn = ([red, green, blue]) => (0.299 * red + 0.587 * green + 0.114 * blue > 118 ? "black" : "white");

// Probabilities: most are small, so the colour goes with their square root, and the legend says so.
/** @returns {Scale} */
function probabilityScale() {
  const colours = ramp(BLUE);
  return {
    colour: (value) => pick(colours, Math.sqrt(value)),
    at: (share) => share ** 2,
    ticks: [0, 0.05, 0.25, 0.5, 1].map((value) => ({ share: Math.sqrt(value), label: String(value) })),
  };
}

/** @type {(limit: number) => Scale} */
function signedScale(limit) {
  const [below, above] = [ramp(ORANGE), ramp(BLUE)];
  return {
    colour: (value) => pick(value < 0 ? below : above, Math.abs(value) / limit),
    at: (share) => (2 * share - 1) * limit,
    ticks: [-1, 0, 1].map((sign) => ({
      share: (sign + 1) / 2,
      label: sign ? (sign < 0 ? "" : "+") + figure(sign * limit) : "0",
    })),
  };
}

/** @type {(limit: number) => Scale} */
function lengthScale(limit) {
  const colours = ramp(BLUE);
  return {
    colour: (value) => pick(colours, value / limit),
    at: (share) => share * limit,
    ticks: [0, 1].map((share) => ({ share, label: figure(share * limit) })),
  };
}

/** @type {(place: HTMLElement, scale: Scale) => void} */
function drawLegend(place, scale) {
  const bar = make("canvas", { width: STEPS, height: 1, "aria-hidden": "true" });
  const pixels = new ImageData(STEPS, 1);
  for (let step = 0; step < STEPS; step++) {
    pixels.data.set([...scale.colour(scale.at(step / (STEPS - 1))), 255], 4 * step);
  }
  brush(bar).putImageData(pixels, 0, 0);
  const ticks = scale.ticks.map(({ share, label }) => {
    const tick = make("span", {}, label);
    tick.style.left = `${100 * share}%`;
    return tick;
  });
  place.replaceChildren(bar, make("div", {}, ...ticks));
}

// The system's theme counts until the button is pressed; paper is light.
/** @param {() => void} redraw */
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
