/** Workers of a browser. */
import { ArgumentError } from "../errors.ts";
import type { WorkerChoice } from "./choice.ts";
import type { FromWorker, Port } from "./messages.ts";

export function startWorker(choice: WorkerChoice): Port<FromWorker> {
  if (choice === true) {
    // Bundlers know these words, all of them together, and make a file of it.
    return portOf(new Worker(new URL("./host/entry-web.ts", import.meta.url), { type: "module" }));
  }
  if (choice instanceof Worker) return portOf(choice);
  throw new ArgumentError('worker must be true, or a Worker that imports "halfstep/worker".');
}

function portOf(worker: Worker): Port<FromWorker> {
  return {
    post: (message, transfer = []) => worker.postMessage(message, transfer),
    listen(received, failed) {
      worker.addEventListener("message", ({ data }) => received(data));
      worker.addEventListener("messageerror", () => failed("a message could not be read"));
      worker.addEventListener("error", (event) => {
        event.preventDefault();
        failed(event.message || "its file could not be loaded");
      });
    },
    hold: () => undefined,
    terminate: async () => worker.terminate(),
  };
}
