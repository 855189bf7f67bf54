/** Estimates how long a bench will take, before it starts. */
import { toOnnx } from "../graph/onnx.ts";
import { matmul } from "../graph/operators.ts";
import { constant, input } from "../graph/value.ts";
import { nodeRuntime } from "../runtime/node.ts";
import { floatTensor } from "../tensor.ts";
import { median } from "./bench/averages.ts";
import { timed } from "./bench/turns.ts";
import { duration, note } from "./terminal.ts";

/** The share of a bare matrix product's speed that whole networks reach (docs/results.md). */
const SHARE = 0.7;

/** One product, of the size of a wide layer's. */
const [ROWS, INNER, COLUMNS] = [512, 1152, 1152];

/** Multiplications of products that this machine does in a second, in a network. Takes a tenth of a second. */
export async function multiplicationsPerSecond(threads?: number): Promise<number> {
  const weights = constant(new Float32Array(INNER * COLUMNS), [INNER, COLUMNS], "float32");
  const outputs = { y: matmul(input("x", [ROWS, INNER]), weights) };
  const session = await nodeRuntime.compile(toOnnx(outputs), new Map(), { threads });
  try {
    const feeds = { x: floatTensor([ROWS, INNER]) };
    await session.run(feeds);
    const times: number[] = [];
    for (let i = 0; i < 5; i++) times.push(await timed(() => session.run(feeds)));
    return (SHARE * ROWS * INNER * COLUMNS * 1000) / median(times);
  } finally {
    await session.release();
  }
}

export const tellEstimate = (seconds: number, what: string): void => note(`About ${duration(seconds)}: ${what}.`);
