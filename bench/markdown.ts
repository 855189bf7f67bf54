/**
 * Figures in Markdown come from bench/results/. A table stands between
 *
 *     <!-- results: BENCH TABLE -->
 *     <!-- /results -->
 *
 * and one figure, within a sentence, between `<!-- results: BENCH ROW.KEY FORMAT -->` and `<!-- /results -->`; `formatted` says
 * what a format is.
 */

import type { Result } from "./result.ts";
import { formatted, markdownTable, type Table } from "./table.ts";

const marker = /<!-- results: (\S+) (\S+)(?: (\S+))? -->(.*?)<!-- \/results -->/gs;

export interface Source {
  readonly tables: Readonly<Record<string, Table>>;
  readonly result: Result;
}

/** The text with every table and figure as the results have them. Throws an error that names the marker which cannot be filled. */
export function filled(text: string, sourceOf: (bench: string) => Source): string {
  const opened = text.split("<!-- results: ").length - 1;
  let closed = 0;
  const result = text.replaceAll(marker, (_, bench: string, what: string, format: string | undefined) => {
    closed++;
    const opening = `<!-- results: ${[bench, what, format].filter(Boolean).join(" ")} -->`;
    try {
      return `${opening}${contentOf(sourceOf(bench), what, format)}<!-- /results -->`;
    } catch (error) {
      throw new Error(`${opening}: ${(error as Error).message}`, { cause: error });
    }
  });
  if (opened !== closed) throw new Error(`${opened} markers "<!-- results: ... -->" open and ${closed} are whole.`);
  return result;
}

function contentOf({ tables, result }: Source, what: string, format: string | undefined): string {
  if (!what.includes(".")) {
    const table = Object.hasOwn(tables, what) ? tables[what] : undefined;
    if (!table) throw new Error(`There is no table "${what}"; there are ${Object.keys(tables).join(", ")}.`);
    return `\n${markdownTable(table, result.rows)}\n`;
  }
  const [id, key] = what.split(".") as [string, string];
  const row = result.rows.find((each) => each.id === id);
  if (!row) throw new Error(`There is no row "${id}"; there are ${result.rows.map((each) => each.id).join(", ")}.`);
  if (!Object.hasOwn(row, key)) throw new Error(`Row "${id}" has no "${key}"; it has ${Object.keys(row).join(", ")}.`);
  if (format === undefined) throw new Error("A figure needs a format, such as 2 for two decimals.");
  return formatted(row[key], format);
}

/** The text without what comes from results, and without blocks of code. */
export const withoutResults = (text: string): string => text.replaceAll(marker, "").replaceAll(/^```.*?^```$/gms, "");
