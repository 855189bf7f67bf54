import { describe, expect, it } from "vitest";
import { filled, type Source, withoutResults } from "../../bench/markdown.ts";
import { idOf, type Result } from "../../bench/result.ts";
import { formatted, markdownTable, numbers, words } from "../../bench/table.ts";

const result = {
  bench: "speed",
  commands: ["npm run bench -- speed"],
  date: "2026-01-01",
  machine: { cpu: "x", instructions: "AVX2", cores: 1, memory: "1 GiB", system: "y" },
  versions: {},
  seed: 0,
  rows: [
    { id: "full", mode: "full steps", seconds: 2, speedup: 1 },
    { id: "half", mode: "half", seconds: null, speedup: 1.985 },
  ],
} satisfies Result;

const table = {
  columns: [words("mode", "mode"), numbers("time", "seconds", "1", " s"), numbers("", "speedup", "2", "x")],
};
const source = (name: string): Source => {
  if (name !== "speed") throw new Error("no such bench");
  return { tables: { all: table }, result };
};

describe("markers in Markdown", () => {
  it("are filled with a table, or with one figure in a sentence", () => {
    const text = [
      "<!-- results: speed all -->",
      "old",
      "<!-- /results -->",
      "It is <!-- results: speed half.speedup 1 -->9.9<!-- /results --> times as fast.",
    ].join("\n");
    const expected = [
      "<!-- results: speed all -->",
      "| mode | time | |",
      "| --- | --- | --- |",
      "| full steps | 2.0 s | 1.00x |",
      "| half | – | 1.99x |",
      "<!-- /results -->",
      "It is <!-- results: speed half.speedup 1 -->2.0<!-- /results --> times as fast.",
    ].join("\n");
    expect(filled(text, source)).toBe(expected);
    expect(filled(expected, source)).toBe(expected);
    expect(withoutResults(expected)).toBe("\nIt is  times as fast.");
  });

  it.each([
    ["speed none", 'There is no table "none"; there are all.'],
    ["speed fast.speedup 1", 'There is no row "fast"; there are full, half.'],
    ["speed half.price 1", 'Row "half" has no "price"; it has id, mode, seconds, speedup.'],
    ["speed half.speedup", "A figure needs a format"],
    ["speed half.speedup two", '"two" is not a format'],
    ["speed half.mode 1", '"half" is not a number'],
    ["other all", "no such bench"],
  ])("that cannot be filled are named: %s", (what, reason) => {
    const text = `a <!-- results: ${what} --><!-- /results -->`;
    expect(() => filled(text, source)).toThrow(`<!-- results: ${what} -->: `);
    expect(() => filled(text, source)).toThrow(reason);
  });

  it("that are not closed are found", () => {
    expect(() => filled("<!-- results: speed all -->", source)).toThrow("1 markers");
  });
});

describe("numbers in Markdown", () => {
  it.each([
    [1.25, "1", "1.3"],
    [0.00063, "4", "0.0006"],
    [9.6e-6, "1e", "9.6e-6"],
    [1e-4, "0e", "1e-4"],
    [0, "1e", "0"],
    [12345.6, "0,", "12,346"],
    [0.783, "0%", "78%"],
    [16_870_000_000, "2G", "16.87"],
    [1960, "2k", "1.96"],
    [null, "2", "–"],
  ])("%d as %s is %s", (value, format, text) => {
    expect(formatted(value, format)).toBe(text);
  });

  it("of rows that lack them are an error, not an empty cell", () => {
    expect(() => markdownTable({ columns: [numbers("", "psnr", "1")] }, result.rows)).toThrow(
      'Row "full" has no "psnr".',
    );
  });
});

it("ids are lower case with hyphens", () => {
  expect(idOf("TaylorSeer, order 1")).toBe("taylorseer-order-1");
  expect(idOf("animatediff-512", "2.2GB")).toBe("animatediff-512-2-2gb");
});
