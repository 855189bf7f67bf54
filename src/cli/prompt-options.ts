/** Options of prompts that `generate` and `animate` have under the library's names; none has a default on the command line. */
export const promptOptions = [
  "clipSkip",
  "promptWeights",
  "guidanceRescale",
  "prompt2",
  "negativePrompt2",
  "originalSize",
  "targetSize",
  "cropsCoordsTopLeft",
  "negativeOriginalSize",
  "negativeTargetSize",
  "negativeCropsCoordsTopLeft",
] as const;
