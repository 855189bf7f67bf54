/** One of CLIP's text towers with its tokenizer, as Stable Diffusion's pipelines use them. */
import { componentFolder, type ModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { ArgumentError, ConfigError } from "../errors.ts";
import type { Architecture, Geometry } from "../models/architecture.ts";
import type { CLIPTextConfig } from "../models/clip-text.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { rows as rowsOf, stack } from "../sampling/guidance.ts";
import type { PlannedRun } from "../streamlined/planner.ts";
import { type FloatTensor, floatOf, floatTensor } from "../tensor.ts";
import { parseWeights } from "../tokenizers/prompt-weights.ts";
import { Component, type RunningOptions } from "./components.ts";
import { expected } from "./expected-class.ts";
import type { PipelineOptions } from "./loading.ts";
import { STREAM_ABOVE, warningsOf } from "./prompt-encoder.ts";
import { PromptTokenizer, runClipText } from "./prompts.ts";

/** Which of a tower's states the denoiser is told: those after its last layer and norm, or those before its last layers. */
export type ClipStates = "last" | "penultimate";

export interface ClipEmbeddings {
  /** [prompts, tokens, width] */
  states: FloatTensor;
  /** [prompts, projection width], of a tower with a projection. */
  pooled: FloatTensor | null;
  warnings: string[];
}

interface ClipOptions extends RunningOptions {
  states: ClipStates;
  skip?: number;
  /** Whether prompts have weights in them: (a:1.3). */
  weighted?: boolean;
}

export class ClipPromptEncoder {
  readonly tokenizer: PromptTokenizer;
  readonly encoder: Component<CLIPTextConfig>;
  readonly #projects: boolean;

  private constructor(tokenizer: PromptTokenizer, encoder: Component<CLIPTextConfig>, projects: boolean) {
    this.tokenizer = tokenizer;
    this.encoder = encoder;
    this.#projects = projects;
  }

  /** `suffix`: "" or "_2". Null in a folder without either of the two parts. Throws ConfigError where only one is there. */
  static async open(
    folder: Folder,
    index: ModelIndex,
    suffix: "" | "_2",
    architecture: Architecture<CLIPTextConfig>,
    runtime: Runtime,
    options: PipelineOptions,
  ): Promise<ClipPromptEncoder | null> {
    const names = [`tokenizer${suffix}`, `text_encoder${suffix}`] as const;
    const [found, lacking] = [true, false].map((there) => names.filter((name) => index.components.has(name) === there));
    if (found!.length === 0) return null;
    if (lacking!.length > 0) throw new ConfigError(`${folder.name}: has a ${found![0]}, but no ${lacking![0]}.`);
    const tokenizer = await PromptTokenizer.open(componentFolder(folder, index, names[0]));
    const source = componentFolder(folder, index, names[1]);
    const encoder = await Component.open(source, expected(architecture), runtime, options, {
      streamAbove: STREAM_ABOVE,
    });
    return new ClipPromptEncoder(tokenizer, encoder, architecture.className.endsWith("WithProjection"));
  }

  /** Of a prompt, padding included. */
  get tokens(): number {
    return Math.min(this.tokenizer.maxLength, this.encoder.config.maxPositions);
  }

  /**
   * `skip`: layers at the end that are left out, but for the first `negatives` of the prompts, as in diffusers. Throws ArgumentError
   * for more layers than there are.
   */
  async embed(
    prompts: readonly string[],
    { negatives = 0, ...options }: ClipOptions & { negatives?: number },
  ): Promise<ClipEmbeddings> {
    if (!options.skip || negatives === 0) return this.#embed(prompts, options);
    const first = await this.#embed(prompts.slice(0, negatives), { ...options, skip: 0 });
    const then = await this.#embed(prompts.slice(negatives), options);
    return {
      states: stack(first.states, then.states),
      pooled: first.pooled && stack(first.pooled, then.pooled!),
      warnings: [...first.warnings, ...then.warnings],
    };
  }

  async #embed(
    prompts: readonly string[],
    { states, skip = 0, weighted = false, ...running }: ClipOptions,
  ): Promise<ClipEmbeddings> {
    const { tokens, encoder } = this;
    const { numLayers } = encoder.config;
    const most = states === "last" ? numLayers - 1 : numLayers - 2;
    if (skip > most) {
      throw new ArgumentError(
        `clipSkip is ${skip}; this model's text encoder has ${numLayers} layers, so at most ${most}.`,
      );
    }
    const tokenized = prompts.map((prompt) =>
      weighted ? this.tokenizer.encodeParts(parseWeights(prompt), tokens) : this.tokenizer.encode(prompt, tokens),
    );
    const weights = tokenized.map((prompt) => prompt.weights ?? []);
    const differ = weights.some((own) => own.some((weight) => weight !== 1));
    // What weights are counted from is the empty prompt.
    const rows = differ ? [...tokenized, this.tokenizer.encode("", tokens)] : tokenized;
    const wanted = this.#wanted(states, skip);
    const outputs = await runClipText(rows, encoder, wanted, running);
    const all = floatOf(outputs, states === "last" ? "lastHiddenState" : `hiddenStates.${wanted.hiddenStates![0]}`);
    return {
      states: differ ? weighedStates(all, weights) : all,
      pooled: this.#projects ? firstRows(floatOf(outputs, "textEmbeds"), prompts.length) : null,
      warnings: warningsOf(tokenized, tokens),
    };
  }

  #wanted(states: ClipStates, skip: number): Pick<Geometry, "hiddenStates" | "skippedLayers"> {
    return states === "last" ? { skippedLayers: skip } : { hiddenStates: [this.encoder.config.numLayers - 1 - skip] };
  }

  /** How a run for so many prompts keeps to a budget in bytes. Throws BudgetError. */
  planned(prompts: number, budget: number, states: ClipStates): PlannedRun {
    return this.encoder.planned({ batch: prompts, tokens: this.tokens, ...this.#wanted(states, 0) }, budget);
  }

  release(): Promise<void> {
    return this.encoder.release();
  }
}

/** Towers whose states a denoiser is told, as parts of a call that can be planned. */
export const plannedEncoders = (states: ClipStates, encoders: readonly (ClipPromptEncoder | null)[]) =>
  encoders
    .filter((encoder) => encoder !== null)
    .map((encoder) => ({
      planned: (prompts: number, budget: number) => encoder.planned(prompts, budget, states),
      release: () => encoder.release(),
    }));

const firstRows = (tensor: FloatTensor, count: number) =>
  tensor.shape[0] === count ? tensor : rowsOf(tensor, 0, count);

/**
 * States of prompts whose tokens count more or less: each as far from the empty prompt's state at its place as its weight says. The
 * last row of `states` is the empty prompt.
 */
function weighedStates(states: FloatTensor, weights: readonly (readonly number[])[]): FloatTensor {
  const prompts = weights.length;
  const [, tokens, width] = states.shape as [number, number, number];
  const data = states.data.slice(0, prompts * tokens * width);
  const empty = states.data.subarray(prompts * tokens * width);
  for (const [prompt, own] of weights.entries()) {
    for (const [token, weight] of own.entries()) {
      if (weight === 1) continue;
      const start = (prompt * tokens + token) * width;
      for (let i = 0; i < width; i++) {
        const from = empty[token * width + i]!;
        data[start + i] = from + weight * (data[start + i]! - from);
      }
    }
  }
  return floatTensor([prompts, tokens, width], data);
}
