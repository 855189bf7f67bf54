/**
 * Weights in a prompt, as Stable Diffusion's web interfaces write them: (a) 1.1 times as much, [a] 1.1 times less, (a:1.3) 1.3
 * times as much. Brackets nest, their factors multiply; a backslash makes a bracket or a backslash plain text.
 */
import { readDecimal } from "../checks.ts";
import { ArgumentError } from "../errors.ts";

/** A part of a prompt, and how much it counts; 1 is as usual. */
export interface WeightedText {
  readonly text: string;
  readonly weight: number;
}

const BRACKET = 1.1;
const MOST_DEPTH = 64;
const MOST_PARTS = 1000;
const MOST_WEIGHT = 100;

/** Escaped characters, an explicit weight with its bracket, brackets, and plain text. */
const pieces = /\\[()[\]\\]|:\s*([+-]?[\d.]+)\s*\)|[()[\]]|[^\\()[\]:]+|[\\:]/g;

/** Of a longer prompt only the beginning is read: more than any number of tokens that an encoder takes. */
const LONGEST_READ = 2 ** 17;

/**
 * A prompt's parts; neighbours have different weights. Brackets that are never closed reach to the end, and those that were never
 * opened are text. Throws ArgumentError for more than 64 brackets within each other, more than 1,000 parts, and weights outside -100
 * to 100.
 */
export function parseWeights(prompt: string): WeightedText[] {
  const parts: { text: string; weight: number }[] = [];
  const [round, square]: [number[], number[]] = [[], []];
  const weigh = (start: number, factor: number) => {
    for (let i = start; i < parts.length; i++) parts[i]!.weight *= factor;
  };
  const open = (stack: number[]) => {
    if (stack.push(parts.length) <= MOST_DEPTH) return;
    throw new ArgumentError(`The prompt has more than ${MOST_DEPTH} brackets within each other (promptWeights).`);
  };
  const close = (stack: number[], factor: number) => weigh(stack.pop()!, factor);
  for (const [piece, number] of prompt.slice(0, LONGEST_READ).matchAll(pieces)) {
    const given = number === undefined ? Number.NaN : readDecimal(number.replace(/^\+/, ""));
    if (piece === "(") open(round);
    else if (piece === "[") open(square);
    else if (piece === ")" && round.length > 0) close(round, BRACKET);
    else if (piece === "]" && square.length > 0) close(square, 1 / BRACKET);
    else if (round.length > 0 && !Number.isNaN(given)) close(round, given);
    else {
      parts.push({ text: /^\\./.test(piece) ? piece.slice(1) : piece, weight: 1 });
    }
  }
  for (const start of round) weigh(start, BRACKET);
  for (const start of square) weigh(start, 1 / BRACKET);
  return merged(parts);
}

const tooMany = () =>
  new ArgumentError(`The prompt has more than ${MOST_PARTS} parts of different weights (promptWeights).`);

function merged(parts: readonly WeightedText[]): WeightedText[] {
  const found: { text: string[]; weight: number }[] = [];
  for (const { text, weight } of parts) {
    if (!(Math.abs(weight) <= MOST_WEIGHT)) {
      throw new ArgumentError(
        `The prompt gives "${text.slice(0, 60)}" the weight ${weight}; weights are from -${MOST_WEIGHT} to ${MOST_WEIGHT} (promptWeights).`,
      );
    }
    const last = found.at(-1);
    if (last?.weight === weight) last.text.push(text);
    else if (found.push({ text: [text], weight }) > MOST_PARTS) throw tooMany();
  }
  return found.map(({ text, weight }) => ({ text: text.join(""), weight }));
}
