/** Components by class: a network is opened as what its configuration says that it is, or not at all. */
import { classNameOf, type RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ConfigError, HalfstepError } from "../errors.ts";
import type { Architecture } from "../models/architecture.ts";
import { networksOf } from "../models/registry.ts";

/** Which of the networks that would do a configuration is for; `where` is the component's folder, for the error. */
export type Expected<Config> = (raw: RawConfig, where: string) => Architecture<Config>;

/**
 * Takes a component of one of these classes, under whatever name the class had over time. A configuration that names no class is taken
 * for the only one that would do. Throws ConfigError for another class, with both names.
 */
export const expected =
  <Config>(...wanted: readonly Architecture<Config>[]): Expected<Config> =>
  (raw, where) => {
    const name = classNameOf(raw) ?? raw["model_type"];
    const [only, ...others] = wanted;
    if (name === undefined && only && others.length === 0) return only;
    const networks = known(raw);
    const found = wanted.find((architecture) => networks.includes(architecture as Architecture<unknown>));
    if (found) return found;
    const names = wanted.map(({ className }) => className).join(" or ");
    const what = typeof name === "string" ? `is of class ${name.slice(0, 100)}` : "names no class";
    throw new ConfigError(`${where}: ${what}; here it has to be ${names}.`);
  };

/** The same, but a configuration that names no class is taken for the first. */
export const expectedFirst =
  <Config>(...wanted: readonly Architecture<Config>[]): Expected<Config> =>
  (raw, where) =>
    expected(...(classNameOf(raw) === undefined ? wanted.slice(0, 1) : wanted))(raw, where);

/** None for a class that nothing here serves. */
function known(raw: RawConfig): readonly Architecture<unknown>[] {
  try {
    return Object.values(networksOf(raw));
  } catch (error) {
    if (error instanceof HalfstepError) return [];
    throw error;
  }
}
