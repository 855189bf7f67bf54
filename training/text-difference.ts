/**
 * How much the text matters: the deviation between predictions that differ in nothing but their prompt, over their size.
 * 0 is a model that has shut the text out.
 */
export function textDifference(predictions: readonly Float32Array[]): number {
  const count = predictions.length;
  let [between, all] = [0, 0];
  for (let j = 0; j < predictions[0]!.length; j++) {
    const mean = predictions.reduce((sum, row) => sum + row[j]!, 0) / count;
    for (const row of predictions) {
      between += (row[j]! - mean) ** 2;
      all += row[j]! ** 2;
    }
  }
  return Math.sqrt(between / all);
}

export const probePrompts = ["a smiling face", "a red apple", "a rocket", "a panda"];
export const probeTimesteps = [999, 900, 800, 600, 400];
