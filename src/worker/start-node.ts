/** Worker threads of Node. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { ArgumentError, ToolError } from "../errors.ts";
import type { WorkerChoice } from "./choice.ts";
import type { FromWorker, Port } from "./messages.ts";

export function startWorker(choice: WorkerChoice): Port<FromWorker> {
  if (choice === true) return portOf(ownWorker());
  if (choice instanceof Worker) return portOf(choice);
  throw new ArgumentError('worker must be true, or a Worker of node:worker_threads that imports "halfstep/worker".');
}

/** The built package has a file of its own for threads; from source, a thread first needs TypeScript's loader. */
function ownWorker(): Worker {
  if (import.meta.url.endsWith(".ts")) {
    // Not `new URL("./host/entry-node.ts", import.meta.url)`: bundlers would look for that file beside the built package.
    const file = JSON.stringify(import.meta.url.replace(/[^/]*$/, "host/entry-node.ts"));
    return new Worker(`import("tsx/esm/api").then(({ register }) => (register(), import(${file})))`, { eval: true });
  }
  if (existsSync(fileURLToPath(new URL("./worker.js", import.meta.url)))) {
    return new Worker(new URL("./worker.js", import.meta.url));
  }
  // A server that was bundled into one file, with node_modules beside it.
  let installed: string;
  try {
    installed = import.meta.resolve("halfstep/worker");
  } catch (cause) {
    throw new ToolError(
      "worker: the bundle lacks halfstep's worker.js, and node_modules has none. Keep halfstep out of the bundle (external), " +
        'or give a worker of your own: worker: new Worker(file), where the file has import "halfstep/worker".',
      { cause },
    );
  }
  return new Worker(new URL(installed));
}

function portOf(worker: Worker): Port<FromWorker> {
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    listen(received, failed) {
      worker.on("message", received);
      worker.on("messageerror", (error) => failed(error.message));
      worker.on("error", (error: Error) => failed(error.message));
      worker.on("exit", (code) => failed(`it ended with code ${code}`));
    },
    hold: (busy) => (busy ? worker.ref() : worker.unref()),
    terminate: async () => void (await worker.terminate()),
  };
}
