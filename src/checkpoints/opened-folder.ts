import { Folder } from "./files.ts";
import type { WeightFiles } from "./weight-files.ts";

/** A component's folder whose weights have no files of their own: they are part of a larger file, or are modified. */
export abstract class OpenedFolder extends Folder {
  abstract weights(variant?: string): Promise<WeightFiles>;
}
