/** What can be done with the sessions that are ticked in the list: compare them, delete them. */

import { MOST_COMPARED } from "./compare";
import { h, setText, show } from "./dom";
import { isEnded, type SessionStatus } from "./wire";

export interface SelectionActions {
  compare(ids: string[]): void;
  remove(id: string): Promise<void>;
}

export class Selection {
  readonly ids = new Set<string>();
  readonly node = h("div", "forge-selection", { role: "group", "aria-label": "Ticked sessions" });
  private readonly text = h("span", "forge-selection-text", { role: "status" });
  private readonly compare = h("button", "forge-button", { type: "button" }, "Compare");
  private readonly remove = h("button", "forge-button", { type: "button" }, "Delete");
  private readonly clear = h("button", "forge-button", { type: "button" }, "Clear");
  private readonly yes = h("button", "forge-button forge-danger", { type: "button" }, "Delete for good");
  private readonly no = h("button", "forge-button", { type: "button" }, "Keep");
  private asking = false;
  private trouble = "";

  constructor(
    actions: SelectionActions,
    private readonly session: (id: string) => SessionStatus | undefined,
    private readonly changed: () => void,
  ) {
    this.node.append(this.text, this.compare, this.remove, this.clear, this.yes, this.no);
    this.compare.addEventListener("click", () => actions.compare([...this.ids]));
    this.clear.addEventListener("click", () => this.empty());
    this.remove.addEventListener("click", () => {
      this.ask(true);
      // The harmless answer gets the focus.
      this.no.focus();
    });
    this.no.addEventListener("click", () => this.ask(false));
    this.yes.addEventListener("click", () => void this.removeAll(actions));
    this.node.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.ask(false);
    });
    this.paint();
  }

  tick(id: string, on: boolean): void {
    if (on) this.ids.add(id);
    else this.ids.delete(id);
    this.asking = false;
    this.trouble = "";
    this.paint();
  }

  /** Sessions that are gone cannot be ticked. */
  keep(exists: (id: string) => boolean): void {
    for (const id of [...this.ids]) if (!exists(id)) this.ids.delete(id);
    this.paint();
  }

  private empty(): void {
    this.ids.clear();
    this.ask(false);
    this.changed();
  }

  private ask(asking: boolean): void {
    this.asking = asking;
    this.trouble = "";
    this.paint();
  }

  private async removeAll(actions: SelectionActions): Promise<void> {
    this.asking = false;
    const failed: string[] = [];
    for (const id of [...this.ids]) {
      try {
        await actions.remove(id);
        this.ids.delete(id);
      } catch (error) {
        failed.push(error instanceof Error ? error.message : String(error));
      }
    }
    this.trouble = failed.join("; ");
    this.paint();
    this.changed();
  }

  private paint(): void {
    const n = this.ids.size;
    show(this.node, n > 0 || this.trouble !== "");
    const running = [...this.ids].some((id) => !isEnded(this.session(id)?.status ?? "completed"));
    if (running) this.asking = false;
    for (const node of [this.compare, this.remove, this.clear]) show(node, !this.asking && n > 0);
    for (const node of [this.yes, this.no]) show(node, this.asking);
    this.compare.disabled = n < 2 || n > MOST_COMPARED;
    this.remove.disabled = running;
    this.compare.title = n < 2 || n > MOST_COMPARED ? `Tick 2 to ${MOST_COMPARED} sessions` : "";
    this.remove.title = running ? "A running session cannot be deleted: stop it first" : "";
    setText(this.text, this.says(n));
  }

  private says(n: number): string {
    if (this.trouble !== "") return this.trouble;
    if (this.asking) return `Delete ${n === 1 ? "1 session" : `${n} sessions`} and all records?`;
    return n > MOST_COMPARED ? `${n} ticked, at most ${MOST_COMPARED} can be compared` : `${n} ticked`;
  }
}
