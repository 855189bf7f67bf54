/** Graphs in two parts: against the graph in one. */
import { describe, expect, it } from "vitest";
import { splitOnce } from "../../src/graph/once.ts";
import { toOnnx } from "../../src/graph/onnx.ts";
import { add, gelu, gemm, mul, reshape } from "../../src/graph/operators.ts";
import { constant, input, topologicalOrder, type Value } from "../../src/graph/value.ts";
import { OnceSession } from "../../src/models/once-session.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { Session } from "../../src/runtime/runtime.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { floatOf, floatTensor, type Tensor } from "../../src/tensor.ts";

const matrix = (seed: number) => constant(new TorchGenerator(seed).randn([3, 3]).data, [3, 3], "float32");
const [a, b, c] = [matrix(1), matrix(2), matrix(3)];

/** Text [batch, 2, 3] through two matrices, joined to a latent [batch, 3] after a third. */
function graph() {
  const text = input("text", ["batch", 2, 3]);
  const latent = input("latent", ["batch", 3]);
  const states = gelu(gemm(reshape(text, [-1, 3]), a, null), "none");
  const keys = reshape(gemm(states, b, null), ["batch", 2, 3]);
  const flat = reshape(add(keys, mul(reshape(gemm(latent, c, null), ["batch", 1, 3]), 2)), [-1, 3]);
  return { sample: gemm(flat, a, null), keys, doubled: mul(text, 2) };
}

const products = (values: Readonly<Record<string, Value>>) =>
  topologicalOrder(Object.values(values)).filter(({ op }) => op === "Gemm").length;
const inputsOf = (values: Readonly<Record<string, Value>>) =>
  topologicalOrder(Object.values(values)).flatMap(({ op, name }) => (op === "Input" ? [name!] : []));

describe("a graph in two", () => {
  it("computes once what follows from constant inputs, up to the last product", () => {
    const { sample } = graph();
    const { once, each } = splitOnce({ sample }, new Set(["text"]))!;
    expect([products(once), products(each), products({ sample })]).toEqual([2, 2, 4]);
    expect(Object.keys(once)).toEqual(["once.0"]);
    expect(inputsOf(once)).toEqual(["text"]);
    expect(new Set(inputsOf(each))).toEqual(new Set(["once.0", "latent"]));
  });

  it("is one where nothing can be computed once, or everything", () => {
    const { sample, keys } = graph();
    expect(splitOnce({ sample }, new Set())).toBeNull();
    expect(splitOnce({ sample }, new Set(["mask"]))).toBeNull();
    expect(splitOnce({ sample }, new Set(["text", "latent"]))).toBeNull();
    expect(splitOnce({ keys }, new Set(["text"]))).toBeNull();
    const latent = input("latent", [3]);
    expect(splitOnce({ sum: add(latent, mul(input("text", [3]), 2)) }, new Set(["text"]))).toBeNull();
  });

  it("gives what it gave in one, and computes the first part again only for other arrays", async () => {
    const outputs = graph();
    const split = splitOnce(outputs, new Set(["text"]))!;
    let runs = 0;
    const compile = async (values: Readonly<Record<string, Value>>): Promise<Session> => {
      const session = await nodeRuntime.compile(toOnnx(values), new Map(), { threads: 1 });
      const run: Session["run"] = (feeds, into) => {
        if (values === split.once) runs++;
        return session.run(feeds, into);
      };
      return {
        ...session,
        inputNames: session.inputNames,
        outputNames: session.outputNames,
        run,
        release: () => session.release(),
      };
    };
    const [whole, session] = await Promise.all([compile(outputs), OnceSession.compile(split, compile)]);
    expect(new Set(session.inputNames)).toEqual(new Set(["text", "latent"]));
    expect(new Set(session.outputNames)).toEqual(new Set(["sample", "keys", "doubled"]));
    const generator = new TorchGenerator(7);
    const texts = [generator.randn([2, 2, 3]), generator.randn([2, 2, 3]), generator.randn([1, 2, 3])];
    const check = async (made: Readonly<Record<string, Tensor>>, feeds: Readonly<Record<string, Tensor>>) => {
      const expected = await whole.run(feeds);
      for (const name of Object.keys(expected)) expect(floatOf(made, name).data).toEqual(floatOf(expected, name).data);
    };
    const feedsOf = (text: Tensor) => ({ text, latent: generator.randn([text.shape[0]!, 3]) });
    const first = session.forRun();
    for (const [which, total] of [
      [0, 1],
      [0, 1],
      [1, 2],
      [0, 2],
      [2, 3],
      [0, 3],
      [2, 3],
      [1, 4],
    ] as const) {
      const feeds = feedsOf(texts[which]!);
      await check(await first.run(feeds), feeds);
      expect(runs).toBe(total);
    }
    // The same numbers in another array, and a view of the same numbers.
    const { shape, data } = texts[1]!;
    const feeds = feedsOf(floatTensor(shape, data.subarray(0)));
    await check(await first.run(feeds), feeds);
    expect(runs).toBe(4);
    await first.run(feedsOf(floatTensor(shape, data.slice())));
    expect(runs).toBe(5);
    // Without a run nothing is remembered, nor from one to the next.
    const into = { keys: floatTensor([2, 2, 3]), sample: floatTensor([4, 3]) };
    for (const run of [session, session, session.forRun()]) {
      const given = feedsOf(texts[0]!);
      const made = await run.run(given, into);
      expect(made["keys"]).toBe(into.keys);
      await check(made, given);
    }
    expect(runs).toBe(8);
    await Promise.all([whole.release(), session.release()]);
  });
});
