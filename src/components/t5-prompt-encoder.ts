/** T5 with its tokenizer as Stable Diffusion 3's pipeline uses it: its states of padding count like those of words. */
import { componentFolder, hasConfig, type ModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { ConfigError } from "../errors.ts";
import { type T5Config, t5 } from "../models/t5.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { PlannedRun } from "../streamlined/planner.ts";
import type { FloatTensor } from "../tensor.ts";
import { Component, type RunningOptions } from "./components.ts";
import { expected } from "./expected-class.ts";
import type { PipelineOptions } from "./loading.ts";
import { STREAM_ABOVE, warningsOf } from "./prompt-encoder.ts";
import { encodePrompts, PromptTokenizer } from "./prompts.ts";

export class T5PromptEncoder {
  readonly tokenizer: PromptTokenizer;
  readonly encoder: Component<T5Config>;

  private constructor(tokenizer: PromptTokenizer, encoder: Component<T5Config>) {
    this.tokenizer = tokenizer;
    this.encoder = encoder;
  }

  /**
   * `suffix`: "" or "_3". Null in a folder without the encoder, also where model_index.json lists it: with its gigabytes it is what
   * people leave out. Throws ConfigError for one without a tokenizer.
   */
  static async open(
    folder: Folder,
    index: ModelIndex,
    suffix: "" | "_3",
    runtime: Runtime,
    options: PipelineOptions,
  ): Promise<T5PromptEncoder | null> {
    const [encoder, tokenizer] = [`text_encoder${suffix}`, `tokenizer${suffix}`];
    const source = componentFolder(folder, index, encoder);
    if (!index.components.has(encoder) || !(await hasConfig(source))) return null;
    if (!index.components.has(tokenizer)) {
      throw new ConfigError(`${folder.name}: has a ${encoder}, but no ${tokenizer}.`);
    }
    return new T5PromptEncoder(
      await PromptTokenizer.open(componentFolder(folder, index, tokenizer)),
      await Component.open(source, expected(t5), runtime, options, { streamAbove: STREAM_ABOVE }),
    );
  }

  /** States of prompts of `tokens` tokens, padding included: [prompts, tokens, width]. */
  async embed(
    prompts: readonly string[],
    { tokens, ...running }: RunningOptions & { tokens: number },
  ): Promise<{ states: FloatTensor; warnings: string[] }> {
    const tokenized = prompts.map((prompt) => this.tokenizer.encode(prompt, tokens));
    // As in diffusers, nothing is hidden from the encoder.
    const unmasked = tokenized.map((prompt) => ({ ...prompt, mask: prompt.mask.map(() => 1) }));
    const { encoderHiddenStates } = await encodePrompts(unmasked, this.encoder, running);
    return { states: encoderHiddenStates, warnings: warningsOf(tokenized, tokens) };
  }

  /** How a run for so many prompts keeps to a budget in bytes. Throws BudgetError. */
  planned(prompts: number, budget: number, tokens: number): PlannedRun {
    return this.encoder.planned({ batch: prompts, tokens }, budget);
  }

  release(): Promise<void> {
    return this.encoder.release();
  }
}
