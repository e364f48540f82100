/** A card fed by the Jupyter server: side panel, tab, page, and the stand-in for a dead widget. */

import { Api } from "./api";
import { Card } from "./card";
import { sharedLadder } from "./ladder";
import { loadPlotly } from "./plotly-loader";
import { SessionClient } from "./session-client";
import type { Snapshot } from "./wire";

export interface ServerCard {
  readonly node: HTMLElement;
  readonly client: SessionClient;
  /** Once the node is on the page. */
  shown(): void;
  dispose(): void;
}

export function serverCard(baseUrl: string, sessionId: string, snapshot: Snapshot | null = null): ServerCard {
  const api = new Api(baseUrl);
  const client = new SessionClient(sessionId);
  // What a notebook carries is only a stand-in: the server's copy starts anew, so
  // the snapshot must not move the cursor. It is dropped when the server answers.
  if (snapshot !== null) client.preview(snapshot);
  const card = new Card(client, {
    loadPlotly: () => loadPlotly(baseUrl),
    control: (command, args) => api.control(sessionId, command, args),
    detail: (metrics, from, to, points, x) => api.series(sessionId, { metrics, from, to, points, x }),
  });
  client.attach(sharedLadder(baseUrl));
  return {
    node: card.node,
    client,
    shown: () => card.retheme(),
    dispose: () => {
      card.dispose();
      client.dispose();
    },
  };
}
