/** How rows of a result are written in Markdown. */
import type { Json, Row } from "./result.ts";

/** Heading, and a cell; the row before is there for cells that are left empty where nothing changes. */
export type Column = readonly [heading: string, cell: (row: Row, before: Row | undefined) => string];

export interface Table {
  readonly columns: readonly Column[];
  /** Which rows it has; all unless given. */
  readonly only?: (row: Row) => boolean;
}

export function markdownTable({ columns, only = () => true }: Table, all: readonly Row[]): string {
  const rows = all.filter(only);
  const lines = [
    columns.map(([heading]) => heading),
    columns.map(() => "---"),
    ...rows.map((row, i) => columns.map(([, cell]) => cell(row, rows[i - 1]))),
  ];
  return lines.map((cells) => `| ${cells.join(" | ")} |`.replaceAll("|  |", "| |")).join("\n");
}

/**
 * A number as the documentation writes it. `format` is the number of decimals and, after it, `e` for powers of ten, `%`, `,` for
 * separated thousands, `G` for billions (bytes to GB) or `k` for thousands (milliseconds to seconds). What was not measured is "–".
 */
export function formatted(value: Json | undefined, format: string): string {
  const parts = /^(\d)([e%,Gk]?)$/.exec(format);
  if (!parts) throw new Error(`"${format}" is not a format: decimals from 0 to 9, then perhaps one of e % , G k.`);
  if (value === null) return "–";
  if (typeof value !== "number") throw new Error(`${JSON.stringify(value)} is not a number.`);
  const digits = Number(parts[1]);
  switch (parts[2]) {
    case "e":
      return value === 0 ? "0" : value.toExponential(digits);
    case "%":
      return `${(100 * value).toFixed(digits)}%`;
    case ",":
      return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    case "G":
      return (value / 1e9).toFixed(digits);
    case "k":
      return (value / 1e3).toFixed(digits);
    default:
      return value.toFixed(digits);
  }
}

/** A column of numbers. What was not measured, and what is zero where `zero` says so, has another text. */
export function numbers(
  heading: string,
  key: string,
  format: string,
  unit = "",
  { zero }: { zero?: string } = {},
): Column {
  return [
    heading,
    (row) => {
      const value = row[key];
      if (value === undefined) throw new Error(`Row "${row.id}" has no "${key}".`);
      if (value === null) return "–";
      if (value === 0 && zero !== undefined) return zero;
      return formatted(value, format) + unit;
    },
  ];
}

/** A column of words, under other names where `names` has them by the row's id. */
export function words(heading: string, key: string, names: Readonly<Record<string, string>> = {}): Column {
  return [heading, (row) => names[row.id] ?? String(row[key] ?? "–")];
}
