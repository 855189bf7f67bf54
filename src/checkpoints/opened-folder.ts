import { type Folder, ForwardingFolder } from "./files.ts";
import type { WeightFiles } from "./weight-files.ts";

type Change = (weights: WeightFiles) => WeightFiles;

/** A component's folder whose weights have no files of their own: they are part of a larger file, or are modified. */
export class OpenedFolder extends ForwardingFolder {
  readonly weights: (variant?: string) => Promise<WeightFiles>;
  /** What is done to the network's weights when all of them are together: LoRAs. */
  readonly change: Change;

  constructor(
    folder: Folder,
    weights: (variant?: string) => Promise<WeightFiles>,
    change: Change = (weights) => weights,
  ) {
    super(folder);
    this.weights = weights;
    this.change = change;
  }
}
