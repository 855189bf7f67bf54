/**
 * T-GATE on networks whose keys are zero: there attention adds a mean over the text's tokens, whatever the image is. So the mean of what
 * two texts add is what their mean adds, which the plain network can be asked for.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { checkNetwork, openDenoiser } from "../../src/acceleration/acceleration.ts";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { Component } from "../../src/components/components.ts";
import { ArgumentError } from "../../src/errors.ts";
import { architectureOf } from "../../src/models/registry.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { type Feeds, PlainDenoiser } from "../../src/sampling/denoiser.ts";
import { guideHalves, rows, stack } from "../../src/sampling/guidance.ts";
import { type FloatTensor, floatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { drawWeights } from "../support/drawn.ts";
import { fixture } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";
import { unetGeometry, unetTrajectory } from "../support/unet-steps.ts";

const pixart = {
  _class_name: "PixArtTransformer2DModel",
  activation_fn: "gelu-approximate",
  attention_head_dim: 8,
  caption_channels: null,
  cross_attention_dim: 12,
  in_channels: 4,
  norm_type: "ada_norm_single",
  num_attention_heads: 2,
  num_layers: 3,
  out_channels: 8,
  patch_size: 2,
  sample_size: 8,
  use_additional_conditions: false,
};
const configOf = (name: string): Promise<RawConfig> =>
  fixture(`pipelines/${name}`).sub("unet").json("config.json") as Promise<RawConfig>;
const crossOnly = async () => ({ ...(await configOf("sd")), only_cross_attention: [true, false] });
const networks: Readonly<Record<string, () => Promise<RawConfig>>> = {
  "Stable Diffusion": () => configOf("sd"),
  "Stable Diffusion XL": () => configOf("sdxl"),
  "a UNet with cross-attention alone": crossOnly,
  PixArt: async () => pixart,
};

async function opened(raw: RawConfig, keys: "zero" | "drawn") {
  const path = await temporaryFolder();
  const weights = drawWeights(raw);
  for (const [name, { data }] of weights)
    if (keys === "zero" && /attn\d\.to_k\.weight$/.test(name)) data.fill(0 as never);
  await writeFile(join(path, "config.json"), JSON.stringify(raw));
  await writeSafetensors(join(path, "diffusion_pytorch_model.safetensors"), weights);
  return Component.open(new NodeFolder(path), (config) => architectureOf(config), nodeRuntime, {
    threads: 1,
  });
}

const mapFeeds = (feeds: Feeds, f: (tensor: FloatTensor, name: string) => FloatTensor): Feeds =>
  Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, f(tensor as FloatTensor, name)]));
const first = (tensor: FloatTensor) => rows(tensor, 0, tensor.shape[0]! / 2);
const second = (tensor: FloatTensor) => rows(tensor, tensor.shape[0]! / 2, tensor.shape[0]!);
const mean = (tensor: FloatTensor) =>
  floatTensor(
    first(tensor).shape,
    first(tensor).data.map((value, i) => (value + second(tensor).data[i]!) / 2),
  );
/** Both halves of guidance have one latent and one timestep, and nothing is hidden of the text. */
const asHalves = (feeds: Feeds) =>
  mapFeeds(feeds, (tensor, name) => {
    if (name.endsWith("Mask"))
      return floatTensor(
        tensor.shape,
        tensor.data.map(() => 1),
      );
    const own = ["sample", "hiddenStates", "timestep"].includes(name);
    return own ? stack(first(tensor), first(tensor)) : tensor;
  });

