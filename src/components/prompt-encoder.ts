/** T5 as the one text encoder of a pipeline's folder: prompts in, states that a UNet attends to out. */
import { componentFolder, type ModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { t5 } from "../models/t5.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { PlannedRun } from "../streamlined/planner.ts";
import type { FloatTensor } from "../tensor.ts";
import { Component, type RunningOptions } from "./components.ts";
import { expected } from "./expected-class.ts";
import type { PipelineOptions } from "./loading.ts";
import { encodePrompts, PromptTokenizer, type TokenizedPrompt } from "./prompts.ts";

/** Tokens where the tokenizer knows no limit. */
const T5_TOKENS = 300;

/** Encoders with more bytes of weights are streamed: they run once a call, beside networks that need the memory. */
export const STREAM_ABOVE = 512 * 2 ** 20;

/** Text encoder and tokenizer of a pipeline: prompts to embeddings. */
export interface PromptEncoder {
  /** Tokens of a prompt, padding included. */
  readonly tokens: number;
  /** [prompts, tokens, width], and what a user should know about the prompts. */
  embed(prompts: readonly string[], options?: RunningOptions): Promise<{ embeddings: FloatTensor; warnings: string[] }>;
  /**
   * How a run for so many prompts keeps to a budget in bytes. Throws BudgetError.
   * @internal
   */
  planned(prompts: number, budget: number): PlannedRun;
  /** Frees memory and threads. */
  release(): Promise<void>;
}

/** Null in a folder without text encoder or tokenizer. Throws ConfigError for an encoder that is not T5's. */
export async function openPromptEncoder(
  folder: Folder,
  index: ModelIndex,
  runtime: Runtime,
  options: PipelineOptions,
): Promise<PromptEncoder | null> {
  if (!index.components.has("text_encoder") || !index.components.has("tokenizer")) return null;
  const tokenizer = await PromptTokenizer.open(componentFolder(folder, index, "tokenizer"));
  const source = componentFolder(folder, index, "text_encoder");
  const encoder = await Component.open(source, expected(t5), runtime, options, { streamAbove: STREAM_ABOVE });
  const tokens = Math.min(tokenizer.maxLength, T5_TOKENS);
  return {
    tokens,
    planned: (prompts, budget) => encoder.planned({ batch: prompts, tokens }, budget),
    async embed(prompts, options) {
      const tokenized = prompts.map((prompt) => tokenizer.encode(prompt, tokens));
      const { encoderHiddenStates: embeddings } = await encodePrompts(tokenized, encoder, options);
      return { embeddings, warnings: warningsOf(tokenized, tokens) };
    },
    release: () => encoder.release(),
  };
}

/** What was left out of prompts, and what the model does not know. */
export function warningsOf(tokenized: readonly TokenizedPrompt[], tokens: number): string[] {
  return tokenized.flatMap(({ truncated, unknown }) => [
    ...(truncated ? [`The prompt is longer than ${tokens} tokens; this was left out: "${truncated.trim()}".`] : []),
    ...(unknown.length > 0 ? [`Words that the model does not know: ${unknown.join(", ")}.`] : []),
  ]);
}
