/** The two-row network once more, in loops and double precision: what its results are compared with. */
import type { Tensor } from "../../src/tensor.ts";
import { EPSILON, type TwoRowConfig } from "./two-row-network.ts";

/** One row of the batch: [tokens][channels]. */
type Tokens = readonly (readonly number[])[];
type Get = (name: string) => Tensor;

export interface TwoRowRun {
  /** [batch][2 * channels][height * width] */
  readonly sample: number[][][];
  /** The image's tokens after each block, [batch][position][width], and the text's. */
  readonly images: Tokens[][];
  readonly words: Tokens[][];
}

/** `weights` and `inputs` by their names in files: "pair.0.wordTokens.q.weight", "noisy_image". */
export function twoRowReference(config: TwoRowConfig, weights: Get, inputs: Get): TwoRowRun {
  const { width, heads, pairs, lines } = config;
  const linear = (x: Tokens, name: string): Tokens => {
    const { shape, data } = weights(`${name}.weight`);
    const bias = weights(`${name}.bias`).data;
    const [out, inner] = shape as [number, number];
    return x.map((row) =>
      Array.from({ length: out }, (_, o) =>
        row.reduce((sum, value, i) => sum + value * Number(data[o * inner + i]), Number(bias[o])),
      ),
    );
  };
  const normed = (x: Tokens, moment: Tokens, name: string) => plusRow(layerNorm(x), linear(moment, name)[0]!);

  const [images, words]: [Tokens[][], Tokens[][]] = [[], []];
  const { shape, data } = inputs("noisy_image");
  const [batch, channels, rows, columns] = shape as [number, number, number, number];
  const position = rows * columns;
  const { shape: wordShape, data: wordData } = inputs("words");
  const [, tokens, wordWidth] = wordShape as [number, number, number];
  const sample = Array.from({ length: batch }, (_, row) => {
    const pixels = grid(position, channels, (p, c) => Number(data[(row * channels + c) * position + p]));
    const places = weights("see.places").data;
    let image: Tokens = linear(pixels, "see").map((token, p) =>
      token.map((value, c) => value + Number(places[p * width + c])),
    );
    let text = linear(
      grid(tokens, wordWidth, (t, c) => Number(wordData[(row * tokens + t) * wordWidth + c])),
      "hear",
    );
    const moment = [linear([sinusoids(Number(inputs("timestep").data[row]), width)], "when")[0]!.map(silu)];
    const [seen, heard]: [Tokens[], Tokens[]] = [[], []];
    for (let i = 0; i < pairs; i++) {
      const both = { wordTokens: text, imageTokens: image };
      const given = Object.entries(both).map(
        ([name, x]) => [`pair.${i}.${name}`, x, normed(x, moment, `pair.${i}.${name}.shift`)] as const,
      );
      const [q, k, v] = ["q", "k", "v"].map((kind) => given.flatMap(([name, , x]) => linear(x, `${name}.${kind}`)));
      const mixed = attention(q!, k!, v!, heads);
      const [newText, newImage] = given.map(([name, before], which) => {
        const own = which === 0 ? mixed.slice(0, tokens) : mixed.slice(tokens);
        const x = plus(before, linear(own, `${name}.out`));
        const hidden = linear(layerNorm(x), `${name}.up`).map((token) => token.map(silu));
        return plus(x, linear(hidden, `${name}.down`));
      });
      [text, image] = [newText!, newImage!];
      seen.push(image);
      heard.push(text);
    }
    for (let i = 0; i < lines; i++) {
      const x = [...text, ...image];
      const given = normed(x, moment, `line.${i}.shift`);
      const [q, k, v] = ["q", "k", "v"].map((kind) => linear(given, `line.${i}.${kind}`));
      const hidden = linear(given, `line.${i}.up`);
      const joined = attention(q!, k!, v!, heads).map((token, t) => [...token, ...hidden[t]!.map(silu)]);
      const result = plus(x, linear(joined, `line.${i}.out`));
      [text, image] = [result.slice(0, tokens), result.slice(tokens)];
      seen.push(image);
      heard.push(text);
    }
    images.push(seen);
    words.push(heard);
    const last = linear(plusRow(layerNorm(image), moment[0]!), "settle");
    return grid(2 * channels, position, (c, p) => last[p]![c]!);
  });
  return { sample, images, words };
}

const grid = (rows: number, columns: number, value: (row: number, column: number) => number) =>
  Array.from({ length: rows }, (_, row) => Array.from({ length: columns }, (_, column) => value(row, column)));

const plus = (a: Tokens, b: Tokens): Tokens => a.map((row, i) => row.map((value, j) => value + b[i]![j]!));
const plusRow = (a: Tokens, b: readonly number[]): Tokens => a.map((row) => row.map((value, j) => value + b[j]!));
const silu = (x: number) => x / (1 + Math.exp(-x));

function sinusoids(t: number, width: number): number[] {
  const angles = Array.from({ length: width / 2 }, (_, i) => t * 10000 ** (-i / (width / 2)));
  return [...angles.map(Math.cos), ...angles.map(Math.sin)];
}

const layerNorm = (x: Tokens): Tokens =>
  x.map((row) => {
    const mean = row.reduce((a, b) => a + b, 0) / row.length;
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length;
    return row.map((value) => (value - mean) / Math.sqrt(variance + EPSILON));
  });

function attention(q: Tokens, k: Tokens, v: Tokens, heads: number): Tokens {
  const each = q[0]!.length / heads;
  return q.map((query) =>
    Array.from({ length: heads }, (_, head) => {
      const part = (row: readonly number[]) => row.slice(head * each, (head + 1) * each);
      const scores = k.map((key) => {
        const own = part(key);
        return Math.exp(part(query).reduce((sum, value, i) => sum + value * own[i]!, 0) / Math.sqrt(each));
      });
      const sum = scores.reduce((a, b) => a + b, 0);
      return Array.from({ length: each }, (_, i) =>
        scores.reduce((total, score, t) => total + (score / sum) * v[t]![head * each + i]!, 0),
      );
    }).flat(),
  );
}
