/** Checks whether a provider works on this machine, before any weights are fetched. */
import { ArgumentError, ToolError } from "../errors.ts";
import { toOnnx } from "../graph/onnx.ts";
import { add } from "../graph/operators.ts";
import { input } from "../graph/value.ts";
import { floatTensor } from "../tensor.ts";
import type { Provider, ProviderName, Runtime, Session, SessionOptions } from "./runtime.ts";

/**
 * The provider itself if it works here; for "auto" WebGPU if that works, and otherwise the CPU. Throws ArgumentError
 * for a provider that this runtime does not have, and ToolError, with what to do, for one that does not work on this
 * machine.
 */
export async function workingProvider(runtime: Runtime, wanted: Provider = runtime.usual): Promise<ProviderName> {
  const [plain] = runtime.providers;
  if (wanted === "auto") return (await runtime.whyNot("webgpu")) === null ? "webgpu" : plain;
  if (!runtime.providers.includes(wanted)) {
    throw new ArgumentError(
      `provider "${wanted}" does not exist ${runtime.where}; there are ${["auto", ...runtime.providers].join(", ")}.`,
    );
  }
  const reason = await runtime.whyNot(wanted);
  if (reason === null) return wanted;
  throw new ToolError(`provider "${wanted}" does not work here: ${reason} Or take "auto" or "${plain}".`);
}

/** The options with the name of a provider that works, never "auto". */
export async function withProvider<O extends SessionOptions>(options: O, runtime: Runtime): Promise<O> {
  return { ...options, provider: await workingProvider(runtime, options.provider) };
}

/** Adds two numbers with a provider. The error that its session threw, or null if it works. */
export async function tryProvider(
  compile: (model: ReturnType<typeof toOnnx>) => Promise<Session>,
): Promise<Error | null> {
  try {
    const x = input("x", [1]);
    const session = await compile(toOnnx({ y: add(x, x) }));
    await session.run({ x: floatTensor([1], Float32Array.of(1)) });
    await session.release();
    return null;
  } catch (error) {
    return error as Error;
  }
}

/** The part of an ONNX Runtime error that is useful to people: its last line, without the place in its sources. */
export function plainReason({ message }: Error): string {
  const last = message
    .trim()
    .split("\n")[0]!
    .split(/was false\. |Exception: /)
    .at(-1)!;
  return last.length <= 200 ? last : `${last.slice(0, 200)}...`;
}
