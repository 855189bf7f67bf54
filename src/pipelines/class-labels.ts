/** Names of a model's classes, after DiTPipeline's `get_label_ids`: `id2label` of model_index.json, ImageNet's in the published models. */
import type { ModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { isObject, shown } from "../checks.ts";
import { ArgumentError, ConfigError } from "../errors.ts";
import { nearestName } from "../options/nearest-name.ts";

/** By the class's number; a name may be several, with commas between them: "tench, Tinca tinca". */
export type ClassLabels = Readonly<Record<string, string>>;

/** More than a table of classes can have rows. */
const MOST_DIGITS = 8;
const NUMBER = new RegExp(`^(0|[1-9]\\d{0,${MOST_DIGITS - 1}})$`);

/** None where the file has no `id2label`. Throws ConfigError for one that is no table of names. */
export function readClassLabels(folder: Folder, { options }: ModelIndex): ClassLabels {
  const { id2label } = options;
  const labels: Record<string, string> = Object.create(null);
  if (id2label === undefined || id2label === null) return labels;
  const at = `${folder.name}/model_index.json: "id2label"`;
  if (!isObject(id2label) || Array.isArray(id2label)) {
    throw new ConfigError(`${at} must be an object, { "0": "tench", ... }, not ${shown(id2label)}.`);
  }
  for (const [number, label] of Object.entries(id2label)) {
    if (!NUMBER.test(number)) {
      throw new ConfigError(`${at}: ${shown(number)} is not a class's number, of at most ${MOST_DIGITS} digits.`);
    }
    if (typeof label !== "string")
      throw new ConfigError(`${at}: the name of ${number} is ${shown(label)}, not a text.`);
    labels[number] = label;
  }
  return labels;
}

const namesOf = (label: string): string[] => label.split(",").map((name) => name.trim());

/**
 * The class with this name, or with this among its names, in small or capital letters. Throws ArgumentError, with the name that was
 * probably meant, or with the numbers of all classes that have it.
 */
export function classByName(labels: ClassLabels, name: string): number {
  const wanted = name.trim().toLowerCase();
  const isMeant = (each: string) => each.toLowerCase() === wanted;
  const entries = Object.entries(labels);
  const matches = entries.filter(([, label]) => isMeant(label.trim()) || namesOf(label).some(isMeant));
  const [only, ...others] = matches;
  if (only && others.length === 0) return Number(only[0]);
  const given = shown(name);
  if (entries.length === 0)
    throw new ArgumentError(`This model has no names for its classes; give a number, not ${given}.`);
  if (only) {
    const some = matches.slice(0, 5).map(([number, label]) => `${number} (${label.slice(0, 60)})`);
    const more = matches.length > some.length ? ", ..." : "";
    throw new ArgumentError(
      `${matches.length} classes have this name, ${given}: ${some.join(", ")}${more}. Give a number.`,
    );
  }
  const meant = nearestName(
    name,
    entries.flatMap(([, label]) => namesOf(label)),
  );
  const hint = meant === null ? "" : ` Did you mean "${meant.slice(0, 60)}"?`;
  throw new ArgumentError(`No class of this model has this name, ${given}.${hint}`);
}
