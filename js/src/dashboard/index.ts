/** The page without JupyterLab: sessions at the left, the chosen card at the right. */

import { Api } from "../core/api";
import { connectionText } from "../core/card-state";
import { Comparison } from "../core/compare";
import { h, setAttributes, setText, show } from "../core/dom";
import { sharedLadder } from "../core/ladder";
import { NewsDesk, browserNotify } from "../core/news";
import { serverCard, type ServerCard } from "../core/server-card";
import { SessionList } from "../core/session-list";
import { isEnded, type SessionStatus } from "../core/wire";

/** `/user/ada/forge` is served by the base url `/user/ada/`. */
export function baseUrlOf(pathname: string): string {
  return pathname.replace(/forge\/?$/, "").replace(/\/?$/, "/");
}

/** A token in the address bar ends up in histories and screenshots; the cookie it bought stays. */
export function withoutToken(href: string): string | null {
  const url = new URL(href);
  if (!url.searchParams.has("token")) return null;
  url.searchParams.delete("token");
  return url.pathname + url.search + url.hash;
}

const FIRST = `import forge_notebook as forge

with forge.session("my run") as run:
    for step in range(1000):
        run.log(step, loss=train_step())`;

class Dashboard {
  private readonly list: SessionList;
  private readonly main = h("main", "forge-main");
  private readonly hint = h("p", "forge-empty", {}, "Choose a session.");
  private readonly first = h("section", "forge-first", {}, "No sessions yet. Record a training and it appears here:", h("pre", "", { tabindex: 0 }, FIRST));
  private readonly link = h("span", "forge-pill forge-link", { role: "status" });
  private readonly drawer = h("button", "forge-button forge-drawer", { type: "button", "aria-expanded": "false", "aria-controls": "forge-sessions" }, "Sessions");
  private readonly nav = h("nav", "forge-nav", { id: "forge-sessions", "aria-label": "Training sessions" });
  private readonly notify = h("button", "forge-button", { type: "button" }, "Notify me");
  private comparison: Comparison | null = null;
  private card: ServerCard | null = null;
  private chosen: string | null;

  constructor(private readonly baseUrl: string) {
    this.chosen = new URL(location.href).searchParams.get("session");
    const api = new Api(baseUrl);
    this.list = new SessionList(sharedLadder(baseUrl), (id) => this.choose(id), () => this.listed(), {
      compare: (ids) => this.compare(ids),
      remove: (id) => this.remove(api, id),
    });
    new NewsDesk(sharedLadder(baseUrl), api, browserNotify);
    this.nav.append(this.list.node);
    this.drawer.addEventListener("click", () => this.toggleDrawer(!this.nav.classList.contains("forge-open")));
    const head = h("header", "forge-top", {}, this.drawer, h("h1", "", {}, "Forge training monitor"), this.notify, this.link);
    this.offerNotifications();
    this.main.append(this.hint, this.first);
    show(this.first, false);
    document.body.append(head, h("div", "forge-columns", {}, this.nav, this.main));
    addEventListener("popstate", () => this.open(new URL(location.href).searchParams.get("session")));
    addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.toggleDrawer(false);
    });
    if (this.chosen !== null) this.open(this.chosen);
  }

  /** The browser asks the user, and only after a click. */
  private offerNotifications(): void {
    show(this.notify, typeof Notification !== "undefined" && Notification.permission === "default");
    this.notify.title = "Let the browser tell when a training ends, fails, raises an alert or begins to grok";
    this.notify.addEventListener("click", () => void Notification.requestPermission().then(() => show(this.notify, Notification.permission === "default")));
  }

  private compare(ids: string[]): void {
    this.close();
    this.comparison = new Comparison(this.baseUrl, ids);
    this.main.append(this.comparison.node);
    this.comparison.retheme();
    this.chosen = "";
    this.list.select(null);
    show(this.hint, false);
    this.toggleDrawer(false);
  }

  private async remove(api: Api, id: string): Promise<void> {
    await api.remove(id);
    if (this.chosen !== id) return;
    this.close();
    this.chosen = null;
  }

  private close(): void {
    this.card?.dispose();
    this.card = null;
    this.comparison?.dispose();
    this.comparison = null;
  }

  private choose(id: string): void {
    const url = new URL(location.href);
    url.searchParams.set("session", id);
    history.pushState(null, "", url.pathname + url.search);
    this.open(id);
  }

  private open(id: string | null): void {
    this.toggleDrawer(false);
    if (this.card !== null && this.card.client.sessionId === id) return;
    this.close();
    this.chosen = id;
    this.list.select(id);
    show(this.hint, id === null);
    show(this.first, false);
    if (id === null) return;
    this.card = serverCard(this.baseUrl, id);
    this.main.append(this.card.node);
    this.card.shown();
  }

  /** Nothing chosen: the newest running session, else the newest, is what one came to see. */
  private listed(): void {
    setText(this.link, connectionText(this.list.connection, 0));
    setAttributes(this.link, { "data-link": this.list.connection });
    if (this.chosen !== null) return;
    const newest = [...this.list.sessions.values()].sort(byInterest)[0] as SessionStatus | undefined;
    setText(this.hint, newest === undefined ? "" : "Choose a session.");
    show(this.first, newest === undefined && this.list.connection !== "connecting" && this.list.connection !== "offline");
    if (newest !== undefined) this.open(newest.sessionId);
  }

  private toggleDrawer(open: boolean): void {
    this.nav.classList.toggle("forge-open", open);
    setAttributes(this.drawer, { "aria-expanded": open ? "true" : "false" });
  }
}

function byInterest(a: SessionStatus, b: SessionStatus): number {
  return Number(isEnded(a.status)) - Number(isEnded(b.status)) || b.startTime - a.startTime;
}

if (document.body.classList.contains("forge-page")) {
  const clean = withoutToken(location.href);
  if (clean !== null) history.replaceState(null, "", clean);
  new Dashboard(baseUrlOf(location.pathname));
}
