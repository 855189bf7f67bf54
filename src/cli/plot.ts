/** Plots for the command line: a Vega-Lite specification as SVG and PNG. */
import { writeFile } from "node:fs/promises";
import type { TopLevelSpec } from "vega-lite";

/** Writes `file`.svg and `file`.png and gives their names. The libraries are loaded here: little else needs them. */
export async function writePlot(file: string, specification: TopLevelSpec): Promise<string[]> {
  const [{ compile }, { parse, View }, { Resvg }] = await Promise.all([
    import("vega-lite"),
    import("vega"),
    import("@resvg/resvg-js"),
  ]);
  const svg = await new View(parse(compile(specification).spec), { renderer: "none" }).toSVG();
  await writeFile(`${file}.svg`, svg);
  await writeFile(`${file}.png`, new Resvg(svg, { fitTo: { mode: "zoom", value: 2 } }).render().asPng());
  return [`${file}.svg`, `${file}.png`];
}
