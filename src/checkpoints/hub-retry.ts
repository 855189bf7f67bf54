/** Temporary failures, and how long to wait for them. */
import { setTimeout as sleep } from "node:timers/promises";
import { HubError } from "../errors.ts";

/**
 * A failure that may pass: no connection, a connection that broke off, an overloaded server. It keeps HubError's name: the
 * distinction is for retrying, not for users.
 */
export class TransientHubError extends HubError {
  /** Milliseconds that the server asks to wait; undefined if it does not say. */
  readonly wait: number | undefined;

  constructor(message: string, options: ErrorOptions & { wait?: number | undefined } = {}) {
    super(message, options);
    this.wait = options.wait;
  }
}

/** Longest wait that a server may ask for, in milliseconds; the Hub counts requests in windows of five minutes. */
const longestWait = 15 * 60_000;
/** How often in a row it may ask for one. */
const mostWaits = 8;

/**
 * Milliseconds that the headers of a 429 or 503 ask to wait: Retry-After (seconds or a date), RateLimit with `t` or `reset`,
 * RateLimit-Reset; the longest of these. Undefined if they do not say.
 */
export function waitAsked(headers: Headers, now = Date.now()): number | undefined {
  const after = headers.get("Retry-After")?.trim() ?? "";
  const date = /^\d+$/.test(after) ? Number.NaN : Date.parse(after);
  const seconds = [
    /^\d+$/.test(after) ? Number(after) : Math.ceil((date - now) / 1000),
    Number(/(?:^|[;,\s])(?:t|reset)=(\d+)/.exec(headers.get("RateLimit") ?? "")?.[1]),
    Number(/^\d+$/.exec(headers.get("RateLimit-Reset") ?? "")?.[0]),
  ];
  const longest = Math.max(0, ...seconds.filter((value) => Number.isFinite(value)));
  return longest > 0 ? longest * 1000 : undefined;
}

export interface PatienceOptions {
  signal?: AbortSignal | undefined;
  /** Attempts in a row that may fail without bringing anything; 5 unless given. */
  retries?: number | undefined;
  /** Milliseconds before the first repetition, doubled each time; 500 unless given. */
  retryDelay?: number | undefined;
  onNotice?: ((notice: string) => void) | undefined;
}

export interface RetryOptions {
  signal?: AbortSignal | undefined;
  progress?: () => Promise<number>;
  /** At most so many, whatever is usual. */
  retries?: number | undefined;
}

/** What all requests of one download share: when the server is asked again, and who is told. */
export class Patience {
  readonly signal: AbortSignal | undefined;
  readonly #options: PatienceOptions;
  /** Time from which on the server may be asked. */
  #from = 0;
  #waits = 0;
  #told = false;

  constructor(options: PatienceOptions) {
    this.#options = options;
    this.signal = options.signal;
  }

  /** Runs `work` until it succeeds or fails for good. `progress` grows whenever an attempt has brought something. */
  async retry<T>(work: () => Promise<T>, options: RetryOptions = {}): Promise<T> {
    const { signal = this.signal, progress = async () => 0 } = options;
    const { retryDelay = 500 } = this.#options;
    const retries = Math.min(this.#options.retries ?? 5, options.retries ?? Number.POSITIVE_INFINITY);
    for (let failures = 0; ; ) {
      const before = await progress();
      try {
        await this.#turn(signal);
        const result = await work();
        this.#waits = 0;
        return result;
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof TransientHubError)) throw error;
        // Waiting as long as the server asks is no failure.
        if (error.wait !== undefined) this.#wait(error, error.wait);
        else {
          failures = (await progress()) > before ? 1 : failures + 1;
          if (failures > retries) throw error;
          this.#tellOnce(error);
          await pause(retryDelay * 2 ** (failures - 1), signal);
        }
      }
    }
  }

  /** Tells the user why they wait, the first time; once is enough. */
  #tellOnce(error: Error): void {
    if (!this.#told) this.#options.onNotice?.(`${error.message} Trying again.`);
    this.#told = true;
  }

  async #turn(signal: AbortSignal | undefined): Promise<void> {
    for (let left = this.#from - Date.now(); left > 0; left = this.#from - Date.now()) {
      await pause(left, signal);
    }
  }

  /** Requests that run at the same time are all told to wait; one notice is enough. */
  #wait(error: TransientHubError, wait: number): void {
    const from = Date.now() + wait;
    const minutes = (ms: number) => Math.ceil(ms / 60_000);
    if (wait > longestWait) {
      throw new TransientHubError(
        `${error.message} It asks to wait ${minutes(wait)} minutes, until ${new Date(from).toLocaleTimeString()}; at most ` +
          `${minutes(longestWait)} minutes are waited. Run it again then.`,
        { cause: error },
      );
    }
    if (from < this.#from + 1000) return;
    if (++this.#waits > mostWaits) throw error;
    this.#from = from;
    const seconds = Math.ceil(wait / 1000);
    const notice = `The Hub asks to wait; going on in ${seconds} second${seconds === 1 ? "" : "s"}.`;
    // Nobody should wait for minutes and not know what for.
    if (this.#options.onNotice) this.#options.onNotice(notice);
    else process.emitWarning(notice);
  }
}

/** Throws the signal's own reason if that ends the pause. */
async function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(milliseconds, undefined, { signal }).catch((error: unknown) => {
    signal?.throwIfAborted();
    throw error;
  });
}
