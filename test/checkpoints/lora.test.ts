import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { type Folder, memorySource } from "../../src/checkpoints/files.ts";
import { LoraFile } from "../../src/checkpoints/lora/file.ts";
import { withLoras } from "../../src/checkpoints/lora/merge.ts";
import { fileSource } from "../../src/checkpoints/node.ts";
import { SafetensorsFile } from "../../src/checkpoints/safetensors.ts";
import { openWeights, WeightFiles } from "../../src/checkpoints/weights.ts";
import { ArgumentError, CheckpointError } from "../../src/errors.ts";
import { toOnnx } from "../../src/graph/onnx.ts";
import { networksOf } from "../../src/models/registry.ts";
import { loadModel } from "../../src/models/staged-session.ts";
import { checkpointWeights, rows, weightLocations } from "../../src/models/weights.ts";
import { platform } from "../../src/platform/node.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { fixture, tensors } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";
import { encoded, smallTensors } from "../support/single-files.ts";

const path = (name: string) => fixture("loras").nativePath(name);
const io = (name: string) => tensors(fixture("loras"), `${name}.io.safetensors`);

/** test/fixtures/single-files, or the pipeline of one component, as files. */
async function model(base: string): Promise<string> {
  const folder = await temporaryFolder();
  if (base === "pixart") {
    await cp(fixture("pixart-alpha").path, join(folder, "transformer"), { recursive: true });
    const index = { _class_name: "PixArtAlphaPipeline", transformer: ["diffusers", "PixArtTransformer2DModel"] };
    await writeFile(join(folder, "model_index.json"), JSON.stringify(index));
    return folder;
  }
  const file = join(folder, `${base}.safetensors`);
  await writeFile(file, await encoded(smallTensors(base)));
  return file;
}

const cases: [name: string, base: string, scale: number][] = [
  ["peft", "sd1", 0.8],
  ["kohya", "sd1", 0.7],
  ["older", "sd1", -0.5],
  ["sgm", "sdxl", 1],
  ["pixart", "pixart", 1],
];

describe("LoRAs in the layouts that people have", () => {
  it.each(cases)("%s: merged weights are those of diffusers and PEFT", async (name, base, scale) => {
    const file = await model(base);
    const plain = await platform.resolveModel(file);
    const merged = await platform.resolveModel(file, { loras: [{ file: path(`${name}.safetensors`), scale }] });
    const expected = new Map([...(await io(name))].filter(([key]) => key.startsWith("weight.")));
    const changed = new Set<string>();
    for (const component of ["unet", "text_encoder", "text_encoder_2", "transformer"]) {
      if (!(await plain.has(`${component}/config.json`))) continue;
      const weights = await openWeights(merged.sub(component));
      const before = await openWeights(plain.sub(component));
      for (const [tensor, entry] of weights.entries) {
        const key = `weight.${component}.${tensor}`;
        if (!entry.added) {
          // Everything else is the very entry of the file.
          expect(entry, key).toEqual(before.entries.get(tensor));
          continue;
        }
        changed.add(key);
        const { data } = (await weights.read(tensor)) as FloatTensor;
        const own = (await before.read(tensor)) as FloatTensor;
        expect(compare(key, data, expected.get(key)!.data as Float32Array).relative, key).toBeLessThan(1e-6);
        // The session's own product is the same.
        expect(compare(key, await inGraph(weights, tensor), data).relative, key).toBeLessThan(1e-6);
        expect(compare(key, own.data, data).relative, key).toBeGreaterThan(1e-3);
      }
    }
    expect([...changed].sort()).toEqual([...expected.keys()].sort());
  });

  it.each(cases.slice(0, 3))("%s: the UNet's output with it is diffusers'", async (name, base, scale) => {
    const inputs = await tensors(fixture("single-files"), "sd1.io.safetensors");
    const input = (key: string) => inputs.get(`unet.input.${key}`)!;
    const folder = await platform.resolveModel(await model(base), {
      loras: [{ file: path(`${name}.safetensors`), scale }],
    });
    const expected = (await io(name)).get("output.sample")! as FloatTensor;
    const found = await unetOutput(folder.sub("unet"), {
      sample: input("sample"),
      encoderHiddenStates: input("encoder_hidden_states"),
      timestep: floatTensor([2], Float32Array.from(input("timestep").data as BigInt64Array, Number)),
    });
    expect(compare(name, found, expected.data).relative).toBeLessThan(2e-5);
  });

  it("several at once add up, in any order, and cancel out", async () => {
    const file = await model("sd1");
    const lora = (name: string, scale: number) => ({ file: path(`${name}.safetensors`), scale });
    const read = async (...loras: { file: string; scale: number }[]) => {
      const weights = await openWeights((await platform.resolveModel(file, { loras })).sub("unet"));
      const name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0.weight";
      return ((await weights.read(name)) as FloatTensor).data;
    };
    const [plain, peft, kohya] = [await read(), await read(lora("peft", 0.5)), await read(lora("kohya", 2))];
    const sum = plain.map((value, i) => peft[i]! + kohya[i]! - value);
    const both = await read(lora("peft", 0.5), lora("kohya", 2));
    expect(compare("both", both, sum).relative).toBeLessThan(1e-6);
    expect(compare("turned", await read(lora("kohya", 2), lora("peft", 0.5)), both).relative).toBeLessThan(1e-6);
    expect(compare("none", await read(lora("peft", 1), lora("peft", -1)), plain).relative).toBeLessThan(1e-6);
    expect(await read(lora("peft", 0))).toEqual(plain);
  });
});

