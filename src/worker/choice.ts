/** A worker of the caller's own, which has imported "halfstep/worker" and nothing else that answers messages. */
export type WorkerChoice = true | WorkerLike;
/** A Worker of a browser or a worker thread of Node. */
export interface WorkerLike {
  /** As a browser's and Node's Worker have it. */
  postMessage(message: unknown, transfer?: never): void;
  /** Ends the worker. */
  terminate(): unknown;
}
