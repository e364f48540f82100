/**
 * Where a notebook's widget is dead (no kernel, or the page was reloaded while a
 * cell blocks it), the card fed by the server stands in its place, and goes when
 * the widget is back.
 */

import { serverCard, type ServerCard } from "../core/server-card";
import type { ForgeOutput } from "./notebooks";

/** A widget on its way says "Loading widget..." for a moment; a card that flashes up would be worse. */
const PATIENCE_MS = 1200;
const DEAD = /Error displaying widget|Loading widget|Error creating widget/i;

interface StandIn {
  node: HTMLElement;
  card: ServerCard;
}

export class Fallbacks {
  private readonly standIns = new Map<HTMLElement, StandIn>();
  private readonly deadSince = new Map<HTMLElement, number>();

  constructor(private readonly baseUrl: string) {}

  /** Looks at the outputs as they are now; cheap enough to be called after any change of the page. */
  update(outputs: Iterable<ForgeOutput>, now: number): void {
    const present = new Set<HTMLElement>();
    for (const output of outputs) {
      present.add(output.node);
      if (isAlive(output.node)) {
        this.deadSince.delete(output.node);
        this.remove(output.node);
        continue;
      }
      const since = this.deadSince.get(output.node) ?? now;
      this.deadSince.set(output.node, since);
      if (now - since >= PATIENCE_MS && !this.standIns.has(output.node)) this.add(output);
    }
    for (const node of [...this.standIns.keys()]) if (!present.has(node)) this.remove(node);
    for (const node of [...this.deadSince.keys()]) if (!present.has(node)) this.deadSince.delete(node);
  }

  /** Something is waiting for its patience to run out. */
  get waiting(): boolean {
    return [...this.deadSince.keys()].some((node) => !this.standIns.has(node));
  }

  dispose(): void {
    for (const node of [...this.standIns.keys()]) this.remove(node);
  }

  private add(output: ForgeOutput): void {
    const card = serverCard(this.baseUrl, output.sessionId, output.snapshot);
    const node = document.createElement("div");
    node.className = "jp-ForgeFallback";
    node.append(card.node);
    const dead = deadNode(output.node);
    dead?.classList.add("jp-ForgeFallback-dead");
    (dead?.parentElement ?? output.node).append(node);
    card.shown();
    this.standIns.set(output.node, { node, card });
  }

  private remove(output: HTMLElement): void {
    const standIn = this.standIns.get(output);
    if (standIn === undefined) return;
    standIn.card.dispose();
    standIn.node.remove();
    output.querySelectorAll(".jp-ForgeFallback-dead").forEach((node) => node.classList.remove("jp-ForgeFallback-dead"));
    this.standIns.delete(output);
  }
}

/** A card of ours is drawn that is not the stand-in: the widget, or our MIME renderer. */
export function isAlive(output: HTMLElement): boolean {
  const ours = [...output.querySelectorAll(".jp-ForgeCard")].some((card) => card.closest(".jp-ForgeFallback") === null);
  if (ours) return true;
  const dead = deadNode(output);
  // Neither a card nor a dead widget: a picture or text that a renderer chose. Leave it.
  return dead === null;
}

function deadNode(output: HTMLElement): HTMLElement | null {
  const rendered = output.querySelector<HTMLElement>(".jp-OutputArea-output") ?? output;
  for (const node of [rendered, ...rendered.querySelectorAll<HTMLElement>("*")]) {
    if (node.closest(".jp-ForgeFallback") !== null) continue;
    const own = [...node.childNodes].filter((c) => c.nodeType === 3).map((c) => c.textContent ?? "").join("");
    // Hidden is the node that speaks, not the output: the stand-in goes beside it.
    if (DEAD.test(own)) return node;
  }
  return null;
}
