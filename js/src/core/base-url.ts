import { isObject } from "./wire";

/** The Jupyter server behind this page, from the configuration it puts there; null on other hosts. */
export function jupyterBaseUrl(): string | null {
  const text = document.getElementById("jupyter-config-data")?.textContent;
  if (!text) return null;
  try {
    const config: unknown = JSON.parse(text);
    return isObject(config) && typeof config.baseUrl === "string" ? config.baseUrl : null;
  } catch {
    return null;
  }
}
