/** The messages between a pipeline in a worker and its caller. */
import {
  ArgumentError,
  BudgetError,
  CheckpointError,
  ConfigError,
  HalfstepError,
  HubError,
  NumericError,
  ShapeError,
  StateError,
  ToolError,
} from "../errors.ts";

/** A channel to the other side, whatever kind of worker it is. */
export interface Port<Received> {
  post(message: unknown, transfer?: ArrayBuffer[]): void;
  /** `failed` is called once the other side is gone, with the reason as far as it is known. */
  listen(received: (message: Received) => void, failed: (reason: string) => void): void;
  /** Whether it keeps the process alive. */
  hold(busy: boolean): void;
  terminate(): Promise<void>;
}

export type Method = "open" | "generate" | "release";

/** What `open` is given. */
export interface OpenInput {
  readonly pipeline: string;
  readonly model: string;
  readonly settings: unknown;
}

export type ToWorker =
  | {
      readonly type: "call";
      readonly id: number;
      readonly method: Method;
      readonly input: unknown;
      /** Without functions and signals. */
      readonly options: Readonly<Record<string, unknown>>;
      /** Names of the options that are functions. */
      readonly callbacks: readonly string[];
    }
  | { readonly type: "abort"; readonly id: number }
  /** The answer to a callback that is waited for. */
  | { readonly type: "answer"; readonly id: number };

export type FromWorker =
  | { readonly type: "done"; readonly id: number; readonly result: unknown }
  | { readonly type: "failed"; readonly id: number; readonly error: WireError }
  | { readonly type: "callback"; readonly id: number; readonly name: string; readonly args: readonly unknown[] };

/** An error as it is sent: a clone would lose its class. */
export interface WireError {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  readonly smallest?: number;
  readonly cause?: WireError;
}

export function toWire(error: unknown, depth = 4): WireError {
  if (!(error instanceof Error)) return { name: "Error", message: String(error) };
  const { name, message, stack, cause } = error;
  return {
    name,
    message,
    stack,
    smallest: error instanceof BudgetError ? error.smallest : undefined,
    ...(cause !== undefined && depth > 0 && { cause: toWire(cause, depth - 1) }),
  };
}

type Kind = new (message: string, options?: ErrorOptions) => Error;

/**
 * By name. Not `Object.entries` of the module: a module as an object makes bundlers put their runtime into the page's own
 * chunk, which ONNX Runtime's threads then load and run, and never start.
 */
const kinds: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  ["HalfstepError", HalfstepError],
  ["CheckpointError", CheckpointError],
  ["ConfigError", ConfigError],
  ["ShapeError", ShapeError],
  ["ArgumentError", ArgumentError],
  ["StateError", StateError],
  ["NumericError", NumericError],
  ["HubError", HubError],
  ["ToolError", ToolError],
]);

/** The same error, of the same class; one of a class that is not ours keeps its name. */
export function fromWire(wire: WireError): Error {
  const options = wire.cause ? { cause: fromWire(wire.cause) } : undefined;
  const error = ofKind(wire, options);
  if (wire.stack !== undefined)
    Object.defineProperty(error, "stack", { value: wire.stack, configurable: true, writable: true });
  return error;
}

function ofKind({ name, message, smallest }: WireError, options?: ErrorOptions): Error {
  if (name === "BudgetError") return new BudgetError(message, smallest ?? Number.NaN);
  const Kind = kinds.get(name);
  if (Kind) return new Kind(message, options);
  const other = new Error(message, options);
  Object.defineProperty(other, "name", { value: name, configurable: true, writable: true });
  return other;
}

/** The memory of images in a result, which is transferred and not copied: buffers that belong to only one array. */
export function pictureBuffers(result: unknown): ArrayBuffer[] {
  const { images = [], videos = [] } = (result ?? {}) as {
    images?: readonly { data: Uint8Array }[];
    videos?: readonly { frames: readonly { data: Uint8Array }[] }[];
  };
  const pictures = [...images, ...videos.flatMap(({ frames }) => frames)];
  const buffers = pictures
    .filter(({ data }) => data.buffer instanceof ArrayBuffer && data.byteLength === data.buffer.byteLength)
    .map(({ data }) => data.buffer as ArrayBuffer);
  return [...new Set(buffers)];
}
