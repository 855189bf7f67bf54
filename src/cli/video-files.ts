/** Where `animate` writes its videos: to new files or folders, or to stdout. */
import { ArgumentError } from "../errors.ts";
import { type Animation, animationFormat, checkRate } from "../media/animation.ts";
import { checkDestination, encodeAnimation, writeAnimationAs } from "../media/animation-node.ts";
import { type NextName, namesAfter, numberedNames } from "../media/output-node.ts";
import { about } from "./options.ts";
import { writeTo } from "./terminal.ts";

export class VideoFiles {
  readonly toStdout: boolean;
  readonly count: number;
  /** Of all videos, in the order in which they were written. */
  readonly files: string[] = [];
  readonly #out: string;
  readonly #overwrite: boolean;
  readonly #next: NextName;
  #written = 0;

  private constructor(out: string, count: number, overwrite: boolean) {
    this.toStdout = out === "-";
    this.count = count;
    this.#out = out;
    this.#overwrite = overwrite;
    this.#next = count === 1 ? namesAfter(out) : numberedNames(out, count);
  }

  /** Throws ArgumentError if `count` videos cannot be written to `out`, before any of them is made. */
  static async open(
    out: string,
    count: number,
    { force: overwrite = false, fps }: { force?: boolean; fps?: number },
  ): Promise<VideoFiles> {
    if (out !== "-") {
      const format = await about("--out", async () => animationFormat(out));
      if (fps !== undefined) await about("--fps", async () => checkRate(fps, format));
      // Of several, those whose names are taken are left out.
      const first = count === 1 ? out : numberedNames(out, count)();
      await about("--out", () => checkDestination(first, { overwrite: overwrite && count === 1 }));
    } else if (count > 1) {
      throw new ArgumentError(`--out - is for one video; these are ${count}.`);
    } else if (process.stdout.isTTY) {
      throw new ArgumentError("--out -: stdout is a terminal. Send it to a file or another program, or name a file.");
    }
    return new VideoFiles(out, count, overwrite);
  }

  /** Writes the next video and returns its files; none if it goes to stdout. */
  async add(video: Animation, text: Readonly<Record<string, string>>, signal: AbortSignal): Promise<string[]> {
    if (this.toStdout) {
      await writeTo(process.stdout, await encodeAnimation("gif", video, text));
      return [];
    }
    const options = { text, signal, overwrite: this.#overwrite };
    const files = await writeAnimationAs(this.#out, this.#next, video, options);
    this.files.push(...files);
    this.#written++;
    return files;
  }

  /** For a message about a run that was interrupted. */
  get kept(): string {
    const count = this.#written;
    if (count === 0) return "nothing was written.";
    return `${count} of ${this.count} videos ${count === 1 ? "was" : "were"} written: ${this.files.join(", ")}.`;
  }
}
