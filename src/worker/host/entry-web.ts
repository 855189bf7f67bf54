/** What a browser's worker runs: `halfstep/worker`. */
import { serve } from "./host.ts";

/** What of a worker's global object is used; the compiler knows the page's only. */
interface WorkerScope {
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
  addEventListener(type: "message", listener: (event: MessageEvent) => void): void;
  close(): void;
}

const scope = globalThis as unknown as WorkerScope;
serve({
  post: (message, transfer = []) => scope.postMessage(message, transfer),
  listen: (received) => scope.addEventListener("message", ({ data }) => received(data)),
  hold: () => undefined,
  terminate: async () => scope.close(),
});
