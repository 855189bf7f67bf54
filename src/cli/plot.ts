/** Plots for the command line: a Vega-Lite specification as SVG and PNG. */
import type { TopLevelSpec } from "vega-lite";
import { loadSharp } from "../media/sharp-node.ts";
import { writeWhole } from "./whole-file.ts";

/**
 * Loads the packages that plots need. A command that will draw plots calls this before its work. Throws ToolError if sharp's
 * binary is missing.
 */
export async function loadPlots() {
  const [sharp, { compile }, { parse, View }] = [
    await loadSharp("A plot as PNG"),
    await import("vega-lite"),
    await import("vega"),
  ];
  return { compile, parse, View, sharp };
}

/** Writes `file`.svg and `file`.png and returns their names. */
export async function writePlot(file: string, specification: TopLevelSpec): Promise<string[]> {
  const { compile, parse, View, sharp } = await loadPlots();
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
