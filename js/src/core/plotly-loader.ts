/** Plotly, loaded once per page. */

import { pageModule } from "./page-module";

/** What we use of Plotly; it ships without types in the basic bundle. */
export interface PlotlyApi {
  react(el: HTMLElement, data: unknown[], layout: unknown, config?: unknown): Promise<unknown>;
  purge(el: HTMLElement): void;
  Plots: { resize(el: HTMLElement): unknown };
  toImage?(figure: unknown, options: { format: "png" | "svg"; width: number; height: number; scale?: number }): Promise<string>;
}

export async function loadPlotly(baseUrl: string | null, fromKernel?: () => Promise<ArrayBuffer>): Promise<PlotlyApi> {
  const url = baseUrl === null ? null : `${baseUrl}forge/static/plotly.mjs`;
  return (await pageModule<{ default: PlotlyApi }>("__forgePlotly", url, fromKernel)).default;
}
