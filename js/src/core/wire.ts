/** The wire contract: what the server, the kernel and the page say to each other. */

export type Num = number | null;
export type NonFinite = "NaN" | "Infinity" | "-Infinity";
/** `interrupted`: the writing process died without finishing the session. */
export type Status =
  | "created"
  | "running"
  | "paused"
  | "completed"
  | "failed"
  | "stopped"
  | "interrupted";
export type Command = "pause" | "resume" | "stop" | "checkpoint" | "set";

export interface TrainingMetrics {
  loss: Num;
  perplexity: Num;
  grokProgress: Num;
  modelParams: Num;
  currentStep: Num;
  totalSteps: Num;
  /** 1-based. */
  currentModel: number;
  totalModels: number;
  /** 0..100. */
  overallProgress: Num;
  trainingTime: Num;
  estimatedTimeRemaining: Num;
  timestamp: number;
  extra: Record<string, Num | string>;
  nonFinite?: Record<string, NonFinite>;
}

export interface SeriesBlock {
  /** 0-based. */
  model: number;
  columns: string[];
  seq: number[];
  step: number[];
  time: number[];
  values: Num[][];
  /** [column, row, what]. */
  nonFinite?: [number, number, NonFinite][];
  decimated?: true;
}

export interface ModelState {
  index: number;
  name: string;
  params: Num;
  step: number;
  totalSteps: Num;
  status: "pending" | "running" | "completed" | "failed" | "stopped";
  startTime: Num;
  endTime: Num;
  loss: Num;
  valLoss: Num;
  grokProgress: Num;
  grokPhase: string | null;
  grokOnsetStep: Num;
}

export interface Mark {
  seq: number;
  time: number;
  step: Num;
  model: Num;
  event: string;
  data: Record<string, unknown>;
}

export interface SessionStatus {
  sessionId: string;
  seq: number;
  name: string;
  status: Status;
  config: Record<string, unknown>;
  startTime: number;
  endTime: Num;
  lastUpdate: number;
  totalModels: number;
  models: ModelState[];
  metrics: TrainingMetrics | null;
  metricNames: string[];
  marks: Mark[];
  error: string | null;
  lost: number;
  host: string;
  pid: number;
  controllable: boolean;
}

export interface LiveBase {
  sessionId: string;
  seq: number;
  fromSeq: number;
  status: Status;
  metrics: TrainingMetrics | null;
  models: ModelState[];
}

export interface ProgressUpdate extends LiveBase {
  series: SeriesBlock[];
}

export interface Ack {
  commandId: string;
  command: string;
  ok: boolean;
  message: string;
}

/** What was wrong with a request: `message` for a person, `code` for a program. */
export interface WireError {
  message: string;
  code: string;
  event?: string;
  sessionId?: string;
}

export interface Snapshot {
  status: SessionStatus;
  update: ProgressUpdate | null;
}

export interface Envelope {
  event: string;
  data: Record<string, unknown>;
}

export const MIME = "application/vnd.forge-notebook.v1+json";
export const ALL_SESSIONS = "*";

export const LIFECYCLE: ReadonlySet<string> = new Set([
  "training_started",
  "model_started",
  "model_completed",
  "training_completed",
  "training_failed",
  "training_stopped",
  "paused",
  "resumed",
  "checkpoint_saved",
  "recovery",
  "alert",
  "command_ack",
]);

const UNKNOWN_SESSION: ReadonlySet<unknown> = new Set(["unknown_session", "invalid_session_id"]);

const STATUSES = new Set(["created", "running", "paused", "completed", "failed", "stopped", "interrupted"]);

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isEnvelope(value: unknown): value is Envelope {
  return isObject(value) && typeof value.event === "string" && isObject(value.data);
}

export function parseEnvelope(text: string): Envelope | null {
  try {
    const value: unknown = JSON.parse(text);
    return isEnvelope(value) ? value : null;
  } catch {
    return null;
  }
}

/** Whether an error says that there is no such session; the text is for people and may change. */
export function isUnknownSession(error: { code?: unknown }): boolean {
  return UNKNOWN_SESSION.has(error.code);
}

/** A message that moves the cursor: it says which records it covers. */
export function isLive(data: Record<string, unknown>): boolean {
  return typeof data.seq === "number" && typeof data.fromSeq === "number";
}

/**
 * A status with every field present. The list omits `config` and `marks`, and a
 * snapshot may come from a notebook somebody else wrote: what is missing or of
 * the wrong kind becomes "unknown", never an exception in the middle of a card.
 */
export function asStatus(raw: unknown): SessionStatus | null {
  if (!isObject(raw) || typeof raw.sessionId !== "string") return null;
  if (typeof raw.status !== "string" || !STATUSES.has(raw.status)) return null;
  const partial = raw as Partial<SessionStatus>;
  return {
    sessionId: raw.sessionId,
    seq: numberOr(raw.seq, 0),
    name: typeof raw.name === "string" ? raw.name : raw.sessionId,
    status: raw.status as Status,
    config: isObject(raw.config) ? raw.config : {},
    startTime: numberOr(raw.startTime, 0),
    endTime: typeof raw.endTime === "number" ? raw.endTime : null,
    lastUpdate: numberOr(raw.lastUpdate, 0),
    totalModels: Math.max(1, numberOr(raw.totalModels, 1)),
    models: Array.isArray(raw.models) ? (raw.models as unknown[]).filter(isModel) : [],
    metrics: isObject(raw.metrics) ? (partial.metrics ?? null) : null,
    metricNames: Array.isArray(raw.metricNames) ? partial.metricNames!.map(String) : [],
    marks: Array.isArray(raw.marks) ? (raw.marks as unknown[]).filter(isMark) : [],
    error: typeof raw.error === "string" ? raw.error : null,
    lost: numberOr(raw.lost, 0),
    host: typeof raw.host === "string" ? raw.host : "",
    pid: numberOr(raw.pid, 0),
    controllable: raw.controllable === true,
  };
}

/** `{status, update}` as the widget trait and the notebook output carry it. */
export function asSnapshot(raw: unknown): Snapshot | null {
  if (!isObject(raw)) return null;
  const status = asStatus(raw.status);
  if (status === null) return null;
  const update = isObject(raw.update) && isLive(raw.update) ? raw.update : null;
  return { status, update: update as ProgressUpdate | null };
}

export function isEnded(status: Status): boolean {
  return status !== "created" && status !== "running" && status !== "paused";
}

function isModel(value: unknown): value is ModelState {
  return isObject(value) && typeof value.index === "number" && typeof value.name === "string";
}

function isMark(value: unknown): value is Mark {
  return isObject(value) && typeof value.seq === "number" && typeof value.event === "string";
}

function numberOr(value: unknown, fallback: number): number {
  return typeof value === "number" && Number.isFinite(value) ? value : fallback;
}
