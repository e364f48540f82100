/** Our MIME type where no widget renderer is at work: untrusted notebooks, hosts without a widget manager. */

import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import { Widget } from "@lumino/widgets";
import { serverCard, type ServerCard } from "../core/server-card";
import { MIME, asSnapshot, isObject } from "../core/wire";

class ForgeRenderer extends Widget implements IRenderMime.IRenderer {
  private card: ServerCard | null = null;

  constructor(private readonly baseUrl: string) {
    super();
    this.addClass("jp-ForgeFallback");
  }

  renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const data: unknown = model.data[MIME];
    if (!isObject(data) || typeof data.sessionId !== "string") return Promise.resolve();
    // A refreshed bundle of the same session is what the live card shows already.
    if (this.card?.client.sessionId === data.sessionId) return Promise.resolve();
    this.card?.dispose();
    this.card = serverCard(this.baseUrl, data.sessionId, asSnapshot(data.snapshot));
    this.node.append(this.card.node);
    this.card.shown();
    return Promise.resolve();
  }

  override dispose(): void {
    this.card?.dispose();
    super.dispose();
  }
}

export function rendererFactory(baseUrl: string): IRenderMime.IRendererFactory {
  return {
    // The card writes text only, so that it may also be shown in an untrusted notebook.
    safe: true,
    mimeTypes: [MIME],
    // After the widget (-10), before pictures and text.
    defaultRank: 40,
    createRenderer: () => new ForgeRenderer(baseUrl),
  };
}
