/**
 * Nearest-neighbour upsampling by two followed by a 3 x 3 convolution, as decoders have it. At most four of the nine pixels
 * under the kernel differ, so each of the four positions in a 2 x 2 square of the result is a 2 x 2 convolution of the
 * small image whose weights are sums of the nine: 16 multiplications instead of 36 (cf. Shi et al. 2016, arXiv
 * 1609.05158, on convolving before enlarging).
 */
import { conv2d, matmul } from "../graph/operators.ts";
import { concat, reshape, slice } from "../graph/shapes.ts";
import { constant, staticDim, type Value } from "../graph/value.ts";
import type { Weights } from "./weights.ts";

/** x: [batch, in, height, width] -> [batch, out, 2 height, 2 width]; weights [out, in, 3, 3] and bias as in the checkpoint. */
export function upsampleConv(x: Value, w: Weights, out: number): Value {
  const [inner, height, width] = [1, 2, 3].map((axis) => staticDim(x, axis, "upsampling")) as [number, number, number];
  const batch = x.shape[0]!;
  const bias = w.tensor("bias", [out]);
  const summed = matmul(reshape(w.tensor("weight", [out, inner, 3, 3]), [out * inner, 9]), sums());
  const rows = [0, 1].map((below) => {
    const columns = [0, 1].map((right) => {
      const place = 2 * below + right;
      const weights = reshape(slice(summed, 1, 4 * place, 4 * place + 4), [out, inner, 2, 2]);
      const pixels = conv2d(x, weights, bias, { padding: [1 - below, 1 - right, below, right] });
      return reshape(pixels, [batch, out, height, width, 1]);
    });
    return reshape(concat(columns, 4), [batch, out, height, 1, 2 * width]);
  });
  return reshape(concat(rows, 3), [batch, out, 2 * height, 2 * width]);
}

/** Which of the three weights in a row fall on which of two pixels, for the first and for the second position. */
const FALLS_ON = [
  [0, 1, 1],
  [0, 0, 1],
] as const;

/** [9, 16]: sums the nine weights of a kernel into the 2 x 2 kernels of the four positions. */
function sums(): Value {
  const data = new Float32Array(9 * 16);
  for (const [below, rowOf] of FALLS_ON.entries()) {
    for (const [right, columnOf] of FALLS_ON.entries()) {
      for (let i = 0; i < 9; i++) {
        const tap = 2 * rowOf[Math.floor(i / 3)]! + columnOf[i % 3]!;
        data[16 * i + 4 * (2 * below + right) + tap] = 1;
      }
    }
  }
  return constant(data, [9, 16], "float32");
}
