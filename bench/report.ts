/** What benches print after the machine, the versions and the seed: figures against their bars. */
/** One measured figure. `value` is null where it could not be measured; `detail` says why, or from what it comes. */
export interface Figure {
  readonly name: string;
  readonly value: number | null;
  readonly unit?: string;
  readonly bar?: { readonly atLeast: number } | { readonly atMost: number };
  readonly detail: string;
}

/** Whether a figure meets its bar; undefined for one that has none or could not be measured. */
export function holds({ value, bar }: Figure): boolean | undefined {
  if (value === null || !bar) return undefined;
  return "atLeast" in bar ? value >= bar.atLeast : value <= bar.atMost;
}

export function printFigure(figure: Figure): void {
  const { name, value, unit = "", bar, detail } = figure;
  const measured = value === null ? "not measured" : `${value.toFixed(2)}${unit}`;
  const wanted = bar ? ("atLeast" in bar ? `at least ${bar.atLeast}${unit}` : `at most ${bar.atMost}${unit}`) : "";
  const met = holds(figure);
  const verdict = met === undefined ? "" : met ? "holds" : "MISSED";
  console.log(`${name.padEnd(34)} ${measured.padStart(12)}  ${wanted.padEnd(16)} ${verdict}`);
  console.log(`    ${detail.replaceAll("\n", "\n    ")}`);
}
