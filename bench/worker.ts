/** Whether a pipeline leaves the thread that calls it free: with a worker, and without. */
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { TextToImagePipeline } from "../src/index.ts";
import type { Bench } from "./bench.ts";
import { type Figure, figure } from "./report.ts";
import { numbers, words } from "./table.ts";

interface Delays {
  p99: number;
  most: number;
  seconds: number;
  /** The share of the time in which the thread did something. */
  busy: number;
}

/** Milliseconds by which a timer of 5 ms comes late, at most in 99 of 100 cases, and ever. */
async function delays(work: () => Promise<unknown>): Promise<Delays> {
  const histogram = monitorEventLoopDelay({ resolution: 5 });
  const started = performance.now();
  const before = performance.eventLoopUtilization();
  histogram.enable();
  await work();
  histogram.disable();
  const seconds = (performance.now() - started) / 1000;
  return {
    p99: histogram.percentile(99) / 1e6 - 5,
    most: histogram.max / 1e6 - 5,
    seconds,
    busy: performance.eventLoopUtilization(before).utilization,
  };
}

const say = ({ most, seconds, busy }: Delays) =>
  `at most ${most.toFixed(1)} ms in ${seconds.toFixed(1)} s; busy for ${(100 * busy).toFixed(1)}% of it`;

async function* figures(model: string, seed: number): AsyncGenerator<Figure> {
  const idle = await delays(() => new Promise((resolve) => setTimeout(resolve, 3000)));
  yield figure({
    id: "idle",
    name: "event loop, p99, idle",
    value: idle.p99,
    unit: " ms",
    detail: `without work, ${say(idle)}`,
  });
  for (const worker of [true, false]) {
    const pipe = await (worker
      ? TextToImagePipeline.fromPretrained(model, { worker })
      : TextToImagePipeline.fromPretrained(model));
    const made = await delays(async () => {
      for (let i = 0; i < 5; i++) await pipe("a red apple", { seed: seed + i, count: 2 });
    });
    await pipe.release();
    yield figure({
      id: worker ? "worker" : "no-worker",
      name: `event loop, p99, ${worker ? "worker" : "no worker"}`,
      value: made.p99,
      unit: " ms",
      bar: worker ? { atMost: 20 } : null,
      detail: `10 images of 20 steps, two at a time, ${say(made)}`,
    });
  }
}

export const worker: Bench<{ model: string; seed: number }> = {
  name: "worker",
  summary: "how late timers come while images are made, with a worker and without",
  time: "20 s",
  options: (command) => command.option("--model <name>", "embedded model, folder or Hub id", "fluent-emoji"),
  run: ({ model, seed }) => figures(model, seed),
  tables: {
    all: {
      columns: [
        words("event loop", "name", {
          idle: "idle process",
          worker: "with `worker: true`",
          "no-worker": "without a worker",
        }),
        numbers("timers late by (p99)", "value", "1", " ms"),
      ],
    },
  },
};
