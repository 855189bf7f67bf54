import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

const folder = new URL("../../src/exploration/", import.meta.url);

describe("halfstep/exploration", () => {
  it("depends on nothing of diffusion, of ONNX Runtime or of Node", () => {
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
    expect(files.length).toBeGreaterThan(20);
    const imported = files.flatMap((file) =>
      [...readFileSync(new URL(file, folder), "utf8").matchAll(/(?:from|import\() ?"([^"]+)"/g)].map(
        ([, name]) => name!,
      ),
    );
    const outside = imported.filter((name) => !name.startsWith("./") && !/^\.\.\/[a-z-]+\.ts$/.test(name));
    const allowed = /^(\.\.\/\.\.\/(errors|checks)\.ts|highs|pure-rand\/.*)$/;
    expect(outside.filter((name) => !allowed.test(name))).toEqual([]);
    // One level up from here is src/: of it, errors and checks only.
    const up = readdirSync(folder)
      .filter((name) => name.endsWith(".ts"))
      .flatMap((file) =>
        [...readFileSync(new URL(file, folder), "utf8").matchAll(/"(\.\.\/[^"]+)"/g)].map(([, name]) => name),
      );
    expect([...new Set(up)].filter((file) => file !== "../errors.ts" && file !== "../checks.ts")).toEqual([]);
  });
});
