/** A training run's state on disk: what is needed to go on as if it had never been stopped. */
import { existsSync } from "node:fs";
import { fileSource } from "../checkpoints/node.ts";
import { SafetensorsFile } from "../checkpoints/safetensors.ts";
import { writeSafetensors } from "../checkpoints/safetensors-node.ts";
import { CheckpointError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import type { Trainer } from "./trainer.ts";

const PARTS = ["values", "m", "v", "ema"] as const;

/** Written whole or not at all: a run that is killed while saving keeps its last checkpoint. */
export async function saveTraining(
  path: string,
  { parameters, optimizer }: Trainer,
  metadata: Record<string, string> = {},
) {
  const { m, v, ema, steps } = optimizer;
  const arrays = { values: parameters.values, m, v, ema };
  const tensors = new Map<string, FloatTensor>();
  for (const part of PARTS) {
    for (const [name, tensor] of Object.entries(parameters.tensors(arrays[part])))
      tensors.set(`${part}/${name}`, tensor);
  }
  await writeSafetensors(path, tensors, { metadata: { ...metadata, steps: String(steps) } });
}

/**
 * Takes up a saved state, and gives back its metadata; null if there is no such file. `check` sees the metadata first: what
 * it throws leaves everything as it was.
 */
export async function resumeTraining(
  path: string,
  { parameters, optimizer }: Trainer,
  check: (metadata: Readonly<Record<string, string>>) => void = () => undefined,
): Promise<Record<string, string> | null> {
  if (!existsSync(path)) return null;
  const file = await SafetensorsFile.open(await fileSource(path));
  check(file.metadata);
  const { m, v, ema } = optimizer;
  const arrays = { values: parameters.values, m, v, ema };
  for (const part of PARTS) await parameters.load((name) => file.read(`${part}/${name}`), arrays[part]);
  const steps = Number(file.metadata["steps"]);
  if (!Number.isSafeInteger(steps)) throw new CheckpointError(`${path}: its metadata has no number of steps`);
  optimizer.steps = steps;
  return file.metadata;
}
