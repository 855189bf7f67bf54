/** The table of methods to do steps in part: a new one is a file that exports an entry, and a line here. */
import { easyCache } from "../caching/easy-cache.ts";
import { firstBlockCache } from "../caching/first-block-cache.ts";
import { plainCache } from "../caching/plain-cache.ts";
import { tGate } from "../caching/t-gate.ts";
import { taylorSeer } from "../caching/taylor-seer.ts";
import { type Check, oneOf, textOr } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import type { StagedModel } from "../models/architecture.ts";
import { type OptionTable, settings } from "../options/options.ts";
import {
  type Method,
  type MethodOption,
  type NetworkKind,
  networkKinds,
  type WholeNetwork,
} from "../sampling/method.ts";
import { deepCache } from "./deepcache.ts";
import { ilf } from "./ilf.ts";
import { rehash } from "./rehash.ts";
import { reuse } from "./reuse.ts";

const none: Method<"none", NetworkKind, WholeNetwork, Record<never, never>> = {
  name: "none",
  summary: "every step in full",
  source: "",
  networks: networkKinds,
  options: {},
  cuts: () => [],
  open: ({ whole }) => whole(),
};

export const methods = [
  none,
  ilf,
  plainCache,
  firstBlockCache,
  easyCache,
  taylorSeer,
  tGate,
  rehash,
  deepCache,
  reuse,
] as const;

type AnyMethod = (typeof methods)[number];

/** The entries for a kind of network. */
export type MethodFor<Kind extends NetworkKind> = AnyMethod extends infer M
  ? M extends { readonly networks: readonly (infer Kinds)[] }
    ? Kind extends Kinds
      ? M
      : never
    : never
  : never;

/** Names that are offered for a kind of network: all but those which are only there to compare others with. */
export type OfferedMethod<Kind extends NetworkKind> =
  MethodFor<Kind> extends infer M
    ? M extends { readonly baseline: true }
      ? never
      : M extends { readonly name: infer Name extends string }
        ? Name
        : never
    : never;

/** The entries for any of some kinds of networks. */
export const methodsFor = <Kind extends NetworkKind>(...kinds: readonly Kind[]): readonly MethodFor<Kind>[] =>
  methods.filter(({ networks }: MethodEntry) =>
    networks.some((kind) => kinds.includes(kind as Kind)),
  ) as MethodFor<Kind>[];

type OptionsOf<M> = M extends Method<string, NetworkKind, never, infer Options> ? Options : never;
type All<Union> = (Union extends unknown ? (member: Union) => void : never) extends (all: infer Each) => void
  ? Each
  : never;

/** All options that the methods for a kind of network have. */
export type MethodSettings<Kind extends NetworkKind> = { method: MethodFor<Kind>["name"] } & All<
  OptionsOf<MethodFor<Kind>>
>;

/** The part of an entry that tools read, whatever its network and options. */
export interface MethodEntry {
  readonly name: string;
  readonly summary: string;
  readonly source: string;
  readonly networks: readonly NetworkKind[];
  readonly trained?: true;
  readonly crossAttention?: true;
  readonly ofOutput?: (model: StagedModel) => boolean;
  readonly baseline?: true;
  readonly options: Readonly<Record<string, MethodOption<unknown>>>;
}

/** As `OfferedMethod`. */
export const namesOf = (entries: readonly MethodEntry[]): readonly string[] =>
  entries.filter(({ baseline }) => !baseline).map(({ name }) => name);

/** By name, each option of some methods, and the methods that have it. */
export function optionsOf(
  entries: readonly MethodEntry[],
): Map<string, { option: MethodOption<unknown>; of: string[] }> {
  const found = new Map<string, { option: MethodOption<unknown>; of: string[] }>();
  for (const { name: method, options } of entries) {
    for (const [name, option] of Object.entries(options)) {
      const known = found.get(name);
      if (known) known.of.push(method);
      else found.set(name, { option, of: [method] });
    }
  }
  return found;
}

/** The check of an option that is a method's name, or an object with it and settings of its own. */
export function methodCheck(entries: readonly MethodEntry[]): Check {
  const known = new Map(entries.map((entry) => [entry.name, entry]));
  const all = optionsOf(entries);
  const table = {
    method: oneOf([...known.keys()]),
    ...Object.fromEntries([...all].map(([name, { option }]) => [name, option.check])),
  } as OptionTable<Record<string, unknown>>;
  return textOr(oneOf(namesOf(entries)), (value, name) => {
    settings(table)(value, name);
    const { method, ...given } = value as Record<string, unknown>;
    table["method"]!(method, `${name}.method`);
    const own = known.get(method as string)!.options;
    for (const key of Object.keys(given)) {
      if (given[key] === undefined || Object.hasOwn(own, key)) continue;
      const names = Object.keys(own);
      throw new ArgumentError(
        `${name}.${key} is an option of ${all.get(key)!.of.join(" and ")}; ${String(method)} has ` +
          `${names.length === 0 ? "none" : names.join(", ")}.`,
      );
    }
  });
}
