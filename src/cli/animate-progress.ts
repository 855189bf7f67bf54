/** What `animate` shows while it works. */
import { platform } from "#platform";
import type { SamplerStep } from "../sampling/sampler.ts";
import type { StepContext } from "../sampling/step-policy.ts";
import { describeBytes } from "../streamlined/bytes.ts";
import type { GroupProgress } from "../streamlined/session.ts";
import { ProgressBar } from "./terminal.ts";

/** One progress bar after the other: downloads, and of each video inference steps and decoded frames. */
export class Bars {
  readonly #started: number;
  readonly #videos: number;
  #video = 0;
  readonly #download = new ProgressBar("downloading {bar} {percentage} %, {eta_formatted} left");
  readonly #steps = new ProgressBar("{bar} {value}/{total} steps, {eta_formatted} left{now}");
  readonly #frames = new ProgressBar("{bar} {value}/{total} frames, {eta_formatted} left");
  /** Seconds from the start of the command to the end of the first step. */
  toFirstStep: number | null = null;

  constructor(started: number, videos: number) {
    this.#started = started;
    this.#videos = videos;
  }

  /** The next video begins. */
  begin(): void {
    this.#video++;
  }

  get #which(): string {
    return this.#videos > 1 ? `, video ${this.#video} of ${this.#videos}` : "";
  }

  readonly onDownload = ({ loaded, total }: { loaded: number; total: number }): void => {
    // Files that are already there are reported too, all at once.
    if (loaded < total) this.#download.show(loaded, total);
  };

  readonly onStep = ({ index, steps }: SamplerStep): void => {
    this.#download.stop();
    this.toFirstStep ??= +((performance.now() - this.#started) / 1000).toFixed(3);
    this.#steps.show(index + 1, steps, { now: this.#which });
  };

  /** Steps that run by a plan take so long that the bar shows the current group. */
  readonly onGroup = ({ index, steps, group, groupIndex, groups }: GroupProgress & StepContext): void => {
    this.#download.stop();
    const memory = describeBytes(platform.runtime.residentMemory() ?? 0);
    const place = `group ${groupIndex + 1} of ${groups} (${group.split(" to ")[0]})`;
    this.#steps.show(index, steps, { now: `${this.#which}, ${place}, ${memory} in use` });
  };

  readonly onDecode = ({ done, total }: { done: number; total: number }): void => {
    this.#steps.stop();
    this.#frames.show(done, total);
  };

  stop(): void {
    for (const bar of [this.#download, this.#steps, this.#frames]) bar.stop();
  }
}
