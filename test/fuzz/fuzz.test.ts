import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { caseOf, filesOf, type Target } from "./case.ts";

const target: Target = {
  seeds: [
    new Map([["a.json", new TextEncoder().encode('{"a": [1, 2, {"b": null}], "c": "x"}')]]),
    new Map([["b.safetensors", Uint8Array.from([2, 0, 0, 0, 0, 0, 0, 0, 123, 125])]]),
    new Map([["c.txt", new TextEncoder().encode("12 cats")]]),
  ],
  run: () => undefined,
};

describe("a fuzzing case", () => {
  const seed = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  it("is the same for the same seed and number, and leaves the valid files as they are", () => {
    const before = target.seeds.map((files) => [...files].map(([path, bytes]) => [path, [...bytes]]));
    fc.assert(
      fc.property(seed, fc.nat(1000), (start, index) => {
        const found = caseOf("t", target, start, index);
        expect(caseOf("t", target, start, index)).toEqual(found);
        expect(filesOf(found, target)).toEqual(filesOf(found, target));
      }),
    );
    expect(target.seeds.map((files) => [...files].map(([path, bytes]) => [path, [...bytes]]))).toEqual(before);
  });

  it("nearly always changes something", () => {
    const same = Array.from({ length: 500 }, (_, i) => caseOf("t", target, 1, i)).filter((found) => {
      const [[path, bytes]] = [...filesOf(found, target)] as [[string, Uint8Array]];
      return Buffer.from(bytes).equals(Buffer.from(target.seeds[found.from]!.get(path)!));
    });
    expect(same.length).toBeLessThan(50);
  });
});