describe.each(Object.entries(networks))("T-GATE on %s", (_, configuration) => {
  it("gives the last guided step's mean of both texts from the gate on, and runs half of the rows", async () => {
    const raw = await configuration();
    const [unet, reference] = [await opened(raw, "zero"), await opened(raw, "zero")];
    const plain = new PlainDenoiser(await reference.session(unetGeometry));
    const denoiser = await openDenoiser(unet, unetGeometry, { method: "tgate", gate: 2 }, null);
    for (const { feeds: given, step } of unetTrajectory(unet, 4, 4)) {
      const feeds = asHalves(given);
      const expected = await plain.run(
        step.index < 2
          ? feeds
          : mapFeeds(feeds, (tensor, name) => (name === "encoderHiddenStates" ? mean : first)(tensor)),
      );
      const { shape, data } = await denoiser.run(feeds, { ...step, guided: true });
      if (step.index < 2) {
        expect(compare("sample", data, expected.data).relative).toBeLessThan(1e-5);
        continue;
      }
      for (const half of [first, second]) {
        const actual = half(floatTensor(shape, data));
        expect(compare("sample", actual.data, expected.data).relative, `step ${step.index}`).toBeLessThan(1e-4);
      }
      expect(guideHalves(floatTensor(shape, data), 7.5).data).toEqual(first(floatTensor(shape, data)).data);
    }
    expect(denoiser.actions).toEqual(["full", "full", "inner", "inner"]);
    await Promise.all([unet.release(), reference.release()]);
  });

  it("keeps what each cross-attention adds: a step of the same latent gives the same, whatever the text is now", async () => {
    const unet = await opened(await configuration(), "drawn");
    const denoiser = await openDenoiser(unet, unetGeometry, { method: "tgate", gate: 1 }, null);
    const [feeds, later] = unetTrajectory(unet, 2).map((each) => each.feeds) as [Feeds, Feeds];
    const run = (given: Feeds, index: number) => denoiser.run(given, { index, steps: 9, timestep: 500, guided: false });
    const full = await run(feeds, 0);
    const text = mapFeeds(feeds, (tensor, name) =>
      name === "encoderHiddenStates"
        ? floatTensor(
            tensor.shape,
            tensor.data.map((value) => -value),
          )
        : tensor,
    );
    expect(compare("sample", (await run(text, 1)).data, full.data).relative).toBeLessThan(1e-5);
    expect(compare("sample", (await run(later, 2)).data, full.data).relative).toBeGreaterThan(1e-3);
    expect(denoiser.actions).toEqual(["full", "inner", "inner"]);
    await unet.release();
  });
});

it("is the same where the two networks are compiled one after the other", async () => {
  const raw = await configOf("sd");
  const [unet, other] = [await opened(raw, "drawn"), await opened(raw, "drawn")];
  const steps = unetTrajectory(unet, 4, 4);
  const together = await openDenoiser(unet, unetGeometry, { method: "tgate" }, null);
  const apart = await openDenoiser(other, unetGeometry, { method: "tgate" }, null, 0);
  for (const { feeds, step } of steps) {
    const [a, b] = [
      await together.run(feeds, { ...step, guided: true }),
      await apart.run(feeds, { ...step, guided: true }),
    ];
    expect(b.data).toEqual(a.data);
  }
  // 0.4 of 4 steps, rounded up.
  expect(apart.actions).toEqual(["full", "full", "inner", "inner"]);
  await Promise.all([unet.release(), other.release()]);
});

it("is refused for a network without cross-attention", async () => {
  const { caption_channels: _, cross_attention_dim: __, use_additional_conditions: ___, ...common } = pixart;
  const dit = { _class_name: "DiTTransformer2DModel", norm_type: "ada_norm_zero", num_embeds_ada_norm: 10 };
  const component = await opened({ ...common, ...dit }, "drawn");
  const geometry = { batch: "batch", height: 8, width: 8 };
  expect(() => checkNetwork(component, geometry, { method: "tgate" }, null)).toThrow(ArgumentError);
  const refused = openDenoiser(component, geometry, { method: "tgate" }, null);
  await expect(refused).rejects.toThrow(ArgumentError);
  await expect(refused).rejects.toThrow("DiTTransformer2DModel has none");
});