/** A weight as a session works it out, whole and with its rows in two parts. */
async function inGraph(weights: WeightFiles, name: string): Promise<Float32Array> {
  const { shape } = weights.entries.get(name)!;
  const value = checkpointWeights(weights, "the test")(name, shape);
  const half = Math.floor(shape[0]! / 2);
  const outputs = { first: rows(value, 0, half), second: rows(value, half, shape[0]!), whole: value };
  const session = await nodeRuntime.compile(toOnnx(outputs), weightLocations(weights));
  const { first, second, whole } = (await session.run({})) as Record<string, FloatTensor>;
  await session.release();
  const parts = new Float32Array([...first!.data, ...second!.data]);
  expect(compare("rows", parts, whole!.data).relative).toBeLessThan(1e-6);
  return whole!.data;
}

async function unetOutput(folder: Folder, feeds: Record<string, Tensor>): Promise<Float32Array> {
  const raw = await readConfig(folder);
  const [architecture] = Object.values(networksOf(raw));
  const [batch, , height, width] = feeds["sample"]!.shape as [number, number, number, number];
  const geometry = { batch, height, width, tokens: feeds["encoderHiddenStates"]!.shape[1]! };
  const config = architecture!.parseConfig(raw);
  const session = await loadModel(nodeRuntime, architecture!, config, await openWeights(folder), geometry);
  const output = (await session.run(feeds))["sample"] as FloatTensor;
  await session.release();
  return output.data;
}

const random = (seed: number, ...shape: number[]): FloatTensor => {
  let state = seed;
  const next = () => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return state / 2 ** 30 - 1;
  };
  return floatTensor(shape, Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, next));
};

async function lora(parts: Readonly<Record<string, Tensor>>): Promise<LoraFile> {
  return LoraFile.open(memorySource("lora.safetensors", await encoded(new Map(Object.entries(parts)))));
}

async function weightsOf(parts: Readonly<Record<string, Tensor>>): Promise<WeightFiles> {
  const bytes = await encoded(new Map(Object.entries(parts)));
  return WeightFiles.of(await SafetensorsFile.open(memorySource("model.safetensors", bytes)));
}

