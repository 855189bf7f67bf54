/** What commands that run for a while have in common: a bar that shows how far they are, and Ctrl-C. */
import cliProgress from "cli-progress";
import { HalfstepError } from "../errors.ts";

/** Ctrl-C; the command ends with 130, as shells have it. */
export class Interrupted extends HalfstepError {
  override readonly name = "Interrupted";
}

/** Ctrl-C aborts the signal that `work` is given, with a message that says what is left; a second one ends the process. */
export async function interruptible<T>(message: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  const stop = () => abort.abort(new Interrupted(message));
  process.once("SIGINT", stop);
  try {
    return await work(abort.signal);
  } finally {
    process.off("SIGINT", stop);
  }
}

/** A bar on the terminal, and none where nobody watches. Until it is stopped it keeps the process alive. */
export class ProgressBar {
  readonly #bar: cliProgress.SingleBar | null;

  constructor(format: string) {
    const options = { format, hideCursor: true, clearOnComplete: true };
    this.#bar = process.stderr.isTTY ? new cliProgress.SingleBar(options, cliProgress.Presets.shades_classic) : null;
  }

  /** Appears with the first call, from which on the time that is left is worked out. `more` is for the format. */
  show(value: number, total: number, more: Readonly<Record<string, unknown>> = {}): void {
    if (this.#bar?.isActive) this.#bar.update(value, more);
    else this.#bar?.start(total, value, more);
  }

  stop(): void {
    if (this.#bar?.isActive) this.#bar.stop();
  }
}
