/** The list of sessions: live through the "*" subscription, grouped, searched. Used by the panel and the page. */

import { overallProgress } from "./card-bars";
import { stateText } from "./card-state";
import type { Connection } from "./connection";
import { h, setAttributes, setText, show } from "./dom";
import type { Feed, Link, Sink } from "./feed";
import { Selection, type SelectionActions } from "./selection";
import { count, loss, percent, value } from "./format";
import { ALL_SESSIONS, asStatus, isEnded, isObject, type Envelope, type SessionStatus } from "./wire";

const GROUPS: readonly [string, (s: SessionStatus) => boolean][] = [
  ["Running", (s) => s.status === "running" || s.status === "created"],
  ["Paused", (s) => s.status === "paused"],
  ["Finished", (s) => s.status === "completed"],
  ["Ended early", (s) => isEnded(s.status) && s.status !== "completed"],
];

interface Row {
  item: HTMLElement;
  tick: HTMLInputElement;
  node: HTMLButtonElement;
  name: HTMLElement;
  state: HTMLElement;
  fill: HTMLElement;
  track: HTMLElement;
  detail: HTMLElement;
}

export class SessionList implements Sink {
  readonly sessionId = ALL_SESSIONS;
  readonly node = h("div", "forge-list");
  readonly sessions = new Map<string, SessionStatus>();
  connection: Connection = "connecting";
  private readonly search = h("input", "forge-search", { type: "search", placeholder: "Search sessions", "aria-label": "Search sessions" });
  private readonly empty = h("p", "forge-empty", { role: "status" });
  private readonly groups: { section: HTMLElement; rows: HTMLElement }[];
  private readonly rows = new Map<string, Row>();
  private selected: string | null = null;
  private frame = 0;
  private readonly selection: Selection | null;
  private readonly detach: () => void;

  constructor(
    feed: Feed,
    private readonly open: (sessionId: string) => void,
    private readonly changed: () => void = () => undefined,
    actions: SelectionActions | null = null,
  ) {
    this.selection = actions === null ? null : new Selection(actions, (id) => this.sessions.get(id), () => this.paint());
    this.groups = GROUPS.map(([title]) => {
      const rows = h("div", "forge-rows", { role: "list" });
      return { rows, section: h("section", "forge-group", { "aria-label": title }, h("div", "forge-group-title", {}, title), rows) };
    });
    this.node.append(this.search, ...(this.selection === null ? [] : [this.selection.node]), this.empty, ...this.groups.map((g) => g.section));
    this.search.addEventListener("input", () => this.paint());
    this.detach = feed.attach(this);
    this.paint();
  }

  select(sessionId: string | null): void {
    this.selected = sessionId;
    this.paint();
  }

  dispose(): void {
    this.detach();
    cancelAnimationFrame(this.frame);
    this.node.remove();
  }

  cursor(): undefined {
    return undefined;
  }

  heard(): void {
    // Heartbeats say nothing about the list.
  }

  link(state: Link): void {
    this.connection = state;
    this.refresh();
  }

  receive({ event, data }: Envelope): void {
    if (event === "session_list" && Array.isArray(data.sessions)) {
      this.sessions.clear();
      for (const session of data.sessions as SessionStatus[]) this.sessions.set(session.sessionId, session);
    } else if (event === "session_status") {
      if (data.status === "deleted") this.sessions.delete(String(data.sessionId));
      else {
        const status = asStatus(data);
        if (status !== null) this.sessions.set(status.sessionId, status);
      }
    } else {
      // A card on the same socket follows this session: its updates are fresher than the list's.
      const known = this.sessions.get(String(data.sessionId));
      if (known === undefined || typeof data.seq !== "number" || data.seq < known.seq) return;
      if (isObject(data.metrics)) known.metrics = data.metrics as unknown as SessionStatus["metrics"];
      if (typeof data.status === "string") known.status = data.status as SessionStatus["status"];
    }
    this.refresh();
  }

