/** Pause, resume, checkpoint, learning rate, stop: each pending until the trainer has acknowledged it. */

import { overallProgress } from "./card-bars";
import { h, setAttributes, setText, show, svg } from "./dom";
import { setting } from "./format";
import type { SessionClient } from "./session-client";
import { isEnded, type Ack, type Command, type SessionStatus } from "./wire";

export type Control = (command: Command, args?: Record<string, unknown>) => Promise<Ack>;

/** From here on a stop throws away enough work to ask first. */
const CONFIRM_ABOVE = 10;
/** A command that nobody has acknowledged by then is reported, not waited for. */
const GIVE_UP_MS = 60_000;

const ICONS: Record<string, string> = {
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  resume: "M4 2.5v11l9-5.5z",
  checkpoint: "M8 2v7.2l2.6-2.6 1 1L8 11.3 4.4 7.6l1-1L8 9.2M3 12.5h10V14H3z",
  stop: "M4 4h8v8H4z",
  set: "M2 4h5v1.5H2zM11 4h3v1.5h-3zM7.5 2.5H10V7H7.5zM2 10.5h2v1.5H2zM8 10.5h6v1.5H8zM4.5 9H7v4.5H4.5z",
};
const PENDING: Record<string, string> = { pause: "Pausing", resume: "Resuming", checkpoint: "Saving", stop: "Stopping", set: "Setting" };

export class Controls {
  readonly node = h("div", "forge-controls", { role: "group", "aria-label": "Training controls" });
  private readonly pause = button("pause", "Pause");
  private readonly checkpoint = button("checkpoint", "Checkpoint");
  private readonly stop = button("stop", "Stop");
  private readonly rate = button("set", "Learning rate");
  private readonly buttons = h("div", "forge-buttons", {}, this.pause, this.checkpoint, this.rate, this.stop);
  private readonly rateInput = h("input", "forge-input", { type: "text", inputmode: "decimal", "aria-label": "New learning rate", autocomplete: "off" });
  private readonly rateForm = h("form", "forge-confirm", { "aria-label": "Change the learning rate" }, this.rateInput, h("button", "forge-button", { type: "submit" }, "Set"), h("button", "forge-button", { type: "reset" }, "Cancel"));
  private readonly yes = button("stop", "Stop training", "forge-danger");
  private readonly no = h("button", "forge-button", { type: "button" }, "Keep running");
  private readonly confirm = h("div", "forge-confirm", { role: "alertdialog", "aria-label": "Stop training?" }, h("span", "", {}, "Stop this training?"), this.yes, this.no);
  private readonly answer = h("span", "forge-answer", { role: "status" });
  private readonly pending = new Map<Command, ReturnType<typeof setTimeout>>();
  private status: SessionStatus | null = null;
  private wasPaused = false;
  private readonly offAck: () => void;

