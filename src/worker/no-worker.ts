/** In place of `start-web.ts` in the worker's own bundle: one that starts itself could not be bundled. */
import { StateError } from "../errors.ts";
import type { WorkerChoice } from "./choice.ts";
import type { FromWorker, Port } from "./messages.ts";

export function startWorker(_: WorkerChoice): Port<FromWorker> {
  throw new StateError("A pipeline in a worker starts no other worker.");
}
