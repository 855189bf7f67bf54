/** Any network of the fixtures with diffusers' or transformers' reference vectors, ready to be run by plans. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { Component } from "../../src/components/components.ts";
import { expected } from "../../src/components/expected-class.ts";
import type { Geometry } from "../../src/models/architecture.ts";
import { architectureOf } from "../../src/models/registry.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { floatTensor, type Tensor } from "../../src/tensor.ts";
import { drawWeights } from "./drawn.ts";
import { fixture, tensors } from "./golden.ts";
import { temporaryFolder } from "./models.ts";

const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

/** The folder with its weights: those that are stored, or those that both sides draw. */
async function withWeights(name: string): Promise<NodeFolder> {
  const folder = fixture(name);
  if (!name.startsWith("models-0.42/")) return folder;
  const raw = (await folder.json("config.json")) as RawConfig;
  const path = join(await temporaryFolder(), name);
  await mkdir(path, { recursive: true });
  await writeFile(join(path, "config.json"), JSON.stringify(raw));
  await writeSafetensors(join(path, "model.safetensors"), drawWeights(raw));
  return new NodeFolder(path, name);
}

export async function networkCase(name: string, runtime: Runtime = nodeRuntime) {
  const io = await tensors(fixture(name));
  const folder = await withWeights(name);
  const architecture = architectureOf((await folder.json("config.json")) as RawConfig);
  const component = await Component.open(folder, expected(architecture), runtime, { threads: 1 });
  const inputs = new Map(
    [...io].flatMap(([key, tensor]) =>
      key.startsWith("input.") ? [[camel(key.slice(key.lastIndexOf(".") + 1)), tensor] as const] : [],
    ),
  );
  const picture = inputs.get(architecture.picture ?? "")?.shape;
  const text = inputs.get(architecture.text ?? "")?.shape;
  const states = [...io.keys()].flatMap((key) => /^output\.hidden_states\.(\d+)$/.exec(key)?.[1] ?? []);
  const geometry = {
    batch: (picture ?? text)![0]!,
    ...(picture && { height: picture.at(-2)!, width: picture.at(-1)! }),
    ...(text && { tokens: text[1]! }),
    ...(states.length > 0 && { hiddenStates: states.map(Number) }),
  } satisfies Geometry;
  const model = component.model(geometry);
  const feeds = Object.fromEntries(
    Object.entries(model.inputs).map(([key, { dtype, shape }]) => {
      const given = inputs.get(key)!;
      if (given.dtype === dtype && given.shape.length === shape.length) return [key, given];
      const values = Float32Array.from<number | bigint>(given.data, Number);
      const all = given.shape.length === 0 ? new Float32Array(geometry.batch).fill(values[0]!) : values;
      return [key, floatTensor(shape as number[], all)];
    }),
  );
  const outputs = new Map(
    [...io].flatMap(([key, tensor]) => (key.startsWith("output.") ? [[camel(key.slice(7)), tensor as Tensor]] : [])),
  );
  return { component, model, geometry, feeds, outputs };
}
