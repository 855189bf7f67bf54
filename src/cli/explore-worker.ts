/** A thread of `halfstep explore run`: takes trials from its port, writes their checkpoints, says how far it is. */
import { rename, writeFile } from "node:fs/promises";
import { parentPort, workerData } from "node:worker_threads";
import type { AlgorithmName } from "../exploration/algorithms.ts";
import { type Experiment, type ExperimentSettings, setUp, Trial, type TrialJson } from "../exploration/experiment.ts";

export interface Task {
  readonly algorithm: AlgorithmName;
  readonly seed: number;
  readonly file: string;
  /** Where it stopped before. */
  readonly saved?: TrialJson;
}

/** Plays a trial to its end; `file` always holds a whole checkpoint, so a kill loses seconds at most. */
export async function runTask(
  experiment: Experiment,
  { algorithm, seed, file, saved }: Task,
  { every = 5000, tick = (_episodes: number) => {} } = {},
): Promise<void> {
  const trial = saved ? await Trial.resume(experiment, saved) : await Trial.start(experiment, algorithm, seed);
  let written = performance.now();
  const save = async () => {
    await writeFile(`${file}.part`, JSON.stringify(trial));
    await rename(`${file}.part`, file);
    written = performance.now();
  };
  while (!trial.done) {
    trial.run(250);
    tick(trial.episodes);
    if (!trial.done && performance.now() - written > every) await save();
    // A turn of the event loop, so that messages and signals arrive.
    await new Promise((resolve) => setImmediate(resolve));
  }
  await save();
}

/** Set by the thread that started this one. */
interface WorkerInput {
  readonly exploreSettings: ExperimentSettings;
}

if (parentPort && (workerData as Partial<WorkerInput> | null)?.exploreSettings) {
  const port = parentPort;
  const experiment = setUp((workerData as WorkerInput).exploreSettings);
  port.on("message", async (task: Task) => {
    try {
      await runTask(experiment, task, { tick: (episodes) => port.postMessage({ episodes }) });
      port.postMessage({ done: true });
    } catch (error) {
      const { name, message } = error as Error;
      port.postMessage({ failed: `${name}: ${message}` });
    }
  });
}
