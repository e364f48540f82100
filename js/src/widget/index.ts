/**
 * The anywidget module. anywidget sends and evaluates it for each model, so it is
 * small: the card itself comes once per page.
 */

import { jupyterBaseUrl } from "../core/base-url";
import { fileFromModel } from "../core/model-file";
import { pageModule } from "../core/page-module";
import type { RenderContext } from "./cell";

/** Name of the built card; it holds a hash, so that a server of another version does not serve its own. */
declare const CARD_FILE: string;

interface CardModule {
  render(context: RenderContext): () => void;
}

/** Not in `initialize`: anywidget gives that two seconds, and drops the model's messages afterwards. */
async function render(context: RenderContext & { signal?: AbortSignal }): Promise<() => void> {
  const baseUrl = jupyterBaseUrl();
  const url = baseUrl === null ? null : `${baseUrl}forge/static/${CARD_FILE}`;
  context.el.textContent = "Loading the training card";
  let card: CardModule;
  try {
    card = await pageModule<CardModule>(`__${CARD_FILE}`, url, () => fileFromModel(context.model, "card"));
  } catch (error) {
    context.el.textContent = `The training card could not be loaded: ${error instanceof Error ? error.message : String(error)}`;
    return () => undefined;
  }
  context.el.textContent = "";
  if (context.signal?.aborted === true) return () => undefined;
  return card.render(context);
}

export default { render };
