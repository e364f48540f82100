/** HTTP calls under `{base_url}api/training/`. */

import { asStatus, isEnvelope, isObject, type Ack, type Command, type Envelope, type SeriesBlock, type SessionStatus } from "./wire";

export class ApiError extends Error {
  constructor(
    /** HTTP status; 0 where there was none. */
    readonly status: number,
    message: string,
    /** The contract's word for it; empty where a proxy answered, and not our server. */
    readonly code = "",
  ) {
    super(message);
  }
}

export interface SeriesQuery {
  metrics?: string[];
  from?: number;
  to?: number;
  points?: number;
  x?: "step" | "time";
}

export class Api {
  constructor(
    readonly baseUrl: string,
    private readonly fetcher: typeof fetch = (input, init) => fetch(input, init),
  ) {}

  async status(id: string): Promise<SessionStatus> {
    const status = asStatus(await this.call(`status/${encodeURIComponent(id)}`));
    if (status === null) throw new ApiError(0, "unreadable status");
    return status;
  }

  async sessions(limit = 200): Promise<SessionStatus[]> {
    const list = await this.call(`sessions?limit=${limit}`);
    return Array.isArray(list) ? list.map(asStatus).filter((s) => s !== null) : [];
  }

  async poll(id: string, after: number | undefined, wait: number, signal: AbortSignal): Promise<Envelope[]> {
    const query = after === undefined ? "" : `?after=${after}&wait=${wait}`;
    const data = await this.call(`poll/${encodeURIComponent(id)}${query}`, { signal });
    return isObject(data) && Array.isArray(data.messages) ? (data.messages as unknown[]).filter(isEnvelope) : [];
  }

  async series(id: string, query: SeriesQuery): Promise<SeriesBlock[]> {
    const search = new URLSearchParams();
    if (query.metrics !== undefined) search.set("metrics", query.metrics.join(","));
    for (const name of ["from", "to", "points"] as const) {
      const value = query[name];
      if (value !== undefined) search.set(name, String(value));
    }
    if (query.x !== undefined) search.set("x", query.x);
    const data = await this.call(`series/${encodeURIComponent(id)}?${search}`);
    return isObject(data) && Array.isArray(data.series) ? (data.series as SeriesBlock[]) : [];
  }

  async control(id: string, command: Command, args: Record<string, unknown> = {}): Promise<Ack> {
    const data = await this.call(`control/${encodeURIComponent(id)}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ command, args }),
    });
    return data as Ack;
  }

  async remove(id: string): Promise<void> {
    await this.call(`sessions/${encodeURIComponent(id)}`, { method: "DELETE" });
  }

  private async call(path: string, init: RequestInit = {}): Promise<unknown> {
    const headers = new Headers(init.headers);
    const xsrf = cookie("_xsrf");
    if (xsrf !== null) headers.set("X-XSRFToken", xsrf);
    const response = await this.fetcher(`${this.baseUrl}api/training/${path}`, {
      credentials: "same-origin",
      cache: "no-store",
      ...init,
      headers,
    });
    const body: unknown = await response.json().catch(() => null);
    if (response.ok && isObject(body) && body.success === true) return body.data;
    const text = isObject(body) && typeof body.error === "string" ? body.error : `HTTP ${response.status}`;
    throw new ApiError(response.status, text, isObject(body) && typeof body.code === "string" ? body.code : "");
  }
}

export function cookie(name: string, jar: string = document.cookie): string | null {
  for (const part of jar.split(";")) {
    const [key, ...value] = part.trim().split("=");
    if (key === name) return decodeURIComponent(value.join("="));
  }
  return null;
}
