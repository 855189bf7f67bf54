import { describe, expect, it } from "vitest";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { fixture } from "../support/golden.ts";

describe("whole pipelines", () => {
  it.each([
    ["dit", "DiTPipeline", 10],
    ["pixart-sigma", "PixArtSigmaPipeline", 5],
  ])("%s agrees with diffusers' run at every step", async (name, className, outputs) => {
    const result = await verifyFolder(fixture(`pipelines/${name}`), nodeRuntime);
    expect(result.class).toBe(className);
    expect(result.outputs).toHaveLength(outputs);
    for (const { name: output, relative } of result.outputs) expect(relative, output).toBeLessThan(1e-3);
  });
});