describe("a LoRA's product", () => {
  it("with a core (LoCon's lora_mid) is the sum over both ranks", () =>
    fc.assert(
      fc.asyncProperty(
        fc.record({ out: size(5), inner: size(5), rank: size(3), kernel: size(3), seed: fc.nat(1000) }),
        async ({ out, inner, rank, kernel, seed }) => {
          const up = random(seed, out, rank, 1, 1);
          const mid = random(seed + 1, rank, rank, kernel, kernel);
          const down = random(seed + 2, rank, inner, 1, 1);
          const base = random(seed + 3, out, inner, kernel, kernel);
          const file = await lora({
            "lora_unet_conv.lora_up.weight": up,
            "lora_unet_conv.lora_mid.weight": mid,
            "lora_unet_conv.lora_down.weight": down,
            "lora_unet_conv.alpha": floatTensor([], Float32Array.of(2)),
          });
          const weights = withLoras(await weightsOf({ "conv.weight": base }), "denoiser", [{ lora: file, scale: 3 }]);
          const expected = base.data.map((value, at) => {
            const [o, i, k] = [
              Math.floor(at / (inner * kernel ** 2)),
              Math.floor(at / kernel ** 2) % inner,
              at % kernel ** 2,
            ];
            let sum = 0;
            for (let p = 0; p < rank; p++) {
              for (let q = 0; q < rank; q++) {
                sum += up.data[o * rank + p]! * mid.data[(p * rank + q) * kernel ** 2 + k]! * down.data[q * inner + i]!;
              }
            }
            return value + 3 * (2 / rank) * sum;
          });
          const { data } = (await weights.read("conv.weight")) as FloatTensor;
          expect(Math.max(...data.map((value, i) => Math.abs(value - expected[i]!)))).toBeLessThan(1e-4);
        },
      ),
      { numRuns: 50 },
    ));

  it("with a core is the same in a session", async () => {
    const folder = await temporaryFolder();
    const parts = {
      "lora_unet_conv.lora_up.weight": random(1, 6, 2, 1, 1),
      "lora_unet_conv.lora_mid.weight": random(2, 2, 2, 3, 3),
      "lora_unet_conv.lora_down.weight": random(3, 2, 5, 1, 1),
    };
    await writeFile(join(folder, "lora.safetensors"), await encoded(new Map(Object.entries(parts))));
    await writeFile(
      join(folder, "model.safetensors"),
      await encoded(new Map([["conv.weight", random(4, 6, 5, 3, 3)]])),
    );
    const open = async (name: string) => SafetensorsFile.open(await fileSource(join(folder, name)));
    const file = await LoraFile.open(await fileSource(join(folder, "lora.safetensors")));
    const base = WeightFiles.of(await open("model.safetensors"));
    const weights = withLoras(base, "denoiser", [{ lora: file, scale: 0.3 }]);
    const { data } = (await weights.read("conv.weight")) as FloatTensor;
    expect(compare("conv", await inGraph(weights, "conv.weight"), data).relative).toBeLessThan(1e-6);
  });

  it.each([
    ["a matrix into a convolution of 1 x 1", [4, 6, 1, 1], [4, 2], [2, 6]],
    ["a convolution of 1 x 1 into a matrix", [4, 6], [4, 2, 1, 1], [2, 6, 1, 1]],
  ])("goes from %s", async (_, shape, up, down) => {
    const file = await lora({ "x.lora_B.weight": random(1, ...up), "x.lora_A.weight": random(2, ...down) });
    const weights = withLoras(await weightsOf({ "x.weight": floatTensor(shape) }), "denoiser", [
      { lora: file, scale: 1 },
    ]);
    const { data, shape: made } = (await weights.read("x.weight")) as FloatTensor;
    expect(made).toEqual(shape);
    const [b, a] = [random(1, ...up).data, random(2, ...down).data];
    expect(data[3 * 6 + 5]).toBeCloseTo(b[6]! * a[5]! + b[7]! * a[11]!, 6);
  });
});

const size = (most: number) => fc.integer({ min: 1, max: most });

