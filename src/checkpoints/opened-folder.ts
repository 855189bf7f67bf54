import { type Folder, ForwardingFolder } from "./files.ts";
import type { WeightFiles } from "./weight-files.ts";

/** A component's folder whose weights have no files of their own: they are part of a larger file, or are modified. */
export class OpenedFolder extends ForwardingFolder {
  readonly weights: (variant?: string) => Promise<WeightFiles>;

  constructor(folder: Folder, weights: (variant?: string) => Promise<WeightFiles>) {
    super(folder);
    this.weights = weights;
  }
}
