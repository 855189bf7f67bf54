/** `--accelerate` and its options, from the entries of the table of methods. */
import { Option } from "commander";
import { type MethodEntry, namesOf, optionsOf } from "../acceleration/methods.ts";
import { ArgumentError } from "../errors.ts";
import type { MethodOption } from "../sampling/method.ts";

/** "feedBlock" -> "--feed-block" */
const flagOf = (name: string) => `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** `--accelerate` with a choice of methods, and a flag for each option that one of them has. */
export function methodOptions(entries: readonly MethodEntry[], usual: string): Option[] {
  const accelerate = new Option("--accelerate <method>", `do steps in part (${usual})`).choices(namesOf(entries));
  const offered = entries.filter(({ name }) => namesOf(entries).includes(name));
  const flags = [...optionsOf(offered)].map(([name, { option, of }]) => {
    const { help, value, choices } = option;
    const defaults = new Set(offered.flatMap(({ options }) => options[name]?.usual ?? []));
    const unless = defaults.size === 1 ? ` (${[...defaults][0]})` : "";
    const flag = new Option(`${flagOf(name)} <${value}>`, `${of.join(", ")}: ${help}${unless}`);
    return choices ? flag.choices([...choices]) : flag.argParser((text) => read(flagOf(name), option, text));
  });
  return [accelerate, ...flags];
}

function read<T>(flag: string, { parse, check }: MethodOption<T>, text: string): T {
  const value = parse(text);
  check(value, flag);
  return value;
}

/**
 * The command line's settings as the option `accelerate` of a pipeline. Undefined if there are none. Throws ArgumentError for
 * settings without a method, or of another method.
 */
export function methodOf(
  given: object,
  entries: readonly MethodEntry[],
): string | ({ method: string } & Record<string, unknown>) | undefined {
  const values = given as Readonly<Record<string, unknown>>;
  const method = values["accelerate"] as string | undefined;
  const all = optionsOf(entries.filter(({ name }) => namesOf(entries).includes(name)));
  const named = [...all.keys()].filter((name) => values[name] !== undefined);
  if (named.length === 0) return method;
  const own = Object.keys(entries.find(({ name }) => name === method)?.options ?? {});
  if (own.length === 0) {
    const owners = [...new Set([...all.values()].flatMap(({ of }) => of))];
    throw new ArgumentError(
      `${flagsOf([...all.keys()])} say how steps are done in part; they go with --accelerate ${inWords(owners, "or")}.`,
    );
  }
  const stranger = named.find((name) => !own.includes(name));
  if (stranger !== undefined) {
    const owners = inWords(all.get(stranger)!.of, "and");
    throw new ArgumentError(`${flagOf(stranger)} is a setting of ${owners}; ${method} has ${flagsOf(own)}.`);
  }
  return { method: method!, ...Object.fromEntries(named.map((name) => [name, values[name]])) };
}

const flagsOf = (names: readonly string[]) => inWords(names.map(flagOf), "and");

const inWords = (words: readonly string[], last: string) =>
  words.length < 2 ? words.join() : `${words.slice(0, -1).join(", ")} ${last} ${words.at(-1)}`;

/** Describes each method, for the text below the options. */
export function methodHelp(entries: readonly MethodEntry[]): string {
  const names = namesOf(entries);
  const shown = entries.filter(({ name }) => names.includes(name));
  const column = Math.max(...names.map((name) => name.length)) + 2;
  const lines = shown.flatMap(({ name, summary }) => {
    const [first, ...more] = wrapped(summary, 80 - 2 - column);
    return [`  ${name.padEnd(column)}${first}`, ...more.map((line) => " ".repeat(2 + column) + line)];
  });
  return `\nMethods of --accelerate:\n${lines.join("\n")}`;
}

function wrapped(text: string, width: number): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1)!;
    if (line !== "" && line.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = line === "" ? word : `${line} ${word}`;
  }
  return lines;
}
