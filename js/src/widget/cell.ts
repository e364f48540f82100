/** The card in a notebook cell. Loaded once per page by the widget's small module. */

import { Api } from "../core/api";
import { jupyterBaseUrl } from "../core/base-url";
import { Card, type CardHost } from "../core/card";
import { sharedLadder } from "../core/ladder";
import { ModelChannel, type AnyModel } from "../core/model-channel";
import { fileFromModel } from "../core/model-file";
import { loadPlotly } from "../core/plotly-loader";
import { SessionClient } from "../core/session-client";
import { asSnapshot, isEnded } from "../core/wire";

/** The card's style sheet; set by the build. */
declare const CARD_CSS: string;

/** The kernel sends nothing while no view says it is there. */
const ALIVE_EVERY_MS = 10_000;
/** How often a widget that is silent, or not heard, looks for the session on the server instead. */
const PROBE_EVERY_MS = 5_000;

export interface RenderContext {
  model: AnyModel;
  el: HTMLElement;
}

/** May run again for the same model: JupyterLab detaches outputs that scroll out of view. */
export function render({ model, el }: RenderContext): () => void {
  const sessionId = String(model.get("session_id"));
  const channel = new ModelChannel(model);
  const client = new SessionClient(sessionId);
  const snapshot = asSnapshot(model.get("snapshot"));
  if (snapshot !== null) client.load(snapshot);

  const baseUrl = jupyterBaseUrl();
  const card = new Card(client, cellHost(sessionId, model, channel, baseUrl));
  addStyle(el);
  el.classList.add("forge-cell");
  el.dataset.forgeSession = sessionId;
  el.append(card.node);
  card.retheme();
  client.attach(channel);

  channel.alive();
  const alive = setInterval(() => channel.alive(), ALIVE_EVERY_MS);
  const probe = setInterval(() => void joinServer(client, baseUrl), PROBE_EVERY_MS);
  return () => {
    clearInterval(alive);
    clearInterval(probe);
    card.dispose();
    client.dispose();
  };
}

/** HTTP first: a comm message waits for the running cell to end on several kernels. */
function cellHost(sessionId: string, model: AnyModel, channel: ModelChannel, baseUrl: string | null): CardHost {
  const api = baseUrl === null ? null : new Api(baseUrl);
  const known = api === null ? Promise.resolve(false) : api.status(sessionId).then(() => true, () => false);
  return {
    loadPlotly: () => loadPlotly(baseUrl, () => fileFromModel(model, "plotly")),
    control: async (command, args) => ((await known) ? api!.control(sessionId, command, args) : channel.control(command, args)),
    detail: async (metrics, from, to, points, x) =>
      (await known) ? api!.series(sessionId, { metrics, from, to, points, x }) : channel.series(metrics, from, to, points, x),
  };
}

/** A silent kernel (restarted, or gone) does not mean a dead session: the server may still see it. */
async function joinServer(client: SessionClient, baseUrl: string | null): Promise<void> {
  const silent = client.unanswered || client.connection === "stale" || client.connection === "connecting";
  if (baseUrl === null || !silent || (client.status !== null && isEnded(client.status.status))) return;
  try {
    await new Api(baseUrl).status(client.sessionId);
    client.attach(sharedLadder(baseUrl));
  } catch {
    // Not our server, or it does not know the session: the comm stays the only source.
  }
}

/** Once per page, or per shadow root: marimo renders widgets in one. A style per widget would be saved with each. */
function addStyle(el: HTMLElement): void {
  const root = el.getRootNode();
  const place = root instanceof ShadowRoot ? root : document.head;
  if (place.querySelector("style[data-forge-card]") !== null) return;
  const style = document.createElement("style");
  style.dataset.forgeCard = "";
  style.textContent = CARD_CSS;
  place.append(style);
}
