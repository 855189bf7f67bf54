/** Weights in prompts, by the rules of the web interfaces that they come from. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { parseWeights } from "../../src/tokenizers/prompt-weights.ts";

const list = (prompt: string) => parseWeights(prompt).map(({ text, weight }) => [text, weight] as const);

describe("weights in a prompt", () => {
  // Factors as written, with those of the brackets around: 1.1 for each pair of round ones, 1 / 1.1 of square ones.
  it.each<[string, [string, number][]]>([
    ["a cat", [["a cat", 1]]],
    ["", []],
    [
      "a (red) cat",
      [
        ["a ", 1],
        ["red", 1.1],
        [" cat", 1],
      ],
    ],
    [
      "a [red] cat",
      [
        ["a ", 1],
        ["red", 1 / 1.1],
        [" cat", 1],
      ],
    ],
    [
      "(red:1.3) cat",
      [
        ["red", 1.3],
        [" cat", 1],
      ],
    ],
    ["(red: .5 )", [["red", 0.5]]],
    [
      "(red:-1)(blue:+2)",
      [
        ["red", -1],
        ["blue", 2],
      ],
    ],
    [
      "(a (b:2) c)",
      [
        ["a ", 1.1],
        ["b", 2.2],
        [" c", 1.1],
      ],
    ],
    ["((a))", [["a", 1.1 ** 2]]],
    ["[(a)]", [["a", 1]]],
    ["(a)(b)", [["ab", 1.1]]],
    ["\\(a\\) \\[b\\] \\\\", [["(a) [b] \\", 1]]],
    ["a\\b", [["a\\b", 1]]],
    [
      "a (b",
      [
        ["a ", 1],
        ["b", 1.1],
      ],
    ],
    ["[a", [["a", 1 / 1.1]]],
    ["a) b]", [["a) b]", 1]]],
    ["time: 10:30", [["time: 10:30", 1]]],
    ["a:1.3)", [["a:1.3)", 1]]],
    ["[a:1.3]", [["a:1.3", 1 / 1.1]]],
    ["(a:b)", [["a:b", 1.1]]],
    ["(a:0)", [["a", 0]]],
  ])("%j", (prompt, expected) => {
    const found = list(prompt);
    expect(found.map(([text]) => text)).toEqual(expected.map(([text]) => text));
    for (const [i, [, weight]] of expected.entries()) expect(found[i]![1]).toBeCloseTo(weight, 12);
  });

  it("a text whose brackets and backslashes are escaped is itself", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (text) => {
        const escaped = text.replaceAll(/[\\()[\]]/g, (character) => `\\${character}`);
        expect(list(escaped)).toEqual(text === "" ? [] : [[text, 1]]);
      }),
    );
  });

  it("brackets around all of a text multiply all of its weights", () => {
    const piece = fc.constantFrom("a", " b", "(c)", "[d]", "(e:1.5)", ", f", "((g))");
    fc.assert(
      fc.property(
        fc.array(piece, { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 1, max: 30 }),
        (pieces, tenths) => {
          const [plain, more] = [list(pieces.join("")), list(`(${pieces.join("")}:${tenths / 10})`)];
          expect(more.map(([text]) => text)).toEqual(plain.map(([text]) => text));
          for (const [i, [, weight]] of plain.entries()) expect(more[i]![1]).toBeCloseTo((weight * tenths) / 10, 12);
        },
      ),
    );
  });

  it.each([
    ["(".repeat(65), "more than 64 brackets"],
    ["[".repeat(100_000), "more than 64 brackets"],
    ["(a:101)", 'gives "a" the weight 101; weights are from -100 to 100'],
    [`${"(".repeat(60)}a`, "weights are from -100 to 100"],
    ["(a)b".repeat(501), "more than 1000 parts"],
  ])("refuses what no prompt means: %.20s", (prompt, message) => {
    expect(() => parseWeights(prompt)).toThrow(ArgumentError);
    expect(() => parseWeights(prompt)).toThrow(message);
  });

  it("reads any text within a second", () => {
    for (const text of ["(a:", ":  1", "a:", "()", "(a)", "\\", ": "]) {
      const started = performance.now();
      try {
        parseWeights(text.repeat(2 ** 20));
      } catch (error) {
        expect(error).toBeInstanceOf(ArgumentError);
      }
      expect(performance.now() - started).toBeLessThan(5000);
    }
  });
});
