/** Light or dark, and the colours Plotly needs as values because it does not read CSS variables. */

export interface Theme {
  dark: boolean;
  text: string;
  muted: string;
  grid: string;
  surface: string;
  warn: string;
  error: string;
  font: string;
  /** One hue per model: Okabe-Ito, darkened on light and lightened on dark to at least 3:1. */
  hues: string[];
}

const LIGHT = ["#0b6bb8", "#c8500a", "#00805e", "#9a3f86", "#7a6200", "#5a55c7"];
const DARK = ["#5db3f0", "#f5924e", "#35c79b", "#e394cc", "#dcc13c", "#a9a6ff"];

/** JupyterLab says it on the body, VS Code by a class, Colab on the root; a plain page leaves it to the system. */
export function isDark(): boolean {
  const body = document.body;
  const jupyter = body.getAttribute("data-jp-theme-light");
  if (jupyter !== null) return jupyter === "false";
  if (/vscode-(dark|high-contrast)(?!-light)/.test(body.className)) return true;
  if (body.classList.contains("vscode-light")) return false;
  const root = document.documentElement.getAttribute("theme");
  if (root !== null) return root === "dark";
  // Only our own page follows the system; a foreign one may be light on a dark desktop.
  if (body.classList.contains("forge-page")) return matchMedia("(prefers-color-scheme: dark)").matches;
  return false;
}

/** Reads the card's resolved variables; sets `data-forge-theme`, which its style sheet keys on. */
export function readTheme(card: HTMLElement): Theme {
  const dark = isDark();
  card.dataset.forgeTheme = dark ? "dark" : "light";
  const style = getComputedStyle(card);
  const read = (name: string, fallback: string): string => style.getPropertyValue(name).trim() || fallback;
  return {
    dark,
    text: read("--forge-text", dark ? "#e6e6e6" : "#1f2328"),
    muted: read("--forge-muted", dark ? "#a0a4aa" : "#5c636b"),
    grid: read("--forge-grid", dark ? "#33373d" : "#e6e8eb"),
    surface: read("--forge-surface", dark ? "#1b1d20" : "#ffffff"),
    warn: read("--forge-warn", dark ? "#e8b04a" : "#9a6400"),
    error: read("--forge-error", dark ? "#ff8a80" : "#c62828"),
    font: read("--forge-font", "system-ui, sans-serif"),
    hues: dark ? DARK : LIGHT,
  };
}

/** Calls back when the host's theme changes. */
export function watchTheme(callback: () => void): () => void {
  const observer = new MutationObserver(callback);
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ["theme"] });
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", callback);
  return () => {
    observer.disconnect();
    media.removeEventListener("change", callback);
  };
}
