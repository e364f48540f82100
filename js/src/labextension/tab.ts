/** Sessions in the main area: one, or several compared. */

import { Widget } from "@lumino/widgets";
import { Comparison } from "../core/compare";
import { serverCard, type ServerCard } from "../core/server-card";
import type { Snapshot } from "../core/wire";
import { forgeIcon } from "./icon";

export class ForgeTab extends Widget {
  private readonly card: ServerCard;

  constructor(
    baseUrl: string,
    readonly sessionId: string,
    snapshot: Snapshot | null = null,
  ) {
    super();
    this.id = `forge-notebook-session-${sessionId}`;
    this.addClass("jp-ForgeTab");
    this.title.icon = forgeIcon;
    this.title.label = "Training";
    this.title.closable = true;
    this.card = serverCard(baseUrl, sessionId, snapshot);
    this.node.append(this.card.node);
    this.card.client.onChange(() => {
      const name = this.card.client.status?.name;
      if (name !== undefined && name !== this.title.label) this.title.label = name;
    });
  }

  override dispose(): void {
    this.card.dispose();
    super.dispose();
  }

  protected override onAfterAttach(): void {
    this.card.shown();
  }
}

export class CompareTab extends Widget {
  private readonly comparison: Comparison;

  constructor(baseUrl: string, ids: readonly string[]) {
    super();
    this.comparison = new Comparison(baseUrl, ids);
    this.id = `forge-notebook-compare-${this.comparison.ids.join("-")}`;
    this.addClass("jp-ForgeTab");
    this.title.icon = forgeIcon;
    this.title.label = `Compare ${this.comparison.ids.length} sessions`;
    this.title.closable = true;
    this.node.append(this.comparison.node);
  }

  get ids(): string[] {
    return this.comparison.ids;
  }

  override dispose(): void {
    this.comparison.dispose();
    super.dispose();
  }

  protected override onAfterAttach(): void {
    this.comparison.retheme();
  }
}
