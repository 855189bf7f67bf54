/** Whether a pipeline leaves the thread that calls it free: with a worker, and without. */
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { Command } from "commander";
import { TextToImagePipeline } from "../src/index.ts";
import type { Figure } from "./report.ts";

type Report = (
  bench: string,
  figures: AsyncIterable<Figure>,
  options: { seed: number; json?: string },
) => Promise<void>;

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

async function* figures(model: string, seed: number): AsyncGenerator<Figure> {
  const idle = await delays(() => new Promise((resolve) => setTimeout(resolve, 3000)));
  const say = ({ most, seconds, busy }: Delays) =>
    `at most ${most.toFixed(1)} ms in ${seconds.toFixed(1)} s; busy for ${(100 * busy).toFixed(1)} % of it`;
  yield { name: "event loop, p99, idle", value: idle.p99, unit: " ms", detail: `without work, ${say(idle)}` };
  for (const worker of [true, false]) {
    const pipe = await (worker
      ? TextToImagePipeline.fromPretrained(model, { worker })
      : TextToImagePipeline.fromPretrained(model));
    const made = await delays(async () => {
      for (let i = 0; i < 5; i++) await pipe("a red apple", { seed: seed + i, count: 2 });
    });
    await pipe.release();
    yield {
      name: `event loop, p99, ${worker ? "worker" : "no worker"}`,
      value: made.p99,
      unit: " ms",
      ...(worker ? { bar: { atMost: 20 } } : {}),
      detail: `10 pictures of 20 steps, two at a time, ${say(made)}`,
    };
  }
}

export function workerCommand(report: Report): Command {
  return new Command("worker")
    .description("how late timers come while pictures are made, with a worker and without")
    .option("--model <name>", "embedded model, folder or Hub id", "fluent-emoji")
    .option("--seed <n>", "of the first picture", Number, 1)
    .option("--json <file>", "write the figures there too")
    .action((options: { model: string; seed: number; json?: string }) =>
      report("worker", figures(options.model, options.seed), options),
    );
}
