/** Temporary failures, and how long to wait after them. */
import { setTimeout as sleep } from "node:timers/promises";
import { HubError } from "../errors.ts";

/**
 * A temporary failure: no connection, a broken connection, an overloaded server. It keeps HubError's name, since only
 * retrying needs the distinction, not users.
 */
export class TransientHubError extends HubError {
  /** Milliseconds that the server asks us to wait; undefined if it does not say. */
  readonly wait: number | undefined;

  constructor(message: string, options: ErrorOptions & { wait?: number | undefined } = {}) {
    super(message, options);
    this.wait = options.wait;
  }
}

/** The longest wait that a server may ask for, in milliseconds; the Hub counts requests in windows of five minutes. */
const longestWait = 15 * 60_000;
/** How many times in a row a server may ask for a wait. */
const mostWaits = 8;

/**
 * Milliseconds to wait according to the headers of a 429 or 503: Retry-After (seconds or a date), RateLimit with `t` or
 * `reset`, RateLimit-Reset; the longest of these. Undefined if there are none.
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
  /** Attempts in a row that may fail without any progress; 5 unless given. */
  retries?: number | undefined;
  /** Milliseconds before the first retry, doubled each time; 500 unless given. */
  retryDelay?: number | undefined;
  onNotice?: ((notice: string) => void) | undefined;
}

export interface RetryOptions {
  signal?: AbortSignal | undefined;
  progress?: () => Promise<number>;
  /** An upper limit for this request's retries. */
  retries?: number | undefined;
}

/** Shared by all requests of one download: the time of the next request, and whom to notify. */
export class Patience {
  readonly signal: AbortSignal | undefined;
  readonly #options: PatienceOptions;
  /** The earliest time of the next request. */
  #from = 0;
  #waits = 0;
  #told = false;

  constructor(options: PatienceOptions) {
    this.#options = options;
    this.signal = options.signal;
  }

  /** Runs `work` until it succeeds or fails permanently. `progress` grows whenever an attempt has made progress. */
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
        // Waiting as long as the server asks does not count as a failure.
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

  /** Tells the user the reason for waiting, only the first time. */
  #tellOnce(error: Error): void {
    if (!this.#told) this.#options.onNotice?.(`${error.message} Trying again.`);
    this.#told = true;
  }

  async #turn(signal: AbortSignal | undefined): Promise<void> {
    for (let left = this.#from - Date.now(); left > 0; left = this.#from - Date.now()) {
      await pause(left, signal);
    }
  }

  /** Concurrent requests are all told to wait, but the user gets only one notice. */
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
    // Users should know the reason for a wait of minutes.
    if (this.#options.onNotice) this.#options.onNotice(notice);
    else process.emitWarning(notice);
  }
}

/** Throws the signal's own reason if it aborts the pause. */
async function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(milliseconds, undefined, { signal }).catch((error: unknown) => {
    signal?.throwIfAborted();
    throw error;
  });
}
