/** The result of `generate`: images are written as they are made, and reported at the end. */

import { version } from "../../package.json";
import { defined } from "../options/defined.ts";
import type { PlannedPart } from "../pipelines/run-plan.ts";
import type { GuidanceInterval } from "../sampling/guidance.ts";
import { describeBytes } from "../streamlined/bytes.ts";
import { type GenerateOptions, ofPrompt } from "./generate-options.ts";
import { printResult } from "./json.ts";
import type { solverSettings } from "./options.ts";
import type { Painted, Subject } from "./painter.ts";
import type { PictureFiles } from "./picture-files.ts";
import { note, printUnlessQuiet } from "./terminal.ts";

/** An image in the report. */
type Made = Subject & { file: string | null; seed: number; width: number; height: number };

interface Settings extends ReturnType<typeof solverSettings> {
  guidanceScale: number;
  guidanceInterval: GuidanceInterval;
}

export class GenerateReport {
  settings!: Settings;
  readonly #options: GenerateOptions;
  readonly #files: PictureFiles;
  readonly #started = performance.now();
  #firstStep: number | null = null;
  readonly #made: Made[] = [];
  readonly #warnings = new Set<string>();
  #steps: Partial<Omit<Painted, "images">> = {};
  #planned: readonly PlannedPart[] | undefined;

  constructor(options: GenerateOptions, files: PictureFiles) {
    this.#options = options;
    this.#files = files;
  }

  stepped(): void {
    this.#firstStep ??= performance.now();
  }

  /** Prints each warning once, and adds it to the result. */
  warn(warnings: readonly string[]): void {
    for (const warning of warnings) {
      if (!this.#warnings.has(warning)) note(`Note: ${warning}`);
      this.#warnings.add(warning);
    }
  }

  async add(subject: Subject, { images, seeds, warnings, planned, ...steps }: Painted): Promise<void> {
    this.#steps = steps;
    if (planned && !this.#planned) note(`Memory: ${planned.map(describePart).join(", ")}.`);
    this.#planned ??= planned;
    this.warn(warnings);
    for (const [i, image] of images.entries()) {
      const seed = seeds[i]!;
      const file = await this.#files.add(image, this.#texts([subject], [seed]));
      this.#made.push({ ...subject, file, seed, width: image.width, height: image.height });
      if (this.#files.count > 1 && !this.#options.json) {
        await printUnlessQuiet(`${file}  seed ${seed}  ${nameOf(subject)}`);
      }
    }
  }

  /** Writes the contact sheet and reports the images. */
  async finish(): Promise<void> {
    const seeds = this.#made.map(({ seed }) => seed);
    const sheet = await this.#files.finish(this.#texts(this.#made, seeds));
    const seconds = seconds3(performance.now() - this.#started);
    if (this.#options.json) await this.#printJson(sheet, seeds, seconds);
    else if (this.#files.toStdout) note(`stdout (seed ${seeds[0]}, ${seconds.toFixed(1)} s)`);
    else if (seeds.length === 1) {
      await printUnlessQuiet(`${this.#files.files[0]} (seed ${seeds[0]}, ${seconds.toFixed(1)} s)`);
    } else await printUnlessQuiet(`${sheet ?? `${seeds.length} pictures`} (${seconds.toFixed(1)} s)`);
  }

  async #printJson(sheet: string | null, seeds: readonly number[], seconds: number): Promise<void> {
    const [first] = this.#made as [Made];
    const subjects = new Set(this.#made.map((made) => nameOf(made)));
    const result = {
      ...(subjects.size > 1
        ? {}
        : "prompt" in first
          ? { prompt: first.prompt }
          : { class: first.class, label: first.label }),
      ...this.#written(),
      ...{ width: first.width, height: first.height, seeds },
      ...defined({ planned: this.#planned }),
      ...{ files: this.#files.files, sheet, images: this.#made, warnings: [...this.#warnings], seconds },
      toFirstStep: this.#firstStep === null ? null : seconds3(this.#firstStep - this.#started),
    };
    await printResult("generate", result, { toStderr: this.#files.toStdout });
  }

  /** The texts stored with each image. */
  #texts(subjects: readonly Subject[], seeds: readonly number[]): Record<string, string> {
    const names = [...new Set(subjects.map(nameOf))].join("\n");
    return {
      Software: `halfstep ${version}`,
      ...("prompt" in subjects[0]! ? { prompt: names } : { class: names }),
      seed: seeds.join(" "),
      settings: JSON.stringify(this.#written()),
    };
  }

  /** The settings as written both to files and to JSON. */
  #written() {
    const { model, lora, predictionType, vae, provider, class: classes, image, mask, memory } = this.#options;
    return {
      model,
      ...defined({ loras: lora, predictionType, vae }),
      provider,
      ...this.settings,
      ...(!classes && ofPrompt(this.#options)),
      ...defined({ image, mask, memory: memory?.text }),
      ...this.#steps,
    };
  }
}

const describePart = ({ name, peak }: PlannedPart) => `${name} up to ${describeBytes(peak)}`;

const nameOf = (subject: Subject): string =>
  "prompt" in subject ? subject.prompt : `${subject.class}${subject.label ? ` ${subject.label}` : ""}`;

const seconds3 = (milliseconds: number) => +(milliseconds / 1000).toFixed(3);
