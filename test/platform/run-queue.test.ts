import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { StateError } from "../../src/errors.ts";
import { type TextToImage, TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { callScope, Synchronous } from "../../src/platform/call-scope.ts";
import { RunQueue } from "../../src/platform/run-queue.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { temporaryFolder } from "../support/models.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";

/** A promise that is settled from outside. */
function later<T = void>() {
  let settle = (_: T) => {};
  const promise = new Promise<T>((resolve) => {
    settle = resolve;
  });
  return { promise, settle };
}

describe("RunQueue", () => {
  it("runs one after the other, and goes on after one that fails", async () => {
    const queue = new RunQueue("x");
    const seen: string[] = [];
    const first = later();
    const work = (name: string, wait?: Promise<void>) => async () => {
      seen.push(`${name} begins`);
      await wait;
      seen.push(`${name} ends`);
      if (name === "b") throw new Error("b failed");
      return name;
    };
    const [a, b, c] = [queue.run(work("a", first.promise)), queue.run(work("b")), queue.run(work("c"))];
    b.catch(() => undefined);
    await Promise.resolve();
    first.settle();
    expect(await a).toBe("a");
    await expect(b).rejects.toThrow("b failed");
    expect(await c).toBe("c");
    expect(seen).toEqual(["a", "b", "c"].flatMap((name) => [`${name} begins`, `${name} ends`]));
  });

  it("closes behind what is waiting, once, and refuses what comes later", async () => {
    const queue = new RunQueue("x");
    const first = later();
    const seen: string[] = [];
    const a = queue.run(() => first.promise.then(() => void seen.push("a")));
    const b = queue.run(async () => void seen.push("b"));
    const close = () => queue.close(async () => void seen.push("closed"));
    const both = Promise.all([close(), close()]);
    await expect(queue.run(async () => seen.push("late"))).rejects.toThrow(StateError);
    // Those before it may still use what is to be let go.
    expect(() => queue.checkOpen()).not.toThrow();
    first.settle();
    await Promise.all([a, b, both]);
    expect(seen).toEqual(["a", "b", "closed"]);
    expect(() => queue.checkOpen()).toThrow("x: it has been released");
  });

  it("rejects at once when the signal is aborted, and begins the next only when the work has stopped", async () => {
    const queue = new RunQueue("x");
    const [running, waiting] = [new AbortController(), new AbortController()];
    const stopped = later();
    const seen: string[] = [];
    const a = queue.run(() => stopped.promise.then(() => void seen.push("a stopped")), running.signal);
    const b = queue.run(async () => void seen.push("b"), waiting.signal);
    const c = queue.run(async () => void seen.push("c"));
    waiting.abort(new Error("not b"));
    await expect(b).rejects.toThrow("not b");
    running.abort(new Error("not a"));
    await expect(a).rejects.toThrow("not a");
    expect(seen).toEqual([]);
    stopped.settle();
    await c;
    expect(seen).toEqual(["a stopped", "c"]);
    await expect(queue.run(async () => 1, AbortSignal.abort(new Error("before")))).rejects.toThrow("before");
  });

  it("refuses a call out of a callback of its own, also after an await, but not once the callback is over", async () => {
    const queue = new RunQueue("x");
    const { onStep } = queue.guarded({
      onStep: async (later: boolean) => {
        if (later) await new Promise((resolve) => setTimeout(resolve, 1));
        return queue.run(async () => "never");
      },
    });
    await expect(queue.run(() => onStep(false))).rejects.toThrow(StateError);
    await expect(queue.run(() => onStep(true))).rejects.toThrow("within a callback");
    // A timer that outlives the callback may ask for a turn.
    const fromTimer = later<Promise<number>>();
    const { onDecode } = queue.guarded({
      onDecode: () => void setTimeout(() => fromTimer.settle(queue.run(async () => 3)), 1),
    });
    await queue.run(async () => onDecode());
    expect(await fromTimer.promise).toBe(3);
    const other = new RunQueue("y");
    const { call } = queue.guarded({ call: () => other.run(async () => "another pipeline") });
    expect(await queue.run(() => call())).toBe("another pipeline");
  });
});

describe("a browser's scope", () => {
  it("is active during a callback, up to its first await", async () => {
    const scope = callScope(new Synchronous());
    expect(scope.run(() => scope.isActive())).toBe(true);
    expect(scope.isActive()).toBe(false);
    expect(() => scope.run(() => JSON.parse("{"))).toThrow(SyntaxError);
    expect(scope.isActive()).toBe(false);
    await scope.run(async () => {
      expect(scope.isActive()).toBe(true);
      await Promise.resolve();
    });
  });
});

describe("a pipeline", () => {
  let pipe: TextToImage;
  const settings = { steps: 2, seed: 1 };

  beforeAll(async () => {
    const folder = await writeTinyPipeline(await temporaryFolder(), "pixart");
    pipe = await TextToImagePipeline.fromFolder(folder, nodeRuntime, { threads: 1 });
  });
  afterAll(() => pipe.release());

  it("refuses calls within onStep with a typed error instead of waiting for ever", async () => {
    const within = (call: () => Promise<unknown>) =>
      pipe("a red cat", { ...settings, onStep: async () => void (await call()) });
    await expect(within(() => pipe("a blue dog", settings))).rejects.toThrow(StateError);
    await expect(within(() => pipe.release())).rejects.toThrow(StateError);
    expect((await pipe("a red cat", settings)).images).toHaveLength(1);
  });

  it("aborts while it waits for its turn, and while another thing than a step is done", async () => {
    const controller = new AbortController();
    const running = pipe("a red cat", settings);
    const waiting = pipe("a blue dog", { ...settings, signal: controller.signal });
    controller.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
    expect((await running).images).toHaveLength(1);
    const encoding = new AbortController();
    const steps: number[] = [];
    const call = pipe("a red cat", {
      ...settings,
      signal: encoding.signal,
      onStep: ({ index }) => void steps.push(index),
    });
    setImmediate(() => encoding.abort(new Error("in the encoder")));
    await expect(call).rejects.toThrow("in the encoder");
    expect(steps).toEqual([]);
  });

  it("releases behind calls that are running, and is then closed", async () => {
    const folder = await writeTinyPipeline(await temporaryFolder(), "pixart");
    const own = await TextToImagePipeline.fromFolder(folder, nodeRuntime, { threads: 1 });
    const running = [own("a red cat", settings), own("a blue dog", settings)];
    await Promise.all([own.release(), own.release()]);
    for (const { images } of await Promise.all(running)) expect(images).toHaveLength(1);
    await expect(own("a red cat", settings)).rejects.toThrow(StateError);
    await expect(own.embed(["a red cat"])).rejects.toThrow(StateError);
    await own.release();
  });
});