  private refresh(): void {
    if (this.frame !== 0) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.paint();
      this.changed();
    });
  }

  private paint(): void {
    const query = this.search.value.trim().toLowerCase();
    const all = [...this.sessions.values()].sort((a, b) => b.startTime - a.startTime);
    const found = all.filter((s) => `${s.name} ${s.sessionId} ${s.status}`.toLowerCase().includes(query));
    for (const [id, row] of this.rows) {
      if (found.some((s) => s.sessionId === id)) continue;
      row.item.remove();
      this.rows.delete(id);
    }
    this.selection?.keep((id) => this.sessions.has(id));
    GROUPS.forEach(([, belongs], i) => {
      const members = found.filter(belongs);
      show(this.groups[i].section, members.length > 0);
      members.forEach((session, at) => this.place(session, this.groups[i].rows, at));
    });
    setText(this.empty, this.emptyText(all.length, found.length));
    show(this.empty, found.length === 0);
  }

  /** Moves a row only when its place changed: moving it always would drop the keyboard focus. */
  private place(session: SessionStatus, parent: HTMLElement, at: number): void {
    const row = this.row(session);
    const { item } = row;
    if (parent.children[at] !== item) parent.insertBefore(item, parent.children[at] ?? null);
    row.tick.checked = this.selection?.ids.has(session.sessionId) === true;
    setAttributes(row.tick, { "aria-label": `Tick ${session.name}` });
    const progress = overallProgress(session);
    setText(row.name, session.name);
    setText(row.state, stateText(session));
    setAttributes(row.state, { "data-state": session.status });
    show(row.track, progress !== null);
    row.fill.style.width = `${progress ?? 0}%`;
    setAttributes(row.track, { "aria-valuenow": progress === null ? null : Number(progress.toFixed(1)) });
    setText(row.detail, summary(session));
    setAttributes(row.node, { "aria-current": session.sessionId === this.selected ? "true" : null, title: `${session.name}\n${new Date(session.startTime * 1000).toLocaleString()}` });
  }

  private row(session: SessionStatus): Row {
    let row = this.rows.get(session.sessionId);
    if (row === undefined) {
      const name = h("span", "forge-row-name");
      const state = h("span", "forge-row-state forge-state");
      const fill = h("div", "forge-fill");
      const track = h("div", "forge-track", { role: "progressbar", "aria-label": "progress", "aria-valuemin": 0, "aria-valuemax": 100 }, h("div", "forge-segment", {}, fill));
      const detail = h("span", "forge-row-detail");
      const node = h("button", "forge-row", { type: "button" }, h("span", "forge-row-top", {}, name, state), track, detail);
      node.addEventListener("click", () => this.open(session.sessionId));
      const tick = h("input", "forge-tick", { type: "checkbox" });
      tick.addEventListener("change", () => this.selection?.tick(session.sessionId, tick.checked));
      const item = h("div", "forge-item", { role: "listitem" }, ...(this.selection === null ? [] : [tick]), node);
      row = { item, tick, node, name, state, fill, track, detail };
      this.rows.set(session.sessionId, row);
    }
    return row;
  }

  private emptyText(all: number, found: number): string {
    if (found > 0) return "";
    if (all > 0) return "No session matches.";
    if (this.connection === "offline") return "The server does not answer. Trying again.";
    return this.connection === "connecting" ? "Connecting" : "No sessions yet. A training that records with forge_notebook appears here by itself.";
  }
}

function summary(session: SessionStatus): string {
  const parts: string[] = [];
  const progress = overallProgress(session);
  // Progress or the step: the panel has no room for both, and of a completed session the state says the first.
  const partial = progress !== null && session.status !== "completed";
  if (partial) parts.push(percent(progress));
  const metrics = session.metrics;
  if (metrics !== null) {
    const validation = metrics.extra.val_loss;
    const bad = metrics.nonFinite?.loss;
    if (metrics.loss !== null || bad !== undefined) parts.push(`loss ${loss(metrics.loss, bad)}`);
    if (typeof validation === "number") parts.push(`val ${value(validation)}`);
    if (!partial && metrics.currentStep !== null) parts.push(`step ${count(metrics.currentStep)}`);
  }
  return parts.join(" \u00b7 ");
}
