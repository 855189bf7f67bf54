import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path/posix";
import { describe, expect, it } from "vitest";

const folder = new URL("../../src/", import.meta.url);

describe("halfstep/exploration", () => {
  it("depends on nothing of diffusion, of ONNX Runtime or of Node", () => {
    const files = readdirSync(new URL("exploration/", folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => `exploration/${name.replaceAll("\\", "/")}`);
    expect(files.length).toBeGreaterThan(20);
    const imported = files.flatMap((file) =>
      [...readFileSync(new URL(file, folder), "utf8").matchAll(/(?:from|import\() ?"([^"]+)"/g)].map(([, name]) =>
        name!.startsWith(".") ? normalize(join(dirname(file), name!)) : name!,
      ),
    );
    const outside = imported.filter((name) => !name.startsWith("exploration/"));
    const allowed = /^((errors|checks)\.ts|highs|pure-rand\/.*)$/;
    expect(outside.filter((name) => !allowed.test(name))).toEqual([]);
  });
});
