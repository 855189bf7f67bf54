/** Roles and places of stages, against diffusers' names of the same layers. */
import { describe, expect, it } from "vitest";
import { flowOf } from "../../src/streamlined/grouping.ts";
import { defaultCut, rehashCuts } from "../../src/streamlined/rehash.ts";
import { modelCase, models } from "../support/models.ts";
import { tinyTransformer } from "../support/tiny-transformer.ts";
import { unetCase, unets } from "../support/unets.ts";

async function modelOf(name: string) {
  const { architecture, config, geometry } = await unetCase(name);
  return architecture.model(config, geometry);
}

describe.each(unets)("%s", (name) => {
  it("has its stages where their names say that they are", async () => {
    const model = await modelOf(name);
    const levels = new Set(model.stages.map(({ name }) => /^down_blocks\.(\d+)/.exec(name)?.[1]).filter(Boolean)).size;
    for (const { name, role, place, reads } of model.stages) {
      const [, block, number] = /^(down_blocks|mid_block|up_blocks)(?:\.(\d+))?/.exec(name) ?? [];
      if (block === undefined) {
        expect(place, name).toBeUndefined();
        expect(role, name).toBe(name === "conv_out" ? "leave" : "enter");
        continue;
      }
      const way = block.replace(/_blocks?/, "").replace("mid", "middle");
      const level = way === "down" ? Number(number) : way === "up" ? levels - 1 - Number(number) : levels - 1;
      expect(role, name).toBe("block");
      const skip = way === "up" && reads.find((feature) => /^(conv_in$|down_blocks\.)/.test(feature));
      expect(place, name).toEqual({ way, level, resizes: /\.(down|up)samplers\./.test(name), ...(skip && { skip }) });
    }
  });

  it("can be cut where a layer of the way up ends, by default after the first of the last block", async () => {
    const model = await modelOf(name);
    const flow = flowOf(model);
    // The last stage of each layer, and with it the feature's name, is the one before the next layer or upsampler.
    const up = model.stages.map(({ name }) => name).filter((name) => name.startsWith("up_blocks."));
    const layerOf = (name: string) => name.replace(/\.(resnets|attentions|motion_modules)\.(\d+).*/, " $2");
    const ends = up.filter((name, i) => up[i + 1] && layerOf(name) !== layerOf(up[i + 1]!) && !/upsamplers/.test(name));
    expect(rehashCuts(flow)).toEqual(ends);
    const lastBlock = layerOf(up.at(-1)!).split(" ")[0]!;
    expect(defaultCut(flow)).toBe(ends.find((name) => name.startsWith(`${lastBlock}.`)));
  });
});

describe.each(["dit", "pixart"] as const)("a tiny %s", (kind) => {
  it("has its blocks where diffusers has transformer_blocks", async () => {
    const { model } = await tinyTransformer(kind);
    const stages = model().stages.map(({ name, role }) => ({ isBlock: name.startsWith("transformer_blocks."), role }));
    for (const { isBlock, role } of stages) expect(role === "block").toBe(isBlock);
  });
});

describe.each([...models, ...unets])("%s", (name) => {
  it("enters, has blocks and leaves, in this order", async () => {
    const { architecture, config, geometry } = unets.includes(name) ? await unetCase(name) : await modelCase(name);
    const roles = architecture.model(config, geometry).stages.map(({ role }) => role);
    expect(roles.filter((role, i) => role !== roles[i - 1])).toEqual(["enter", "block", "leave"]);
  });
});
