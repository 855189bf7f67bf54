/** The table of docs/methods.md, from the table of methods. */
import type { MethodEntry } from "../../src/acceleration/methods.ts";
import { networkKinds } from "../../src/sampling/method.ts";

export function methodTable(entries: readonly MethodEntry[]): string {
  const rows = entries.map(({ name, networks, trained, crossAttention, baseline, summary, options, source }) => {
    const kinds = networks.length === networkKinds.length ? "any" : networks.join(", ");
    const needs = trained
      ? "a trained module"
      : crossAttention
        ? "cross-attention to a text"
        : baseline
          ? "nothing; to compare with"
          : "nothing";
    const settings = Object.entries(options).map(([option, { usual }]) => `\`${option}\` (${usual})`);
    return `| \`${name}\` | ${kinds} | ${needs} | ${summary} | ${settings.join(", ")} | ${source} |`;
  });
  return [
    "| method | networks | needs | a step in part | settings (unless given) | source |",
    "|---|---|---|---|---|---|",
    ...rows.map((row) => row.replaceAll(/\| {2}(?=\|)/g, "| ")),
  ].join("\n");
}
