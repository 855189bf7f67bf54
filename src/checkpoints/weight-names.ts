/** How diffusers and transformers name weight files, whole or in shards, and which of several is chosen. */
import { CheckpointError } from "../errors.ts";
import { quote } from "./json.ts";

/** The chosen weights: one file, or the index of shards with the shards next to it. */
export interface WeightChoice {
  /** The safetensors file, or the shards' index. */
  readonly file: string;
  readonly sharded: boolean;
  /** "fp16", "bf16", ...; "" for the plain name. */
  readonly variant: string;
  readonly shards: readonly string[];
}

interface WeightName {
  readonly name: string;
  /** "diffusion_pytorch_model" (diffusers) or "model" (transformers). */
  readonly stem: string;
  readonly variant: string;
  readonly kind: "whole" | "index" | "shard";
}

const stems = ["diffusion_pytorch_model", "model"];
const stem = `(?<stem>${stems.join("|")})`;
const variant = "[\\w+-]+";
/**
 * The position of the variant has changed between versions: `model.fp16-00001-of-00002` and `model-00001-of-00002.fp16`;
 * `model.safetensors.index.fp16.json`, `model.safetensors.fp16.index.json` and `model.fp16.safetensors.index.json`.
 */
const patterns: readonly [WeightName["kind"], RegExp][] = [
  ["shard", RegExp(`^${stem}(?:\\.(?<a>${variant}?))?-\\d+-of-\\d+(?:\\.(?<b>${variant}))?\\.safetensors$`)],
  ["whole", RegExp(`^${stem}(?:\\.(?<a>${variant}))?\\.safetensors$`)],
  [
    "index",
    RegExp(
      `^${stem}(?:\\.(?<a>(?!safetensors)${variant}))?\\.safetensors(?:\\.(?<b>(?!index)${variant}))?\\.index` +
        `(?:\\.(?<c>${variant}))?\\.json$`,
    ),
  ],
];

function parseName(name: string): WeightName[] {
  for (const [kind, pattern] of patterns) {
    const { stem, a, b, c } = pattern.exec(name)?.groups ?? {};
    if (stem) return [{ name, stem, variant: a ?? b ?? c ?? "", kind }];
  }
  return [];
}

/** The variants of safetensors weights in a folder; "" for names without a variant. */
export function variantsOf(names: readonly string[]): string[] {
  const found = names.flatMap(parseName).filter(({ kind }) => kind !== "shard");
  return [...new Set(found.map(({ variant }) => variant))].sort();
}

/**
 * Chooses a folder's weights among its files: first the requested variant, then full precision, then "fp16", then the only
 * variant there is. A component may lack the variant that others of its pipeline have, as in diffusers.
 *
 * Undefined if there are none. Throws CheckpointError, which begins with `where`, if there are several variants and none of
 * these rules picks one.
 */
export function chooseWeights(names: readonly string[], asked: string | undefined, where: string) {
  const variants = variantsOf(names);
  if (variants.length === 0) return undefined;
  const preferred = [asked ?? "", "", "fp16", ...(variants.length === 1 ? variants : [])];
  const variant = preferred.find((name) => variants.includes(name));
  if (variant !== undefined) return choiceOf(names.flatMap(parseName), variant);
  throw new CheckpointError(
    `${where}: has its weights in the variants ${variants.join(", ")} and not in full precision; say which with ` +
      `variant (--variant ${variants[0]}).`,
  );
}

/**
 * At least one of a pipeline's folders must have the requested variant. Otherwise throws CheckpointError, which begins with
 * `where` and names the available variants.
 */
export function requireVariant(asked: string, folders: readonly (readonly string[])[], where: string): void {
  const found = [...new Set(folders.flatMap(variantsOf))];
  if (found.includes(asked)) return;
  const there = found.map((name) => (name === "" ? "full precision (no variant)" : quote(name))).join(", ");
  throw new CheckpointError(`${where}: has no weights of variant ${quote(asked)}; there is ${there || "none at all"}.`);
}

function choiceOf(names: readonly WeightName[], variant: string): WeightChoice {
  const candidates = names.filter((name) => name.variant === variant && name.kind !== "shard");
  const rank = ({ stem, kind }: WeightName) => 2 * stems.indexOf(stem) + (kind === "index" ? 1 : 0);
  const [chosen] = candidates.sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1)) as [WeightName];
  const sharded = chosen.kind === "index";
  const shards = sharded
    ? names.filter(({ kind, stem, variant: of }) => kind === "shard" && stem === chosen.stem && of === variant)
    : [];
  return { file: chosen.name, sharded, variant, shards: shards.map(({ name }) => name) };
}

/**
 * Possible names of weight files, in the order in which they are tried if a folder cannot be listed (a web server): the
 * requested variant, full precision, "fp16" and "bf16".
 */
export function usualNames(asked?: string): string[] {
  const variants = [...new Set([asked ?? "", "", "fp16", "bf16"])].map((name) => (name === "" ? "" : `.${name}`));
  return variants.flatMap((infix) =>
    stems.flatMap((stem) => [`${stem}${infix}.safetensors`, `${stem}.safetensors.index${infix}.json`]),
  );
}

/** Names of weights that are Python pickles, including the indexes of shards. */
const pickle = /\.(bin|ckpt|pt|pth|pkl)$|\.bin(\.\w+)?\.index(\.\w+)?\.json$/;
const otherWeights = /\.(safetensors|safetensors\..*json|gguf|onnx|msgpack|h5)$/;
/** Training state that is saved next to weights but is not weights. */
const noWeights = /^(optimizer|scheduler|scaler|random_states|training_args|rng_state)/;

export function isPickle(name: string): boolean {
  return pickle.test(name) && !noWeights.test(name);
}

/** Whether a file name is that of weights in any format or of a shard index. */
export function isWeights(name: string): boolean {
  return pickle.test(name) || otherWeights.test(name);
}

/** Explains in one or two sentences why a folder with these files has no readable weights, and what to do. */
export function whyNoWeights(names: readonly string[]): string {
  const pickles = names.filter(isPickle);
  if (pickles.length > 0) {
    return (
      `has its weights only as ${some(pickles)}: Python pickles, which can run code and are not read. Convert them to ` +
      "safetensors with diffusers or transformers (save_pretrained writes it), or look for a revision that has " +
      'safetensors (on the Hub often a pull request: revision "refs/pr/1").'
    );
  }
  const others = names.filter((name) => otherWeights.test(name));
  const shards = others.flatMap(parseName).filter(({ kind }) => kind === "shard");
  if (shards.length > 0 && shards.length === others.length) {
    return `has ${some(others)} without their index (${shards[0]!.stem}.safetensors.index.json): the copy is not whole.`;
  }
  const looked = `looked for ${usualNames().join(", ")}`;
  return others.length > 0
    ? `has ${some(others)}, but no weights by a name that is known; ${looked}.`
    : `has no weights; ${looked}.`;
}

function some(names: readonly string[]): string {
  const shown = names.slice(0, 3).map(quote).join(", ");
  return names.length > 3 ? `${shown} and ${names.length - 3} more` : shown;
}
