/** Plots for the command line: a Vega-Lite specification as SVG and PNG. */
import type { TopLevelSpec } from "vega-lite";
import { loadSharp } from "../media/sharp-node.ts";
import { writeWhole } from "./whole-file.ts";

/** Writes `file`.svg and `file`.png and gives their names. The libraries are loaded here: little else needs them. */
export async function writePlot(file: string, specification: TopLevelSpec): Promise<string[]> {
  const [{ compile }, { parse, View }, sharp] = await Promise.all([
    import("vega-lite"),
    import("vega"),
    loadSharp("A plot as PNG"),
  ]);
  const svg = await new View(parse(compile(specification).spec), { renderer: "none" }).toSVG();
  await writeWhole(`${file}.svg`, svg);
  await writeWhole(
    `${file}.png`,
    await sharp(Buffer.from(svg), { density: 2 * 72 })
      .png()
      .toBuffer(),
  );
  return [`${file}.svg`, `${file}.png`];
}
