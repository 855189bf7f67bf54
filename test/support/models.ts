import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import type { EncodeOptions } from "../../src/checkpoints/safetensors-writer.ts";
import type { Geometry } from "../../src/models/architecture.ts";
import { architectureOf } from "../../src/models/registry.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../../src/tensor.ts";
import { fixture, tensors } from "./golden.ts";

/** Folders of models with one network. */
export const models = ["dit", "pixart-alpha", "pixart-sigma", "t5", "clip-text", "clip-text-eos", "clip-vision"];

const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

/** A fixture's model, with the sizes and the inputs of its reference vectors. */
export async function modelCase(name: string, configFile = "config.json") {
  const folder = fixture(name);
  const raw = (await folder.json(configFile)) as Record<string, unknown>;
  const io = await tensors(folder);
  const architecture = architectureOf(raw);
  const inputs = [...io].filter(([key]) => key.startsWith("input."));
  const feeds: Record<string, Tensor> = Object.fromEntries(
    inputs.map(([key, tensor]) => {
      const feature = camel(key.slice(key.lastIndexOf(".") + 1));
      const whole = tensor.dtype === "float32" || feature === "inputIds" || feature === "classLabels";
      return [feature, whole ? tensor : float(tensor)];
    }),
  );
  const [height, width] = feeds["hiddenStates"]?.shape.slice(2) ?? [];
  const tokens = (feeds["encoderHiddenStates"] ?? feeds["inputIds"])?.shape[1];
  const geometry: Geometry = {
    batch: Object.values(feeds)[0]!.shape[0]!,
    ...(height !== undefined && width !== undefined && { height, width }),
    ...(tokens !== undefined && { tokens }),
  };
  return { folder, raw, io, architecture, config: architecture.parseConfig(raw), feeds, geometry };
}

const float = ({ shape, data }: Tensor): FloatTensor =>
  floatTensor(shape, Float32Array.from<number | bigint>(data, Number));

const made: string[] = [];
afterAll(() => Promise.all(made.splice(0).map((path) => rm(path, { recursive: true, force: true }))));

/** An empty folder that is removed after the tests. */
export async function temporaryFolder(): Promise<string> {
  made.push(await mkdtemp(join(tmpdir(), "halfstep-test-")));
  return made.at(-1)!;
}

export interface Changes {
  config?: Record<string, unknown>;
  /** Changes the tensors in place: adds, removes, replaces. */
  weights?: (tensors: Map<string, Tensor>) => void;
  io?: (tensors: Map<string, Tensor>) => void;
  dtype?: EncodeOptions["dtype"];
}

/** A copy of a fixture with something changed. */
export async function changed(name: string, { config, weights, io, dtype }: Changes): Promise<NodeFolder> {
  const path = await temporaryFolder();
  await cp(fixture(name).path, path, { recursive: true });
  const folder = new NodeFolder(path, name);
  if (config) {
    const raw = JSON.parse(await readFile(join(path, "config.json"), "utf8"));
    await writeFile(join(path, "config.json"), JSON.stringify({ ...raw, ...config }));
  }
  const file = (await folder.has("model.safetensors")) ? "model.safetensors" : "diffusion_pytorch_model.safetensors";
  if (weights || dtype) {
    const found = await tensors(folder, file);
    weights?.(found);
    await writeSafetensors(join(path, file), found, dtype ? { dtype } : {});
  }
  if (io) {
    const found = await tensors(folder);
    io(found);
    await writeSafetensors(join(path, "io.safetensors"), found);
  }
  return folder;
}
