import { describe, expect, it } from "vitest";
import { ArgumentError, HalfstepError, ToolError } from "../../src/errors.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { plainReason, withProvider, workingProvider } from "../../src/runtime/provider.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { webRuntime } from "../../src/runtime/web.ts";

/** A machine on which these do not work. */
const without = (...missing: string[]): Runtime => ({
  ...nodeRuntime,
  whyNot: async (provider) => (missing.includes(provider) ? "there is no card." : null),
});

describe("workingProvider", () => {
  it("is what was asked for where that works, and the processor unless another is asked for", async () => {
    expect(await workingProvider(without())).toBe("cpu");
    for (const provider of ["cpu", "webgpu", "cuda", "wasm"] as const) {
      expect(await workingProvider(without(), provider)).toBe(provider);
      expect(await withProvider({ provider, threads: 2 }, without())).toEqual({ provider, threads: 2 });
    }
  });

  it("of auto is WebGPU where it works, and else the processor", async () => {
    expect(await workingProvider(without(), "auto")).toBe("webgpu");
    expect(await workingProvider(without("webgpu"), "auto")).toBe("cpu");
    // This is Node, in which a browser's runtime finds no adapter; "auto" is what it does by itself.
    expect(await workingProvider(webRuntime)).toBe("wasm");
    expect(await workingProvider(webRuntime, "auto")).toBe("wasm");
  });

  it("refuses what does not work with one line that says what to do, and what the runtime does not have", async () => {
    const failed = workingProvider(without("cuda"), "cuda");
    await expect(failed).rejects.toThrow(ToolError);
    await expect(failed).rejects.toThrow(
      'provider "cuda" does not work here: there is no card. Or take "auto" or "cpu".',
    );
    await expect(workingProvider(webRuntime, "cuda")).rejects.toThrow(ArgumentError);
    await expect(workingProvider(webRuntime, "webgpu")).rejects.toThrow("WebGPU");
  });

  it.each(["webgpu", "cuda"] as const)(
    "knows of %s on this machine before a model is looked for",
    async (provider) => {
      const reason = await nodeRuntime.whyNot(provider);
      const opened = TextToImagePipeline.fromPretrained("no-such-model", { provider });
      // One that works is no reason to fail: the model is.
      await expect(opened).rejects.toThrow(
        reason === null ? "There is no model" : `provider "${provider}" does not work here`,
      );
      await expect(opened).rejects.toThrow(HalfstepError);
      expect((await opened.catch((error: Error) => error.message)) as string).not.toContain("\n");
    },
    120_000,
  );
});

it("takes what people can use from ONNX Runtime's errors", () => {
  const webgpu = new Error(
    "/src/webgpu_context.cc:136 Initialize(...)::<lambda()> adapter_result.status == Success was false. Failed to get a WebGPU adapter: No supported adapters\n\n",
  );
  expect(plainReason(webgpu)).toBe("Failed to get a WebGPU adapter: No supported adapters");
  expect(plainReason(new Error("short"))).toBe("short");
});
