/**
 * ONNX Runtime's native builds for Linux and macOS send telemetry from version 1.29 on: the first session writes a database
 * and a device identifier into the user's home and looks for a server. `ORT_DISABLE_TELEMETRY=1` turns all of it off, if it
 * is in the environment of the process before ONNX Runtime starts.
 */
import { isMainThread } from "node:worker_threads";

const VARIABLE = "ORT_DISABLE_TELEMETRY";

/** Turns telemetry off for this process, unless its environment has a value for the variable already. */
export async function disableTelemetry(): Promise<void> {
  process.env[VARIABLE] ??= "1";
  const value = process.env[VARIABLE];
  if (process.versions["bun"]) setInBun(value);
  else if (!isMainThread || "JEST_WORKER_ID" in process.env) await setInMainThread(value);
}

/**
 * `process.env` is a copy in a worker thread, and in Jest's tests. The main thread's own is what native code sees; the inspector
 * reaches it.
 */
async function setInMainThread(value: string): Promise<void> {
  // The answer of another thread keeps nothing alive: a thread with nothing else to do would end before it comes.
  const alive = setInterval(() => undefined, 1000);
  try {
    const { Session } = await import("node:inspector/promises");
    const session = new Session();
    if (isMainThread) session.connect();
    else session.connectToMainThread();
    const expression = `process.env[${JSON.stringify(VARIABLE)}] ??= ${JSON.stringify(value)}`;
    await session.post("Runtime.evaluate", { expression });
    session.disconnect();
  } catch (error) {
    process.emitWarning(
      `ONNX Runtime's telemetry cannot be turned off from here (${(error as Error).message}). ` +
        `Start the process with ${VARIABLE}=1 in its environment.`,
    );
  } finally {
    clearInterval(alive);
  }
}

/** Bun keeps `process.env` to itself, but calls C. */
function setInBun(value: string): void {
  const { dlopen } = process.getBuiltinModule("bun:ffi" as "node:process") as unknown as BunFfi;
  const library = process.platform === "darwin" ? "libSystem.B.dylib" : "libc.so.6";
  const { symbols } = dlopen(library, { setenv: { args: ["cstring", "cstring", "int"], returns: "int" } });
  symbols.setenv(Buffer.from(`${VARIABLE}\0`), Buffer.from(`${value}\0`), 1);
}

interface BunFfi {
  dlopen(
    library: string,
    functions: { setenv: { args: string[]; returns: string } },
  ): { symbols: { setenv(name: Uint8Array, value: Uint8Array, overwrite: number): number } };
}
