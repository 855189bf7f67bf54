/** Where `animate` writes its video: to a new file or folder, or to stdout. */
import { ArgumentError } from "../errors.ts";
import { type Animation, animationFormat, checkRate } from "../media/animation.ts";
import { checkDestination, encodeAnimation, writeAnimation } from "../media/animation-node.ts";
import { about } from "./options.ts";
import { writeTo } from "./terminal.ts";

export class VideoFile {
  readonly toStdout: boolean;
  readonly #out: string;
  readonly #overwrite: boolean;

  private constructor(out: string, overwrite: boolean) {
    this.toStdout = out === "-";
    this.#out = out;
    this.#overwrite = overwrite;
  }

  /** Throws ArgumentError if a video cannot be written to `out`, before any of it is made. */
  static async open(out: string, overwrite: boolean, fps: number | undefined): Promise<VideoFile> {
    if (out !== "-") {
      const format = await about("--out", async () => animationFormat(out));
      if (fps !== undefined) await about("--fps", async () => checkRate(fps, format));
      await about("--out", () => checkDestination(out, { overwrite }));
    } else if (process.stdout.isTTY) {
      throw new ArgumentError("--out -: stdout is a terminal. Send it to a file or another program, or name a file.");
    }
    return new VideoFile(out, overwrite);
  }

  /** Returns the files; none if the video goes to stdout. */
  async write(video: Animation, text: Readonly<Record<string, string>>, signal: AbortSignal): Promise<string[]> {
    if (!this.toStdout) return writeAnimation(this.#out, video, { text, signal, overwrite: this.#overwrite });
    await writeTo(process.stdout, await encodeAnimation("gif", video, text));
    return [];
  }
}
