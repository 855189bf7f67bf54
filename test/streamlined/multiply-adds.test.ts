/** Multiply-adds of a network: those of its stages, and of transformers by hand. */
import { describe, expect, it } from "vitest";
import { flowOf } from "../../src/streamlined/grouping.ts";
import { multiplyAddsOf, multiplyAddsOfModel } from "../../src/streamlined/multiply-adds.ts";
import { modelCase } from "../support/models.ts";
import { unetCase, unets } from "../support/unets.ts";

describe("multiply-adds", () => {
  it.each(unets)("of %s are those of its stages together", async (name) => {
    const { architecture, config, geometry } = await unetCase(name);
    const model = architecture.model(config, geometry);
    const stages = multiplyAddsOf(flowOf(model));
    expect(multiplyAddsOfModel(model)).toBe(stages.reduce((a, b) => a + b, 0));
  });

  it("of a DiT are those of its products, counted by hand", async () => {
    const { architecture, config, geometry } = await modelCase("dit");
    const { width, inChannels, outChannels, patchSize, numLayers } = config as Record<string, number>;
    const batch = geometry.batch as number;
    const patches = (geometry.height! / patchSize!) * (geometry.width! / patchSize!);
    const tokens = batch * patches;
    const patch = patchSize! ** 2;
    // Of each block and of the output layer: two layers on the time's 256 sinusoids, then shifts, scales and gates.
    const conditioning = batch * (256 * width! + width! ** 2);
    // q, k, v and out; queries by keys and weights by values; to four times the width and back.
    const block = tokens * (4 + 8) * width! ** 2 + 2 * batch * patches ** 2 * width! + 6 * batch * width! ** 2;
    const last = 2 * batch * width! ** 2 + tokens * width! * patch * outChannels!;
    const expected = tokens * patch * inChannels! * width! + numLayers! * (conditioning + block) + conditioning + last;
    expect(multiplyAddsOfModel(architecture.model(config, geometry))).toBe(expected);
  });
});
