/** Trials of `halfstep explore run`, in this thread or in several. */
import { setMaxListeners } from "node:events";
import { Worker } from "node:worker_threads";
import { ArgumentError } from "../../errors.ts";
import type { Experiment } from "../../exploration/experiment.ts";
import type { FolderLock } from "../folder-lock.ts";
import { ProgressBar, showStatus } from "../terminal.ts";
import { type Order, type Progress, runTask, type Task, type WorkerInput } from "./worker.ts";

/** Plays all tasks to their ends. When `signal` is aborted, or one fails, the others save what they have and stop first. */
export async function runTasks(
  experiment: Experiment,
  lock: FolderLock,
  tasks: readonly Task[],
  workers: number,
  signal: AbortSignal,
): Promise<void> {
  const { episodes } = experiment.settings;
  const progress = tasks.map(({ played }) => played);
  const queue = tasks.flatMap((_, i) => (progress[i]! < episodes ? [i] : []));
  const bar = new ProgressBar("{bar} {percentage}% of episodes, {eta_formatted} left");
  const start = performance.now();
  const show = () => bar.show(progress.reduce((a, b) => a + b, 0), tasks.length * episodes); // biome-ignore format: one call
  const tick = (i: number, done: number) => {
    progress[i] = done;
    if (performance.now() - start >= 1000) show(); // What is over at once needs no bar.
  };
  if (queue.length > 0) showStatus(`playing ${queue.length} trials of ${episodes} episodes ...`);
  // The first episode of a large problem takes a while.
  const timer = setInterval(show, 1000);
  try {
    if (workers === 0) {
      for (const i of queue) {
        await runTask(experiment, lock, tasks[i]!, { tick: (done) => tick(i, done), signal });
        signal.throwIfAborted();
      }
    } else await runInThreads(experiment, lock, tasks, queue, Math.min(workers, queue.length), tick, signal);
  } finally {
    clearInterval(timer);
    bar.stop();
  }
}

async function runInThreads(
  { settings }: Experiment,
  lock: FolderLock,
  tasks: readonly Task[],
  queue: number[],
  count: number,
  tick: (i: number, done: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  setMaxListeners(count + 1, either);
  const input: WorkerInput = { exploreSettings: settings, lock: lock.shareable };
  const threads = Array.from({ length: count }, async () => {
    try {
      await work(startWorker(input), tasks, queue, tick, either);
    } catch (error) {
      failed.abort(error);
    }
  });
  await Promise.all(threads);
  either.throwIfAborted();
}

/** One thread takes tasks from the queue until it is empty, or until `signal` is aborted and the thread has saved its trial. */
async function work(
  worker: Worker,
  tasks: readonly Task[],
  queue: number[],
  tick: (i: number, done: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const order = (message: Order) => worker.postMessage(message);
  const stop = () => order("stop");
  signal.addEventListener("abort", stop);
  try {
    for (let i = queue.shift(); i !== undefined && !signal.aborted; i = queue.shift()) {
      const index = i;
      await new Promise<void>((resolve, reject) => {
        worker.removeAllListeners();
        worker.on("error", reject);
        worker.on("exit", () => reject(new Error("A thread ended before its trial.")));
        worker.on("message", ({ episodes, done, failed }: Progress) => {
          if (episodes !== undefined) tick(index, episodes);
          if (done) resolve();
          if (failed) reject(failed.expected ? new ArgumentError(failed.message) : new Error(failed.message));
        });
        order(tasks[index]!);
      });
    }
  } finally {
    signal.removeEventListener("abort", stop);
    worker.removeAllListeners();
    await worker.terminate();
  }
}

/** The built command has a file of its own for threads; from source, a thread first needs TypeScript's loader. */
function startWorker(workerData: WorkerInput): Worker {
  if (!import.meta.url.endsWith(".ts")) {
    return new Worker(new URL("./explore-worker.js", import.meta.url), { workerData });
  }
  const file = JSON.stringify(new URL("./worker.ts", import.meta.url).href);
  const load = `import("tsx/esm/api").then(({ register }) => (register(), import(${file})))`;
  return new Worker(load, { eval: true, workerData });
}
