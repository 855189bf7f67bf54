/** The caller's side of a pipeline in a worker: the same calls, errors and callbacks. */
import { platform } from "#platform";
import { startWorker } from "#start-worker";
import { callable } from "../callable.ts";
import { ArgumentError, ToolError } from "../errors.ts";
import type { Picture } from "../media/picture.ts";
import { RawImage } from "../media/raw-image.ts";
import { type OptionTable, readOptions } from "../options/options.ts";
import { RunQueue } from "../platform/run-queue.ts";
import type { WorkerChoice } from "./choice.ts";
import { type FromWorker, fromWire, type Method, type OpenInput, type Port, type ToWorker } from "./messages.ts";

interface Pending {
  readonly functions: ReadonlyMap<string, (...args: never[]) => unknown>;
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

/** Calls that go through one port. */
class Connection {
  readonly #port: Port<FromWorker>;
  readonly #pending = new Map<number, Pending>();
  #gone: string | null = null;
  #calls = 0;

  constructor(port: Port<FromWorker>) {
    this.#port = port;
    port.listen(
      (message) => this.#receive(message),
      (reason) => this.#fail(reason),
    );
    port.hold(false);
  }

  /** Rejects as soon as the signal is aborted; the worker stops when it is told so. */
  call(method: Method, input: unknown, given: object = {}): Promise<unknown> {
    if (this.#gone !== null) return Promise.reject(this.#stopped(this.#gone));
    const { signal, ...options } = given as { signal?: AbortSignal };
    if (signal?.aborted) return Promise.reject(signal.reason);
    const entries = Object.entries(options) as [string, unknown][];
    const functions = new Map(entries.filter(([, value]) => typeof value === "function")) as Pending["functions"];
    const id = ++this.#calls;
    return new Promise<unknown>((resolve, reject) => {
      const abort = () => {
        this.#post({ type: "abort", id });
        this.#settle(id)?.reject(signal!.reason);
      };
      const unlisten = () => signal?.removeEventListener("abort", abort);
      signal?.addEventListener("abort", abort, { once: true });
      this.#pending.set(id, {
        functions,
        resolve: (result) => {
          unlisten();
          resolve(result);
        },
        reject: (error) => {
          unlisten();
          reject(error);
        },
      });
      this.#port.hold(true);
      const plain = Object.fromEntries(entries.filter(([name]) => !functions.has(name)));
      try {
        this.#post({ type: "call", id, method, input, options: plain, callbacks: [...functions.keys()] });
      } catch (cause) {
        const reason = `What a pipeline in a worker is given must be data: ${(cause as Error).message}`;
        this.#settle(id)?.reject(new ArgumentError(reason, { cause }));
      }
    });
  }

  async close(): Promise<void> {
    this.#gone = "it has been released";
    await this.#port.terminate();
  }

  #post(message: ToWorker): void {
    this.#port.post(message);
  }

  #settle(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (this.#pending.size === 0) this.#port.hold(false);
    return pending;
  }

  #receive(message: FromWorker): void {
    if (message.type === "callback") void this.#callBack(message);
    else if (message.type === "done") this.#settle(message.id)?.resolve(message.result);
    else this.#settle(message.id)?.reject(fromWire(message.error));
  }

  /** The error that a callback throws is the one that its call rejects with. */
  async #callBack({ id, name, args }: FromWorker & { type: "callback" }): Promise<void> {
    const call = this.#pending.get(id)?.functions.get(name);
    if (!call) return;
    try {
      await call(...(args as never[]));
      if (name === "onStep") this.#post({ type: "answer", id });
    } catch (error) {
      this.#post({ type: "abort", id });
      this.#settle(id)?.reject(error);
    }
  }

  #fail(reason: string): void {
    if (this.#gone !== null) return;
    this.#gone = reason;
    for (const id of [...this.#pending.keys()]) this.#settle(id)?.reject(this.#stopped(reason));
  }

  #stopped(reason: string): ToolError {
    return new ToolError(`The pipeline's worker has stopped: ${reason}.`);
  }
}

export interface OpenInWorker<Options> {
  /** The class, as in "TextToImagePipeline". */
  pipeline: string;
  model: string;
  worker: WorkerChoice;
  /** Of `fromPretrained`, checked. */
  loading: object;
  /** Of a call. */
  options: OptionTable<Options>;
}

/**
 * Opens a pipeline in a worker: `Pipeline` is what its class calls it then, with the properties that `propertiesOf` sends. All
 * errors are those that it throws without one.
 */
export async function openInWorker<Options extends object, Pipeline>({
  pipeline,
  model,
  worker,
  loading,
  options,
}: OpenInWorker<Options>): Promise<Pipeline> {
  const connection = new Connection(startWorker(worker));
  try {
    const input: OpenInput = { pipeline, model: platform.modelAddress(model), settings: platform.settings() };
    const properties = (await connection.call("open", input, loading)) as { name: string };
    const queue = new RunQueue(properties.name);
    const remote = {
      ...properties,
      async generate(input: unknown, given?: Options): Promise<unknown> {
        const read = readOptions<Options & { signal?: AbortSignal }>(given, options as never, {
          of: `${pipeline}.generate`,
          self: remote,
        });
        if ("onFeatures" in read) {
          throw new ArgumentError(
            "onFeatures is given what lies in the worker's memory; it needs a pipeline without a worker.",
          );
        }
        const { signal } = read;
        return queue.run(async () => {
          const result = await connection.call("generate", input, queue.guarded(read));
          return revived(result);
        }, signal);
      },
      release: () =>
        queue.close(async () => {
          await connection.call("release", null).finally(() => connection.close());
        }),
    };
    return callable(remote) as Pipeline;
  } catch (error) {
    await connection.close();
    throw error;
  }
}

/** Gives images their class again, which a clone has lost. */
function revived(result: unknown): unknown {
  const { images, videos } = result as { images?: Picture[]; videos?: { frames: Picture[] }[] };
  const picture = (plain: Picture) => new RawImage(plain);
  return {
    ...(result as object),
    ...(images && { images: images.map(picture) }),
    ...(videos && { videos: videos.map((video) => ({ ...video, frames: video.frames.map(picture) })) }),
  };
}
