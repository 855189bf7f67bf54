/** Figures against their bars, as they are printed while a bench runs. */
import type { Row } from "./result.ts";

/** One measured figure. `value` is null where it could not be measured; `detail` says why, or from what it comes. */
export interface Figure extends Row {
  readonly name: string;
  readonly value: number | null;
  /** With its space: " ms", "x". */
  readonly unit: string;
  readonly bar: { readonly atLeast: number } | { readonly atMost: number } | null;
  readonly detail: string;
}

type Parts = Pick<Figure, "id" | "name" | "value" | "detail"> & Partial<Pick<Figure, "unit" | "bar">>;

/** A figure, with more numbers beside it where the documentation quotes them. */
export const figure = <More extends object = object>(parts: Parts, more?: More): Figure & More => ({
  unit: "",
  bar: null,
  ...parts,
  ...more!,
});

/** Whether a figure meets its bar; undefined for one that has none or could not be measured. */
export function holds({ value, bar }: Pick<Figure, "value" | "bar">): boolean | undefined {
  if (value === null || !bar) return undefined;
  return "atLeast" in bar ? value >= bar.atLeast : value <= bar.atMost;
}

/** "at least 0.75"; nothing where there is no bar. */
export function barText({ bar, unit }: Pick<Figure, "bar" | "unit">): string {
  if (!bar) return "";
  return "atLeast" in bar ? `at least ${bar.atLeast}${unit}` : `at most ${bar.atMost}${unit}`;
}

export const isFigure = (row: Row): row is Figure => "value" in row && "bar" in row && "detail" in row;

export function printFigure(figure: Figure): void {
  const { name, value, unit, detail } = figure;
  const measured = value === null ? "not measured" : `${value.toFixed(2)}${unit}`;
  const met = holds(figure);
  const verdict = met === undefined ? "" : met ? "holds" : "MISSED";
  console.log(`${name.padEnd(38)} ${measured.padStart(12)}  ${barText(figure).padEnd(16)} ${verdict}`);
  console.log(`    ${detail.replaceAll("\n", "\n    ")}`);
}
