import { HubError } from "../errors.ts";
import type { ModelIndex } from "./diffusers-folder.ts";
import { chooseWeights, isPickle, requireVariant, whyNoWeights } from "./weight-names.ts";

export interface Selection {
  /** Weights' variant to prefer, such as "fp16"; full precision unless given. */
  variant?: string;
  /** Components of the pipeline to fetch; all but `safety_checker`, which no pipeline here runs, unless given. */
  components?: readonly string[];
}

/** What tokenizers have beside JSON: vocabularies and SentencePiece models. */
const tokenizerFile = /(^|\/)(merges\.txt|vocab\.txt|spiece\.model|tokenizer\.model|sentencepiece\.bpe\.model)$/;

/**
 * Which of a repository's files a pipeline needs: configurations, tokenizers, and each component's weights once, as
 * safetensors. Repositories have them several times over, in formats and precisions that would never be opened.
 *
 * `index` is the repository's model_index.json; a repository without one is a single component. Throws HubError if a
 * component's weights are there only as Python pickles, CheckpointError if the variant is not there or has to be chosen.
 */
export function selectFiles(
  paths: readonly string[],
  index: Pick<ModelIndex, "components"> | undefined,
  { variant, components }: Selection = {},
): string[] {
  const named = [...(index?.components.keys() ?? [])];
  const wanted = named.filter((name) => (components ? components.includes(name) : name !== "safety_checker"));
  // Beside a model_index.json lie the same weights again in one file for other programs.
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

/** What `openWeights` would open, with its shards. */
function selectWeights(files: readonly string[], variant: string | undefined, where: string): string[] {
  const choice = chooseWeights(files, variant, where);
  if (choice) return [choice.file, ...choice.shards];
  if (files.some(isPickle)) throw new HubError(`${where}: ${whyNoWeights(files)}`);
  return [];
}
