/** One WebSocket to `api/training/stream`: connects, speaks envelopes, notices silence. Does not retry. */

import { parseEnvelope, type Envelope } from "./wire";

/** Two heartbeats (15 s each) and a little: after this the socket is dead, whatever TCP believes. */
export const SILENCE_MS = 35_000;
export const CONNECT_MS = 6000;

export interface SocketEvents {
  open(): void;
  message(message: Envelope): void;
  closed(): void;
}

export type SocketFactory = (url: string) => WebSocket;

export class WsChannel {
  private socket: WebSocket | null = null;
  private watchdog: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly url: string,
    private readonly events: SocketEvents,
    private readonly factory: SocketFactory = (url) => new WebSocket(url),
  ) {}

  connect(): void {
    let socket: WebSocket;
    try {
      socket = this.factory(this.url);
    } catch {
      queueMicrotask(() => this.events.closed());
      return;
    }
    this.socket = socket;
    this.watch(CONNECT_MS);
    socket.onopen = () => {
      if (this.socket !== socket) return;
      this.watch(SILENCE_MS);
      this.events.open();
    };
    socket.onmessage = (event: MessageEvent) => {
      if (this.socket !== socket) return;
      this.watch(SILENCE_MS);
      const message = parseEnvelope(String(event.data));
      if (message !== null) this.events.message(message);
    };
    socket.onclose = () => {
      if (this.socket === socket) this.drop();
    };
  }

  get open(): boolean {
    return this.socket !== null && this.socket.readyState === 1;
  }

  send(event: string, data: Record<string, unknown>): void {
    if (this.open) this.socket?.send(JSON.stringify({ event, data }));
  }

  close(): void {
    const socket = this.socket;
    this.socket = null;
    clearTimeout(this.watchdog);
    socket?.close();
  }

  private drop(): void {
    this.close();
    this.events.closed();
  }

  private watch(ms: number): void {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => this.drop(), ms);
  }
}

export function streamUrl(baseUrl: string, location: { href: string } = globalThis.location): string {
  const url = new URL(`${baseUrl}api/training/stream`, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}
