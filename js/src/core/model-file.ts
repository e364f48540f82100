/** A built file as the kernel sends it, for hosts without our server. */

import type { AnyModel } from "./model-channel";
import { isEnvelope } from "./wire";

/** A kernel busy in a cell answers only when the cell ends. */
const ANSWER_MS = 60_000;

/** `event` names the file: "plotly" or "card". */
export function fileFromModel(model: AnyModel, event: string): Promise<ArrayBuffer> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      model.off("msg:custom", onMessage);
    };
    const timer = setTimeout(() => {
      stop();
      reject(new Error(`the kernel did not send ${event}`));
    }, ANSWER_MS);
    const onMessage = (content: unknown, buffers?: unknown[]): void => {
      if (!isEnvelope(content) || content.event !== event) return;
      const buffer = buffers?.[0];
      stop();
      if (buffer instanceof ArrayBuffer) resolve(buffer);
      else if (ArrayBuffer.isView(buffer)) {
        // Copied: the view may share its buffer with the rest of the message.
        resolve(buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength) as ArrayBuffer);
      } else reject(new Error(`the kernel sent no ${event}`));
    };
    model.on("msg:custom", onMessage);
    model.send({ event, data: {} });
  });
}
