/** What a worker thread of Node runs: `halfstep/worker`. */
import { parentPort } from "node:worker_threads";
import { serve } from "./host.ts";

if (parentPort) {
  const port = parentPort;
  serve({
    post: (message, transfer) => port.postMessage(message, transfer),
    listen: (received) => port.on("message", received),
    hold: () => undefined,
    terminate: async () => port.close(),
  });
}
