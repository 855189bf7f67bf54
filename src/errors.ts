/**
 * Typed errors. Each message says what was wrong, with which file or value, and what to do about it.
 * The names are written out: bundlers for browsers shorten those of classes.
 */
export class HalfstepError extends Error {
  override readonly name: string = "HalfstepError";
}

/** A checkpoint file or folder that is damaged, incomplete, hostile, or not what its model needs. */
export class CheckpointError extends HalfstepError {
  override readonly name = "CheckpointError";
}

/** A configuration value that this implementation does not know or cannot serve. */
export class ConfigError extends HalfstepError {
  override readonly name = "ConfigError";
}

/** Operands whose shapes or dtypes do not fit together; names the operation and both shapes. */
export class ShapeError extends HalfstepError {
  override readonly name = "ShapeError";
}

/** An argument outside its range, given by the caller of a public function or on the command line. */
export class ArgumentError extends HalfstepError {
  override readonly name = "ArgumentError";
}

/** A call that an object cannot take in the state in which it is: it has been released, or the call comes out of its own callback. */
export class StateError extends HalfstepError {
  override readonly name = "StateError";
}

/** A result that cannot be used, such as NaN out of a denoiser. */
export class NumericError extends HalfstepError {
  override readonly name = "NumericError";
}

/** A repository, file or network address that could not be reached or verified. */
export class HubError extends HalfstepError {
  override readonly name = "HubError";
}

/** A program or a binary outside this package that a request needs and that is missing or failed. */
export class ToolError extends HalfstepError {
  override readonly name = "ToolError";
}

/** A memory budget that no plan can keep; `smallest` is one that can be kept, in bytes. */
export class BudgetError extends HalfstepError {
  override readonly name = "BudgetError";
  readonly smallest: number;

  constructor(message: string, smallest: number) {
    super(message);
    this.smallest = smallest;
  }
}
