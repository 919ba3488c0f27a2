/** Turn the owner's theme settings into custom properties, with every pair of text and background legible. */

const SURFACES = { light: "#ffffff", dark: "#15181e" };
const TEXT_COLORS = ["#ffffff", "#14171f", "#000000"]; // one of them is legible on any color
const TEXT_CONTRAST = 4.5; // WCAG 2.2, 1.4.3
const SHAPE_CONTRAST = 3; // WCAG 2.2, 1.4.11

// primary (header, button, visitor's bubbles), secondary (the bot's bubbles), accent (links), surface (if not SURFACES)
const DEFAULT = ["#0b5fff", "#f1f3f7", "#0b5fff"];
const PRESETS = {
  ocean: ["#0b5fff", "#eef4ff", "#0b4fd6"],
  lagoon: ["#0e7490", "#e9f7fa", "#0e6377"],
  forest: ["#166b3f", "#edf6f0", "#166b3f"],
  ember: ["#c2410c", "#fdf2ec", "#a8380a"],
  rose: ["#be1850", "#fdf0f4", "#a81547"],
  berry: ["#7a28cb", "#f6f0fd", "#6b21b8"],
  midnight: ["#1f2a44", "#eff1f6", "#2f4b8f"],
  citrine: ["#f7c948", "#fdf7e3", "#8a5a00"],
};
const CHATGPT = { light: ["#0d0d0d", "#f1f1f1", "#0d0d0d"], dark: ["#f4f4f4", "#323232", "#f4f4f4", "#212121"] };

const channels = (color) => [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16));

function mix(color, other, share) {
  const others = channels(other);
  const mixed = channels(color).map((value, at) => Math.round(value * (1 - share) + others[at] * share));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

function luminance(color) {
  const [red, green, blue] = channels(color).map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(color, other) {
  const [darker, lighter] = [luminance(color), luminance(other)].sort((a, b) => a - b);
  return (lighter + 0.05) / (darker + 0.05);
}

const textColorOn = (color) => TEXT_COLORS.find((text) => contrast(text, color) >= TEXT_CONTRAST);

/** Mix the color with black or white, as little as possible, until it stands out from `background`. */
function legible(color, background, minimum = TEXT_CONTRAST) {
  const end = luminance(background) > 0.18 ? "#000000" : "#ffffff";
  for (let share = 0; share < 1; share += 0.05) {
    const mixed = mix(color, end, share);
    if (contrast(mixed, background) >= minimum) return mixed;
  }
  return end;
}

/** Return a similar color on which the same text is at least as legible. */
const deepen = (color, share) => mix(color, luminance(textColorOn(color)) > 0.5 ? "#000000" : "#ffffff", share);

function palette(mode, [primary, secondary, accent, surface = SURFACES[mode]], keepSecondary) {
  const fill = mode === "dark" ? legible(primary, surface, SHAPE_CONTRAST) : primary;
  const bubble = mode === "light" || keepSecondary ? secondary : mix("#232831", fill, 0.1);
  return {
    surface,
    fill,
    "fill-end": deepen(fill, 0.16),
    "on-fill": textColorOn(fill),
    bubble,
    "on-bubble": textColorOn(bubble),
    code: deepen(bubble, 0.5),
    link: legible(accent, bubble),
    accent: legible(accent, surface),
  };
}

function paletteOf({ theme, customThemePresetKey, customThemeSettings }, mode) {
  if (theme === "chatgpt") return palette(mode, CHATGPT[mode], true);
  if (theme !== "custom") return palette(mode, DEFAULT);
  const { primaryColor, secondaryColor, accentColor } = customThemeSettings;
  return palette(mode, PRESETS[customThemePresetKey] ?? [primaryColor, secondaryColor, accentColor]);
}

/** Set custom properties on `node`. Colors hold both modes: the style sheet picks one. */
export function applyTheme(node, config, host) {
  const [light, dark] = ["light", "dark"].map((mode) => paletteOf(config, mode));
  const set = (name, value) => node.style.setProperty(`--${name}`, value);
  for (const name in light) set(name, `var(--light, ${light[name]}) var(--dark, ${dark[name]})`);
  for (const [name, value] of Object.entries(config.customThemeSettings)) {
    if (typeof value === "number") set(name, `${value}px`); // such as --popupWidth
  }
  node.style.fontFamily = fontFamily(config, host);
}

/** Return the owner's font; "inherit" means the host page's, if the page has chosen one. */
function fontFamily({ kind, customThemeSettings }, host) {
  const { fontFamily } = customThemeSettings;
  const system = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
  if (fontFamily !== "inherit") return `${fontFamily}, ${system}`;
  const ofPage = getComputedStyle(host.parentElement ?? document.body).fontFamily;
  const initial = getComputedStyle(host).fontFamily;
  return kind === "page" || ofPage === initial ? system : ofPage;
}

const styleSheets = new Map(); // address -> promise, so that several bots on a page share one

/** Load a style sheet to adopt: the host's Content-Security-Policy for styles does not apply to adopted ones. */
export function loadStyleSheet(address) {
  if (!styleSheets.has(address)) {
    const loading = fetch(address, { __proto__: null, credentials: "omit" }).then(async (response) => {
      if (!response.ok) throw new Error(`${address} answers ${response.status}`);
      return new CSSStyleSheet().replace(await response.text());
    });
    styleSheets.set(address, loading);
    loading.catch(() => styleSheets.delete(address));
  }
  return styleSheets.get(address);
}