describe("a LoRA that does not fit", () => {
  const [up, down] = [random(1, 4, 2), random(2, 2, 6)];
  const refused: [string, Record<string, Tensor>, RegExp][] = [
    ["nothing in it", {}, /has no tensors/],
    [
      "names of no LoRA",
      { "x.lora_A.weight": down, "x.lora_B.weight": up, "conv.weight": up, bias: up },
      /lora.safetensors: "bias", "conv.weight" are of no LoRA that is known/,
    ],
    ["DoRA", { "x.lora_A.weight": down, "x.lora_B.weight": up, "x.lora_magnitude_vector": up }, /DoRA.*not served/],
    ["DoRA of kohya", { "lora_unet_x.lora_down.weight": down, "lora_unet_x.dora_scale": up }, /DoRA.*not served/],
    ["LoHa", { "lora_unet_x.hada_w1_a": down }, /LoHa.*not served/],
    ["LoKr", { "lora_unet_x.lokr_w1": down }, /LoKr.*not served/],
    ["half of a layer", { "x.lora_A.weight": down }, /layer "x" has no up matrix/],
    [
      "ranks that differ",
      { "x.lora_A.weight": down, "x.lora_B.weight": random(1, 4, 3) },
      /\[4, 3\] and \[2, 6\] make no product/,
    ],
    [
      "one layer twice",
      { "x.lora_A.weight": down, "unet.x.lora_A.weight": down },
      /two tensors for the same layer: "unet.x.lora_A.weight" and "x.lora_A.weight"/,
    ],
    [
      "an alpha of several numbers",
      { "x.lora_A.weight": down, "x.lora_B.weight": up, "x.alpha": random(1, 2) },
      /"x\.alpha" must be one number, not \[2\]/,
    ],
    [
      "an alpha that is no number",
      { "x.lora_A.weight": down, "x.lora_B.weight": up, "x.alpha": floatTensor([], Float32Array.of(Number.NaN)) },
      /"x\.alpha" must be one number, not NaN/,
    ],
  ];
  it.each(refused)("%s", async (_, parts, message) => {
    await expect(lora(parts)).rejects.toThrow(CheckpointError);
    await expect(lora(parts)).rejects.toThrow(message);
  });

  it("another base's is refused by its shapes, with the layer's name", async () => {
    const file = await lora({ "unet.a.to_k.lora_A.weight": down, "unet.a.to_k.lora_B.weight": up });
    const weights = await weightsOf({ "a.to_k.weight": random(1, 4, 8) });
    expect(() => withLoras(weights, "denoiser", [{ lora: file, scale: 1 }])).toThrow(
      /lora\.safetensors: layer "unet\.a\.to_k" adds \[4, 6\] to a\.to_k\.weight, which is \[4, 8\] in this model: it was/,
    );
  });

  it("layers that the model does not have are listed", async () => {
    const file = await lora({ "unet.b.lora_A.weight": down, "unet.b.lora_B.weight": up });
    const weights = await weightsOf({ "a.weight": random(1, 4, 6) });
    expect(() => withLoras(weights, "denoiser", [{ lora: file, scale: 1 }])).toThrow(
      /"unet\.b" are layers that model\.safetensors does not have/,
    );
  });

  it("a network that the pipeline does not have is named", async () => {
    const loras = [{ file: path("sgm.safetensors") }];
    await expect(platform.resolveModel(await model("sd1"), { loras })).rejects.toThrow(
      /sgm\.safetensors: has layers of a text encoder 2, which .* does not have \(.*unet.*\)/,
    );
    await expect(platform.resolveModel(fixture("dit").path, { loras })).rejects.toThrow(/component alone/);
    await expect(
      platform.resolveModel(await model("sd1"), { loras: [{ file: "nowhere.safetensors" }] }),
    ).rejects.toThrow(CheckpointError);
  });

  it("metadata of PEFT's configuration is checked", async () => {
    const parts = new Map<string, Tensor>([
      ["unet.x.lora_A.weight", down],
      ["unet.x.lora_B.weight", up],
    ]);
    const open = async (settings: unknown) => {
      const bytes = await encoded(parts, { metadata: { lora_adapter_metadata: JSON.stringify(settings) } });
      return LoraFile.open(memorySource("lora.safetensors", bytes));
    };
    const scale = async (settings: unknown) => (await open(settings)).layers.get("denoiser")!.get("x")!.scale;
    expect(await scale({ "unet.r": 2, "unet.lora_alpha": 6 })).toBe(3);
    expect(await scale({ "unet.lora_alpha": 6, "unet.use_rslora": true })).toBeCloseTo(6 / Math.sqrt(2), 12);
    expect(await scale({ "text_encoder.lora_alpha": 6 })).toBe(1);
    await expect(open({ "unet.lora_alpha": "6" })).rejects.toThrow(/"lora_alpha" is "6"; expected a number above 0/);
    await expect(open({ "unet.use_dora": true })).rejects.toThrow(/DoRA/);
  });
});

it("the option is checked", async () => {
  const { TextToImagePipeline } = await import("../../src/pipelines/text-to-image.ts");
  for (const [loras, message] of [
    ["x", /loras must be a list|must be a list/],
    [[{}], /loras\[0\]\.file must be a string/],
    [[{ file: "x", scale: 1000 }], /loras\[0\]\.scale must be a number from -100 to 100/],
    [[{ file: "x", weight: 1 }], /loras\[0\]: there is no "weight"; a LoRA has file and scale/],
  ] as const) {
    const opened = TextToImagePipeline.fromPretrained("fluent-emoji", { loras: loras as never });
    await expect(opened).rejects.toThrow(ArgumentError);
    await expect(opened).rejects.toThrow(message);
  }
});
