/** A thread of `halfstep explore run`: takes trials from its port, writes their checkpoints, and reports progress. */
import { parentPort, workerData } from "node:worker_threads";
import { HalfstepError } from "../../errors.ts";
import { type Experiment, type ExperimentSettings, setUp } from "../../exploration/experiment.ts";
import type { AlgorithmName } from "../../exploration/learners/algorithms.ts";
import { Trial, type TrialJson } from "../../exploration/trial.ts";
import { FolderLock } from "../folder-lock.ts";
import { writeTrial } from "./trials.ts";

export interface Task {
  readonly algorithm: AlgorithmName;
  readonly seed: number;
  readonly file: string;
  /** Episodes of it that were played before. */
  readonly played: number;
  /** Where it stopped before, unless it is over. */
  readonly saved?: TrialJson;
}

interface TaskOptions {
  /** Milliseconds between checkpoints. */
  readonly every?: number;
  readonly tick?: (episodes: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * Plays a trial to its end. `file` always holds a complete checkpoint, so a kill loses at most seconds (a minute for the largest
 * problems). When `signal` is aborted it saves and throws the signal's reason.
 */
export async function runTask(
  experiment: Experiment,
  lock: FolderLock,
  { algorithm, seed, file, saved }: Task,
  { every = 5000, tick = () => {}, signal }: TaskOptions = {},
): Promise<void> {
  const trial = saved ? await Trial.resume(experiment, saved) : await Trial.start(experiment, algorithm, seed);
  let [written, took] = [performance.now(), 0];
  while (!trial.done) {
    trial.run(250);
    tick(trial.episodes);
    // A checkpoint of a large problem itself takes seconds, so nine tenths of the time are reserved for playing.
    const due = performance.now() - written > Math.max(every, 9 * took);
    if (!trial.done && (due || signal?.aborted)) {
      const start = performance.now();
      await writeTrial(file, trial, lock);
      signal?.throwIfAborted();
      written = performance.now();
      took = written - start;
    }
    // Yield to the event loop, so that messages and signals arrive.
    await new Promise((resolve) => setImmediate(resolve));
  }
  await writeTrial(file, trial, lock);
}

/** Set by the thread that started this one. */
export interface WorkerInput {
  readonly exploreSettings: ExperimentSettings;
  readonly lock: FolderLock["shareable"];
}

/** To this thread: a task, or that it should save and stop. */
export type Order = Task | "stop";

/** From this thread. `expected` errors are those that a user can act on. */
export interface Progress {
  readonly episodes?: number;
  readonly done?: boolean;
  readonly failed?: { readonly expected: boolean; readonly message: string };
}

if (parentPort && (workerData as Partial<WorkerInput> | null)?.exploreSettings) {
  const port = parentPort;
  const { exploreSettings, lock } = workerData as WorkerInput;
  const experiment = setUp(exploreSettings);
  const stop = new AbortController();
  const say = (progress: Progress) => port.postMessage(progress);
  port.on("message", async (order: Order) => {
    if (order === "stop") return stop.abort();
    try {
      const tick = (episodes: number) => say({ episodes });
      await runTask(experiment, FolderLock.shared(lock), order, { tick, signal: stop.signal });
      say({ done: true });
    } catch (error) {
      if (stop.signal.aborted) say({ done: true });
      else if (error instanceof HalfstepError) say({ failed: { expected: true, message: error.message } });
      else say({ failed: { expected: false, message: (error as Error).stack ?? String(error) } });
    }
  });
}
