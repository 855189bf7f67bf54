/** What differs between Node and a browser; `#platform` in package.json's imports picks node.ts or web.ts. */

import type { Folder } from "../checkpoints/files.ts";
import type { DownloadProgress } from "../checkpoints/hub.ts";
import { type LoraChoice, lorasCheck } from "../checkpoints/lora/choice.ts";
import { type Prediction, predictions } from "../checkpoints/single-file/configs.ts";
import { callback, oneOf, signal, text } from "../checks.ts";
import type { OptionTable } from "../options/options.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { CallScope } from "./call-scope.ts";

/** Where a model comes from, beside its name. */
export interface ResolveOptions {
  /** Branch, tag or commit on the Hub. */
  revision?: string;
  /** Which weights of a checkpoint with several precisions: "fp16", "bf16", ... */
  variant?: string;
  /** Small changes to the model's networks, in files of their own; merged into the weights when a network is compiled. */
  loras?: readonly LoraChoice[];
  /** What the network of a model in one file predicts, where the file does not say it (Stable Diffusion 2). */
  predictionType?: Prediction;
  signal?: AbortSignal;
  /** Told while files are downloaded. */
  onDownload?: (progress: DownloadProgress) => void;
  /**
   * Called with a sentence for people while a model is fetched: for example that the Hub asks to wait, and for how
   * long.
   */
  onNotice?: (notice: string) => void;
}

export const resolveOptions: OptionTable<ResolveOptions> = {
  revision: text,
  variant: text,
  loras: lorasCheck,
  predictionType: oneOf(predictions),
  signal,
  onDownload: callback,
  onNotice: callback,
};

export interface Platform {
  readonly runtime: Runtime;
  /** Bytes of memory that this machine has, or that this process may use; null if that is not known. */
  memory(): number | null;
  callScope(): CallScope;
  /** Settings that hold for a whole page or process, which `applySettings` of the same platform takes in a worker. */
  settings(): unknown;
  applySettings(settings: unknown): void;
  /** A model's name as a worker understands it: a worker resolves addresses from where its own file is. */
  modelAddress(name: string): string;
  /** The folder of a model: the name of an embedded one, a folder (Node) or an address (browser), or a Hub id. */
  resolveModel(name: string, options?: ResolveOptions): Promise<Folder>;
}
