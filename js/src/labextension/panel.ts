/** The side panel: the list of sessions, and the card of the one that was clicked. */

import type { Message } from "@lumino/messaging";
import { Widget } from "@lumino/widgets";
import { Api } from "../core/api";
import { h, show } from "../core/dom";
import { sharedLadder } from "../core/ladder";
import { serverCard, type ServerCard } from "../core/server-card";
import { SessionList } from "../core/session-list";
import { PANEL_ID } from "./commands";
import { forgeIcon } from "./icon";

export class ForgePanel extends Widget {
  private list: SessionList | null = null;
  private card: ServerCard | null = null;
  private readonly listPage = h("div", "jp-ForgePanel-scroll");
  private readonly cardPage = h("div", "jp-ForgePanel-scroll");
  private readonly cardPlace = h("div");
  private readonly back = h("button", "forge-button", { type: "button" }, "All sessions");
  private readonly tab = h("button", "forge-button", { type: "button" }, "Open as tab");

  constructor(
    private readonly baseUrl: string,
    openTab: (sessionId: string) => void,
    private readonly compare: (sessionIds: string[]) => void,
  ) {
    super();
    this.id = PANEL_ID;
    this.addClass("jp-ForgePanel");
    this.title.icon = forgeIcon;
    this.title.caption = "Training sessions";
    this.node.setAttribute("role", "region");
    this.node.setAttribute("aria-label", "Training sessions");
    this.cardPage.append(h("div", "jp-ForgePanel-tools", {}, this.back, this.tab), this.cardPlace);
    this.node.append(h("div", "jp-ForgePanel-head", {}, h("h2", "", {}, "Training sessions")), this.listPage, this.cardPage);
    show(this.cardPage, false);
    this.back.addEventListener("click", () => this.choose(null));
    this.tab.addEventListener("click", () => {
      if (this.card !== null) openTab(this.card.client.sessionId);
    });
  }

  choose(sessionId: string | null): void {
    this.card?.dispose();
    this.card = null;
    show(this.listPage, sessionId === null);
    show(this.cardPage, sessionId !== null);
    if (sessionId === null) return;
    this.card = serverCard(this.baseUrl, sessionId);
    this.cardPlace.append(this.card.node);
    this.card.shown();
    this.back.focus();
  }

  override dispose(): void {
    this.list?.dispose();
    this.card?.dispose();
    super.dispose();
  }

  /** Follows the list only while somebody can see it. */
  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    if (this.list !== null) return;
    const api = new Api(this.baseUrl);
    this.list = new SessionList(sharedLadder(this.baseUrl), (id) => this.choose(id), undefined, {
      compare: this.compare,
      remove: (id) => api.remove(id),
    });
    this.listPage.append(this.list.node);
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.list?.dispose();
    this.list = null;
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    if (this.isVisible) this.onAfterShow(message);
  }
}
