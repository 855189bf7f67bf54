import { Folder } from "./files.ts";
import type { WeightFiles } from "./weight-files.ts";

/** A component's folder whose weights are not found by their files' names: they lie in a file with others', or are changed. */
export abstract class OpenedFolder extends Folder {
  abstract weights(variant?: string): Promise<WeightFiles>;
}
