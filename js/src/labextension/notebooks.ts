/**
 * The notebooks in the shell, by their shape. `@jupyterlab/notebook` cannot be a
 * dependency: its published versions do not resolve together (tried with
 * @jupyterlab/notebook 4.6), and a wide range is what lets one wheel run in 4.2 to 4.6.
 */

import type { JupyterFrontEnd } from "@jupyterlab/application";
import { MIME, asSnapshot, isObject, type Snapshot } from "../core/wire";

interface OutputModel {
  data: Record<string, unknown>;
}

interface OutputArea {
  node: HTMLElement;
  model: { length: number; get(i: number): OutputModel };
  widgets: readonly { node: HTMLElement }[];
}

export interface NotebookPanel {
  content: { widgets: readonly { outputArea?: OutputArea }[] };
  context: {
    path: string;
    model: { dirty: boolean; readOnly?: boolean };
    save(): Promise<void>;
  };
}

export interface ForgeOutput {
  panel: NotebookPanel;
  node: HTMLElement;
  sessionId: string;
  snapshot: Snapshot | null;
}

export function* notebooks(shell: JupyterFrontEnd.IShell): Generator<NotebookPanel> {
  for (const widget of shell.widgets("main")) {
    const panel = widget as unknown as Partial<NotebookPanel>;
    if (Array.isArray(panel.content?.widgets) && typeof panel.context?.save === "function") yield panel as NotebookPanel;
  }
}

/** Outputs that carry our MIME type, with the node that shows them. */
export function* forgeOutputs(panel: NotebookPanel): Generator<ForgeOutput> {
  for (const cell of panel.content.widgets) {
    const area = cell.outputArea;
    if (area === undefined) continue;
    const shown = Math.min(area.model.length, area.widgets.length);
    for (let i = 0; i < shown; i++) {
      const bundle = area.model.get(i).data[MIME];
      if (!isObject(bundle) || typeof bundle.sessionId !== "string") continue;
      yield { panel, node: area.widgets[i].node, sessionId: bundle.sessionId, snapshot: asSnapshot(bundle.snapshot) };
    }
  }
}
