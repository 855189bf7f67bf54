/** A worker of the caller's own, which has imported "halfstep/worker" and nothing else that answers messages. */
export type WorkerChoice = true | WorkerLike;
export interface WorkerLike {
  postMessage(message: unknown, transfer?: never): void;
  terminate(): unknown;
}
