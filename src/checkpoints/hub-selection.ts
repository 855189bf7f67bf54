import { HubError } from "../errors.ts";
import type { ModelIndex } from "./diffusers-folder.ts";
import { chooseWeights, isPickle, requireVariant, whyNoWeights } from "./weight-names.ts";

export interface Selection {
  /** The preferred variant of the weights, such as "fp16"; full precision unless given. */
  variant?: string;
  /** Components of the pipeline to download; unless given all except `safety_checker`, which no pipeline here runs. */
  components?: readonly string[];
}

/** Files of tokenizers that are not JSON: vocabularies and SentencePiece models. */
const tokenizerFile = /(^|\/)(merges\.txt|vocab\.txt|spiece\.model|tokenizer\.model|sentencepiece\.bpe\.model)$/;

/**
 * The files of a repository that a pipeline needs: configurations, tokenizers, and each component's weights once, as
 * safetensors. Repositories often have the weights several times, in formats and precisions that would never be opened.
 *
 * `index` is the repository's model_index.json; a repository without one is a single component. Throws HubError if a
 * component's weights exist only as Python pickles, CheckpointError if the variant is missing or must be chosen.
 */
export function selectFiles(
  paths: readonly string[],
  index: Pick<ModelIndex, "components"> | undefined,
  { variant, components }: Selection = {},
): string[] {
  const named = [...(index?.components.keys() ?? [])];
  const wanted = named.filter((name) => (components ? components.includes(name) : name !== "safety_checker"));
  // Next to a model_index.json there are often the same weights in one file, for other programs.
  const root = filesIn(paths, "").filter(isSmall);
  if (variant !== undefined) {
    const folders = index ? wanted.map((name) => `${name}/`) : [""];
    requireVariant(
      variant,
      folders.map((folder) => filesIn(paths, folder)),
      "The repository",
    );
  }
  if (!index) return [...root, ...selectWeights(filesIn(paths, ""), variant, "the repository")];
  const inFolders = wanted.flatMap((name) => {
    const files = filesIn(paths, `${name}/`);
    return [...files.filter(isSmall), ...selectWeights(files, variant, name)].map((file) => `${name}/${file}`);
  });
  return [...root, ...inFolders];
}

/** Names of the files directly in a folder. */
function filesIn(paths: readonly string[], prefix: string): string[] {
  return paths
    .filter((path) => path.startsWith(prefix) && !path.includes("/", prefix.length))
    .map((path) => path.slice(prefix.length));
}

/** Configurations and tokenizers. Shard indexes are chosen together with their shards. */
function isSmall(file: string): boolean {
  return (file.endsWith(".json") && !/\.index\.([^.]+\.)?json$/.test(file)) || tokenizerFile.test(file);
}

/** The file that `openWeights` would open, with its shards. */
function selectWeights(files: readonly string[], variant: string | undefined, where: string): string[] {
  const choice = chooseWeights(files, variant, where);
  if (choice) return [choice.file, ...choice.shards];
  if (files.some(isPickle)) throw new HubError(`${where}: ${whyNoWeights(files)}`);
  return [];
}
