/** What halfstep is in Node and in a browser alike. */

export {
  guidanceStepsChoices,
  type RehashOptions,
  type StreamlinedOptions,
  type VideoAccelerate,
  videoAccelerations,
} from "./acceleration/streamlined.ts";
export { type ModelIndex, type RawConfig, readConfig, readModelIndex } from "./checkpoints/diffusers-folder.ts";
export { type ByteSource, blobSource, Folder, MemoryFolder, memorySource } from "./checkpoints/files.ts";
export { readTensor, SafetensorsFile, type TensorEntry } from "./checkpoints/safetensors.ts";
export type { StoredDType } from "./checkpoints/safetensors-header.ts";
export { encodeSafetensors } from "./checkpoints/safetensors-writer.ts";
export { HttpFolder, type HttpOptions } from "./checkpoints/web.ts";
export { checkFinite as checkFiniteWeights, openWeights, WeightFiles } from "./checkpoints/weights.ts";
export type {
  Component,
  PipelineOptions,
} from "./components/components.ts";
export type { DecodeOptions } from "./components/decode-video.ts";
export type { PromptEmbeddings } from "./components/prompts.ts";
export { pickScheduler, type SchedulerChoice, type SolverOptions, schedulerChoices } from "./components/solver.ts";
export * from "./errors.ts";
export { type Animation, type AnimationFormat, animationFormat, toFrames } from "./media/animation.ts";
export { contactSheet, encodePng, type Picture, pngText, toPictures } from "./media/picture.ts";
export { RawImage, type SavePictureOptions } from "./media/raw-image.ts";
export { alignmentScore, retrievalRanks, topAccuracy } from "./metrics/alignment.ts";
export { ClipJudge, clipScore } from "./metrics/clip-score.ts";
export { type EvaluateOptions, type Evaluation, evaluate, evaluateCeilings, type Scores } from "./metrics/evaluate.ts";
export { type FeatureStatistics, featureStatistics, frechetDistance, frechetDistanceOf } from "./metrics/frechet.ts";
export { Inception } from "./metrics/inception.ts";
export { Judge, type JudgedPictures, type Reference, type ReferenceCaption } from "./metrics/judge.ts";
export { psnr, ssim } from "./metrics/similarity.ts";
export type { Architecture, Features, Geometry, Layout, Stage, StagedModel } from "./models/architecture.ts";
export { type AutoencoderKLConfig, autoencoderKL } from "./models/autoencoder-kl.ts";
export { autoencoderKLTemporalDecoder } from "./models/autoencoder-kl-temporal-decoder.ts";
export { clip } from "./models/clip.ts";
export { type CLIPTextConfig, clipText, clipTextWithProjection } from "./models/clip-text.ts";
export { type CLIPVisionConfig, clipVisionWithProjection } from "./models/clip-vision.ts";
export { type DiTConfig, dit } from "./models/dit.ts";
export { type PixArtConfig, pixart } from "./models/pixart.ts";
export { architectureOf, networksOf, supportedClasses } from "./models/registry.ts";
export { loadModel, type StagedOptions, type StagedSession } from "./models/staged-session.ts";
export { type T5Config, t5 } from "./models/t5.ts";
export { type UNet2DConditionConfig, unet2DCondition } from "./models/unet-2d-condition.ts";
export { type UNetMotionConfig, unetMotion } from "./models/unet-motion.ts";
export { openWithMotionAdapter, type StoredModel, withMotionAdapter } from "./models/unet-motion-adapter.ts";
export { type UNetSpatioTemporalConfig, unetSpatioTemporal } from "./models/unet-spatio-temporal.ts";
export {
  type ClassToImage,
  type ClassToImageInWorker,
  type ClassToImageOptions,
  ClassToImagePipeline,
  type ClassToImageResult,
} from "./pipelines/class-to-image.ts";
export {
  type ImageToVideo,
  type ImageToVideoInWorker,
  type ImageToVideoOptions,
  ImageToVideoPipeline,
  type ImageToVideoResult,
  type SampleImageVideoOptions,
} from "./pipelines/image-to-video.ts";
export {
  type SampleLatentsOptions,
  type TextToImage,
  type TextToImageInWorker,
  type TextToImageOptions,
  TextToImagePipeline,
  type TextToImageResult,
} from "./pipelines/text-to-image.ts";
export {
  type SampleVideoOptions,
  type TextToVideo,
  type TextToVideoInWorker,
  type TextToVideoOptions,
  TextToVideoPipeline,
  type TextToVideoResult,
} from "./pipelines/text-to-video.ts";
export type { ResolveOptions } from "./platform/platform.ts";
export type {
  Provider,
  Runtime,
  Session,
  SessionOptions,
  WeightLocation,
  WeightLocations,
} from "./runtime/runtime.ts";
export { TorchGenerator } from "./sampling/noise.ts";
export { type SampleOptions, type SamplerStep, sample } from "./sampling/sampler.ts";
export * from "./schedulers/scheduler.ts";
export { describeBytes, parseBytes } from "./streamlined/bytes.ts";
export { type Flow, flowOf } from "./streamlined/grouping.ts";
export type { GroupPlan, Plan } from "./streamlined/plan.ts";
export { type PlannedRun, type Prediction, planFor } from "./streamlined/planner.ts";
export { GuidanceDifference, rehashAt, rehashCuts, rehashShare } from "./streamlined/rehash.ts";
export { type GroupProgress, StreamlinedSession } from "./streamlined/session.ts";
export { type DType, type FloatTensor, floatTensor, int64Tensor, sizeOf, type Tensor } from "./tensor.ts";
export { type Verification, type VerifyOptions, verifyFolder } from "./verify/verify-folder.ts";
