/** The result of `animate`: videos are written as they are made, and reported at the end. */
import { dirname } from "node:path";
import { version } from "../../package.json";
import type { Animation } from "../media/animation.ts";
import { printResult } from "./json.ts";
import { note, printUnlessQuiet } from "./terminal.ts";
import type { VideoFiles } from "./video-files.ts";

/** A finished video, what it is of, and the settings that it was made with. */
export interface MadeVideo {
  readonly subject: { readonly prompt: string } | { readonly image: string };
  readonly video: Animation;
  readonly seed: number;
  readonly warnings: readonly string[];
  readonly settings: Readonly<Record<string, unknown>>;
}

/** A video in the report. */
type Entry = MadeVideo["subject"] & { seed: number; files: string[]; frames: number };

export class AnimateReport {
  readonly #files: VideoFiles;
  readonly #json: boolean;
  readonly #started: number;
  readonly #made: Entry[] = [];
  readonly #warnings = new Set<string>();
  #shared: Readonly<Record<string, unknown>> = {};

  constructor(files: VideoFiles, { json = false, started }: { json?: boolean; started: number }) {
    this.#files = files;
    this.#json = json;
    this.#started = started;
  }

  async add({ subject, video, seed, warnings, settings }: MadeVideo, signal: AbortSignal): Promise<void> {
    for (const warning of warnings) {
      if (!this.#warnings.has(warning)) note(`Note: ${warning}`);
      this.#warnings.add(warning);
    }
    const text = {
      Software: `halfstep ${version}`,
      ...("prompt" in subject && subject),
      seed: String(seed),
      settings: JSON.stringify(settings),
    };
    const files = await this.#files.add(video, text, signal);
    const { width, height } = video.frames[0]!;
    this.#shared = { ...settings, width, height };
    this.#made.push({ ...subject, seed, files, frames: video.frames.length });
    if (this.#files.count === 1 || this.#json) return;
    const about = "prompt" in subject ? subject.prompt : subject.image;
    await printUnlessQuiet(`${placeOf(files)}  seed ${seed}  ${about}`);
  }

  async finish(toFirstStep: number | null): Promise<void> {
    const seconds = +((performance.now() - this.#started) / 1000).toFixed(3);
    const [first] = this.#made as [Entry];
    if (this.#json) return this.#printJson(first, seconds, toFirstStep);
    if (this.#made.length > 1) {
      return printUnlessQuiet(`${this.#made.length} videos (${seconds.toFixed(1)} s)`);
    }
    const { files, frames, seed } = first;
    const line = `${files.length > 1 ? `${frames} frames in ` : ""}${placeOf(files)} (${frames} frames, seed ${seed}, ${seconds.toFixed(1)} s)`;
    await (this.#files.toStdout ? note(line) : printUnlessQuiet(line));
  }

  async #printJson(first: Entry, seconds: number, toFirstStep: number | null): Promise<void> {
    const { seed, files: _, frames: __, ...subject } = first;
    const subjects = new Set(this.#made.map((made) => ("prompt" in made ? made.prompt : made.image)));
    const result = {
      ...(subjects.size === 1 && subject),
      ...this.#shared,
      ...{ seed, seeds: this.#made.map((made) => made.seed) },
      ...{ files: this.#files.files, videos: this.#made, warnings: [...this.#warnings], seconds, toFirstStep },
    };
    await printResult("animate", result, { toStderr: this.#files.toStdout });
  }
}

const placeOf = (files: readonly string[]) => (files.length > 1 ? dirname(files[0]!) : (files[0] ?? "stdout"));
