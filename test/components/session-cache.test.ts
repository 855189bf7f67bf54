/** Sessions kept under one key: what is compiled and let go, in which order. */
import { describe, expect, it } from "vitest";
import { SessionCache } from "../../src/components/session-cache.ts";
import { openAll } from "../../src/runtime/open-all.ts";

/** Sessions with a name that tell of their beginning and their end. */
function sessions() {
  const told: string[] = [];
  const compile = async (name: string) => {
    await Promise.resolve();
    told.push(`made ${name}`);
    return {
      name,
      async release() {
        await new Promise((done) => setTimeout(done, 5));
        told.push(`released ${name}`);
      },
    };
  };
  return { told, compile, both: (...names: string[]) => Promise.all(names.map(compile)) };
}

describe("cached sessions", () => {
  it("are the same while the key is, also for two who ask at once", async () => {
    const { told, both } = sessions();
    const cache = new SessionCache<{ name: string; release(): Promise<void> }>();
    const [a, b] = await Promise.all([cache.get("x", () => both("a")), cache.get("x", () => both("b"))]);
    expect(a).toBe(b);
    expect(await cache.get("x", () => both("c"))).toBe(a);
    expect(told).toEqual(["made a"]);
  });

  it("are let go before those of another key are made, also where nobody waited for their end", async () => {
    const { told, both } = sessions();
    const cache = new SessionCache<{ name: string; release(): Promise<void> }>();
    await cache.get("x", () => both("a", "b"));
    const released = cache.release();
    const [c] = await cache.get("y", () => both("c"));
    expect(c!.name).toBe("c");
    await cache.get("z", () => both("d"));
    expect(told).toEqual(["made a", "made b", "released a", "released b", "made c", "released c", "made d"]);
    await released;
  });

  it("that could not be made are tried anew, and leave nothing behind", async () => {
    const { told, compile, both } = sessions();
    const cache = new SessionCache<{ name: string; release(): Promise<void> }>();
    const fails = () =>
      openAll(["a", "b", "c"], (name) => (name === "c" ? Promise.reject(new Error("no c")) : compile(name)));
    await expect(cache.get("x", fails)).rejects.toThrow("no c");
    expect(told.toSorted()).toEqual(["made a", "made b", "released a", "released b"]);
    const [d] = await cache.get("x", () => both("d"));
    expect(d!.name).toBe("d");
    await cache.release();
    await cache.release();
    expect(told.filter((line) => line === "released d")).toHaveLength(1);
  });
});
