/**
 * What commands print. Results go to stdout. Progress and notes go to stderr, the first within a second; --quiet leaves
 * them out.
 */
import cliProgress from "cli-progress";
import { HalfstepError } from "../errors.ts";

/** Ctrl-C. The command ends with code 130, as is usual in shells. */
export class Interrupted extends HalfstepError {
  override readonly name = "Interrupted";
}

/**
 * Ctrl-C aborts the signal that `work` is given, with a message that says what is left; a second one ends the process. SIGTERM
 * ends it at once, also in the middle of a step: what is under its name by then is whole.
 */
export async function interruptible<T>(
  message: string | (() => string),
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const abort = new AbortController();
  const reason = new Interrupted("Ctrl-C");
  const stop = () => abort.abort(reason);
  process.once("SIGINT", stop);
  try {
    return await work(abort.signal);
  } catch (error) {
    // What is left is known only now: what was being written when it came was written to its end.
    throw error === reason ? new Interrupted(typeof message === "string" ? message : message()) : error;
  } finally {
    process.off("SIGINT", stop);
  }
}

/** One process runs one command, so how much it says is a matter of the process. */
let quiet = false;
export function setQuiet(on: boolean): void {
  quiet = on;
}

let status = false;

/** Shows a status until the next message: on a terminal the line is replaced, in a file it stays. */
export function showStatus(text: string): void {
  if (quiet) return;
  if (!process.stderr.isTTY) {
    process.stderr.write(`${plain(text)}\n`);
    return;
  }
  process.stderr.write(`\r\x1b[K${plain(text)}`);
  status = true;
}

function clearStatus(): void {
  if (status) process.stderr.write("\r\x1b[K");
  status = false;
}

/** Prints a line that is not part of the result. */
export function note(text: string): void {
  if (quiet) return;
  clearStatus();
  process.stderr.write(`${plain(text)}\n`);
}

/** Prints a line of the result, even with --quiet; resolves when it is written. */
export function print(text: string): Promise<void> {
  clearStatus();
  return writeTo(process.stdout, `${text}\n`);
}

/** Prints a line of the result unless --quiet is given, in which case only the files matter. */
export async function printUnlessQuiet(text: string): Promise<void> {
  if (!quiet) await print(plain(text));
}

/** Prints an error, also with --quiet. */
export function printError(text: string): void {
  clearStatus();
  process.stderr.write(`${plain(text)}\n`);
}

/** Rejects with the system's error; errors of stdout that nobody waits for are main's. */
export function writeTo(stream: NodeJS.WriteStream, data: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(data, (error) => (error ? reject(error) : resolve()));
  });
}

/** Names and messages may come from an untrusted file, so control characters are written as escapes. */
const plain = (text: string) =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  text.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);

/** How often a line is written if stderr is not a terminal. */
const SECONDS_BETWEEN = 10;

/**
 * Progress: on a terminal a bar, which keeps the process alive until it is stopped; in a file or a pipe one line at the
 * start and one every ten seconds.
 */
export class ProgressBar {
  readonly #format: string;
  readonly #bar: cliProgress.SingleBar | null;
  #started = 0;
  #startedWith = 0;
  #lastLine = Number.NEGATIVE_INFINITY;

  constructor(format: string) {
    this.#format = format;
    const options = { format, hideCursor: true, clearOnComplete: true };
    this.#bar =
      process.stderr.isTTY && !quiet ? new cliProgress.SingleBar(options, cliProgress.Presets.shades_classic) : null;
  }

  /** Shows the bar. The remaining time is computed from the first call on. `more` has further values for the format. */
  show(value: number, total: number, more: Readonly<Record<string, unknown>> = {}): void {
    if (quiet) return;
    if (!this.#bar) this.#line(value, total, more);
    else if (this.#bar.isActive) this.#bar.update(value, more);
    else {
      clearStatus();
      this.#bar.start(total, value, more);
    }
  }

  /** Removes the bar from the terminal, so that a line can be printed; the next `show` brings it back. */
  pause(): void {
    if (this.#bar?.isActive) this.#bar.stop();
  }

  stop(): void {
    this.pause();
    this.#lastLine = Number.NEGATIVE_INFINITY;
  }

  #line(value: number, total: number, more: Readonly<Record<string, unknown>>): void {
    const now = performance.now() / 1000;
    if (this.#lastLine === Number.NEGATIVE_INFINITY) [this.#started, this.#startedWith] = [now, value];
    else if (now - this.#lastLine < SECONDS_BETWEEN) return;
    this.#lastLine = now;
    // What a resumed run had from the start took none of this time.
    const done = value - this.#startedWith;
    const left = done > 0 ? ((now - this.#started) / done) * (total - value) : Number.NaN;
    const values = new Map<string, unknown>(
      Object.entries({
        ...more,
        ...{ value, total, percentage: total > 0 ? Math.floor((100 * value) / total) : 0 },
        // At the first line the remaining time is not known yet.
        eta_formatted: left > 0 ? `about ${duration(left)}` : "",
      }),
    );
    const text = this.#format
      .replace("{bar} ", "")
      .replace(/\{(\w+)\}/g, (_, name: string) => String(values.get(name) ?? ""));
    note(text.replace(/,? +left\b/, (words) => (left > 0 ? words : "")).trimEnd());
  }
}

/** 75 -> "1 min 15 s", 7300 -> "2 h 2 min". */
export function duration(seconds: number): string {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole % 60 && whole < 600 ? ` ${whole % 60} s` : ""}`;
  const minutes = Math.round(whole / 60);
  return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
}

/** For downloads of a model. Files that are already there are reported at once, and need no bar. */
export function downloadBar() {
  const bar = new ProgressBar("downloading {bar} {percentage} %, {eta_formatted} left");
  return {
    show: ({ loaded, total }: { loaded: number; total: number }): void => {
      if (loaded < total) bar.show(loaded, total);
    },
    stop: () => bar.stop(),
  };
}