  constructor(
    client: SessionClient,
    private readonly control: Control | undefined,
  ) {
    this.node.append(this.buttons, this.confirm, this.rateForm, this.answer);
    show(this.confirm, false);
    show(this.rateForm, false);
    this.rate.addEventListener("click", () => this.askRate());
    this.rateForm.addEventListener("submit", (event) => {
      event.preventDefault();
      this.setRate();
    });
    this.rateForm.addEventListener("reset", () => this.closeRate());
    this.rateForm.addEventListener("keydown", (event) => {
      // JupyterLab's shortcuts must not see what is typed here.
      event.stopPropagation();
      if (event.key === "Escape") this.closeRate();
    });
    this.pause.addEventListener("click", () => this.send(this.status?.status === "paused" ? "resume" : "pause"));
    this.checkpoint.addEventListener("click", () => this.send("checkpoint"));
    this.stop.addEventListener("click", () => this.askStop());
    this.yes.addEventListener("click", () => {
      this.closeConfirm();
      this.send("stop");
    });
    this.no.addEventListener("click", () => this.closeConfirm());
    this.confirm.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.closeConfirm();
    });
    this.offAck = client.onAck((ack) => this.acknowledged(ack));
  }

  update(status: SessionStatus, missing = false): void {
    this.status = status;
    const usable = this.control !== undefined && !missing && status.controllable && !isEnded(status.status);
    show(this.node, usable);
    if (!usable) {
      show(this.confirm, false);
      show(this.rateForm, false);
      show(this.buttons, true);
      for (const command of [...this.pending.keys()]) this.settle(command);
      return;
    }
    const paused = status.status === "paused";
    // The state itself is the acknowledgement, should the message have been missed.
    if (paused) this.settle("pause");
    else this.settle("resume", status.status === "running" && this.wasPaused);
    this.wasPaused = paused;
    this.paint();
  }

  dispose(): void {
    this.offAck();
    this.pending.forEach((timer) => clearTimeout(timer));
  }

  private paint(): void {
    const toggle: Command = this.status?.status === "paused" ? "resume" : "pause";
    this.face(this.pause, toggle, toggle === "resume" ? "Resume" : "Pause");
    this.face(this.checkpoint, "checkpoint", "Checkpoint");
    this.face(this.stop, "stop", "Stop");
    this.face(this.rate, "set", "Learning rate");
    show(this.rate, this.status !== null && currentRate(this.status) !== null);
  }

  private face(node: HTMLButtonElement, command: Command, label: string): void {
    const waiting = this.pending.has(command);
    const icon = node.querySelector("path");
    if (icon !== null) setAttributes(icon, { d: ICONS[command] });
    setText(node.lastElementChild!, waiting ? `${PENDING[command]}\u2026` : label);
    // Not `disabled`: that would drop the keyboard focus from the button just pressed.
    setAttributes(node, { "aria-busy": waiting ? "true" : null, "aria-disabled": waiting ? "true" : null });
  }

  private send(command: Command, args?: Record<string, unknown>): void {
    if (this.control === undefined || this.pending.has(command)) return;
    setText(this.answer, "");
    const timer = setTimeout(() => {
      this.settle(command);
      this.say(`${command}: no answer from the trainer`);
    }, GIVE_UP_MS);
    this.pending.set(command, timer);
    this.paint();
    (args === undefined ? this.control(command) : this.control(command, args)).then(
      (ack) => this.acknowledged({ ...ack, command }),
      (error: unknown) => {
        const message = error instanceof Error ? error.message : String(error);
        // 504: it is on its way, the trainer is between two looks; the event will tell.
        if (/not yet acknowledged/i.test(message)) return;
        if (this.settle(command)) this.say(`${command}: ${message}`);
      },
    );
  }

  private acknowledged(ack: Ack): void {
    const command = ack.command as Command;
    if (!this.settle(command)) return;
    if (!ack.ok) this.say(`${command}: ${ack.message || "refused"}`);
    else if (command === "checkpoint") this.say("Checkpoint saved");
    else if (command === "set") this.say(ack.message || "Set");
  }

  private settle(command: Command, really = true): boolean {
    const timer = this.pending.get(command);
    if (timer === undefined || !really) return false;
    clearTimeout(timer);
    this.pending.delete(command);
    this.paint();
    return true;
  }

  private askRate(): void {
    if (this.status === null || this.pending.has("set")) return;
    this.rateInput.value = setting(currentRate(this.status));
    show(this.buttons, false);
    show(this.rateForm, true);
    this.rateInput.select();
  }

  private setRate(): void {
    const rate = Number(this.rateInput.value.trim().replace(",", "."));
    if (!Number.isFinite(rate) || rate <= 0) {
      this.say("a learning rate is a number above 0");
      this.rateInput.select();
      return;
    }
    this.closeRate();
    this.send("set", { learning_rate: rate });
  }

  private closeRate(): void {
    show(this.rateForm, false);
    show(this.buttons, true);
    this.rate.focus();
  }

  private askStop(): void {
    if (this.pending.has("stop")) return;
    if ((this.status === null ? 0 : (overallProgress(this.status) ?? 0)) <= CONFIRM_ABOVE) {
      this.send("stop");
      return;
    }
    show(this.buttons, false);
    show(this.confirm, true);
    // The harmless answer gets the focus.
    this.no.focus();
  }

  private closeConfirm(): void {
    show(this.confirm, false);
    show(this.buttons, true);
    this.stop.focus();
  }

  /** A word to the user, for a few seconds. */
  say(text: string): void {
    setText(this.answer, text);
    setTimeout(() => {
      if (this.answer.textContent === text) setText(this.answer, "");
    }, 8000);
  }
}

/** What the training says it uses, else what it was configured with; null: it speaks of none. */
export function currentRate(status: SessionStatus): number | null {
  for (const x of [status.metrics?.extra.lr, status.metrics?.extra.learning_rate, status.config.learning_rate, status.config.lr]) {
    if (typeof x === "number") return x;
  }
  return null;
}

function button(icon: string, label: string, extra = ""): HTMLButtonElement {
  const picture = svg("svg", { viewBox: "0 0 16 16", width: 12, height: 12, "aria-hidden": "true" }, svg("path", { d: ICONS[icon], fill: "currentColor" }));
  const node = h("button", `forge-button ${extra}`.trim(), { type: "button" });
  node.append(picture, h("span", "", {}, label));
  return node;
}
