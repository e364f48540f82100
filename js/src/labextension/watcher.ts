/** Looks at the open notebooks after the page has changed, a few times a second at most. */

import type { JupyterFrontEnd } from "@jupyterlab/application";
import { isEnded } from "../core/wire";
import type { Fallbacks } from "./fallback";
import { forgeOutputs, notebooks, type ForgeOutput, type NotebookPanel } from "./notebooks";

const LOOK_EVERY_MS = 400;

export interface WatcherOptions {
  saveOnStart: boolean;
  fallbackCard: boolean;
}

export class NotebookWatcher {
  private options: WatcherOptions = { saveOnStart: true, fallbackCard: true };
  private readonly saved = new Set<string>();
  private readonly observer: MutationObserver;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly shell: JupyterFrontEnd.IShell,
    private readonly fallbacks: Fallbacks,
  ) {
    this.observer = new MutationObserver((records) => {
      // A card that draws ten times a second must not make us search the page each time.
      if (records.some((r) => !inCard(r.target))) this.later();
    });
    this.observer.observe(document.body, { childList: true, subtree: true });
    this.later();
  }

  set(options: WatcherOptions): void {
    this.options = options;
    this.later();
  }

  dispose(): void {
    this.observer.disconnect();
    clearTimeout(this.timer);
    this.fallbacks.dispose();
  }

  private later(): void {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.look();
    }, LOOK_EVERY_MS);
  }

  private look(): void {
    const outputs: ForgeOutput[] = [];
    for (const panel of notebooks(this.shell)) outputs.push(...forgeOutputs(panel));
    if (this.options.saveOnStart) this.saveNew(outputs);
    this.fallbacks.update(this.options.fallbackCard ? outputs : [], Date.now());
    if (this.fallbacks.waiting) this.later();
  }

  /** An output that was never saved is gone after a reload; the autosave comes after two minutes. */
  private saveNew(outputs: ForgeOutput[]): void {
    for (const { panel, sessionId, snapshot } of outputs) {
      const key = `${panel.context.path}\n${sessionId}`;
      if (this.saved.has(key)) continue;
      this.saved.add(key);
      const ended = snapshot !== null && isEnded(snapshot.status.status);
      // A notebook just opened is not dirty: its outputs are on disk already.
      if (!ended && panel.context.model.dirty && panel.context.model.readOnly !== true) void save(panel);
    }
  }
}

async function save(panel: NotebookPanel): Promise<void> {
  try {
    await panel.context.save();
  } catch (error) {
    console.warn("forge-notebook: the notebook could not be saved when a session started", error);
  }
}

function inCard(node: Node): boolean {
  const element = node instanceof Element ? node : node.parentElement;
  return element !== null && element.closest(".jp-ForgeCard, .jp-ForgePanel") !== null;
}
