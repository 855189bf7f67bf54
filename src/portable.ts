/** What halfstep is in Node and in a browser alike. */

export {
  type Accelerate,
  type Acceleration,
  type AccelerationMethod,
  type AccelerationReport,
  accelerations,
  type PictureKind,
} from "./acceleration/acceleration.ts";
export type { FeedbackComponent } from "./acceleration/feedback-component.ts";
export type { MethodFor, MethodSettings, OfferedMethod } from "./acceleration/methods.ts";
export { guidanceStepsChoices } from "./acceleration/rehash.ts";
export type { NetworkSize, Streamlined } from "./acceleration/streamlined.ts";
export {
  type RehashOptions,
  type ReuseOptions,
  type StreamlinedOptions,
  type VideoAccelerate,
  videoAccelerations,
} from "./acceleration/video-options.ts";
export { EasyCache, type EasyCacheOptions } from "./caching/easy-cache.ts";
export { FirstBlockCache, type FirstBlockCacheOptions } from "./caching/first-block-cache.ts";
export type { Streams } from "./caching/streams.ts";
export { OutputTaylorSeer, TaylorSeer, type TaylorSeerOptions } from "./caching/taylor-seer.ts";
export {
  type Component as ModelIndexComponent,
  type ModelIndex,
  type RawConfig,
  readConfig,
  readModelIndex,
} from "./checkpoints/diffusers-folder.ts";
export { type ByteSource, blobSource, Folder, MemoryFolder, memorySource } from "./checkpoints/files.ts";
export type { BlockDType } from "./checkpoints/gguf/blocks.ts";
export type { LoraChoice } from "./checkpoints/lora/choice.ts";
export { readTensor, SafetensorsFile, type TensorEntry } from "./checkpoints/safetensors.ts";
export { type Header as SafetensorsHeader, type StoredDType, storedBytes } from "./checkpoints/safetensors-header.ts";
export {
  type Encoded as EncodedSafetensors,
  type EncodeOptions as EncodeSafetensorsOptions,
  encodeSafetensors,
  type FloatStorage,
  type LazyTensor,
} from "./checkpoints/safetensors-writer.ts";
export type { Prediction as FilePrediction } from "./checkpoints/single-file/configs.ts";
export { openSingleFile } from "./checkpoints/single-file/folder.ts";
export { HttpFolder, type HttpOptions } from "./checkpoints/web.ts";
export {
  checkFinite as checkFiniteWeights,
  type LowRank,
  openWeights,
  type WeightEntry,
  type WeightFile,
  WeightFiles,
} from "./checkpoints/weights.ts";
export type { Check } from "./checks.ts";
export type { AutoencoderChoice } from "./components/autoencoder.ts";
export type { Component, RunningOptions } from "./components/components.ts";
export type { DecodeOptions } from "./components/decode-video.ts";
export type { ImageEncoder } from "./components/image-encoder.ts";
export type { InWorker, LoadingOptions, PipelineOptions } from "./components/loading.ts";
export type { EncodedPicture, TileSize } from "./components/picture-encoder.ts";
export type { PromptEncoder } from "./components/prompt-encoder.ts";
export type { PromptEmbeddings, PromptTokenizer, TokenizedPrompt, WeightedText } from "./components/prompts.ts";
export { pickScheduler, type Solver, type SolverOptions } from "./components/solver.ts";
export * from "./errors.ts";
export type { OnnxModel } from "./graph/onnx.ts";
export type { Attribute, Dim, Node as GraphNode, Value, ValueType, WeightData } from "./graph/value.ts";
export type { ExtendedModule, FeedbackConfig, FeedbackModule, FeedbackRead, PaperModule } from "./ilf/config.ts";
export { IlfDenoiser } from "./ilf/denoiser.ts";
export type { Carried, IlfStepResult, IlfSteps } from "./ilf/steps.ts";
export { type Animation, type AnimationFormat, animationFormat, toFrames } from "./media/animation.ts";
export { contactSheet, encodePng, type Picture, pngText, toPictures } from "./media/picture.ts";
export type { PictureType, SavePictureOptions } from "./media/picture-file.ts";
export { type PlainImageData, RawImage } from "./media/raw-image.ts";
export { alignmentScore, retrievalRanks, topAccuracy } from "./metrics/alignment.ts";
export { ClipJudge, clipScore } from "./metrics/clip-score.ts";
export {
  type EvaluateOptions,
  type Evaluation,
  evaluate,
  evaluateCeilings,
  type ImageMaker,
  type ImageSettings,
  type Scores,
} from "./metrics/evaluate.ts";
export { type FeatureStatistics, featureStatistics, frechetDistance, frechetDistanceOf } from "./metrics/frechet.ts";
export { Inception } from "./metrics/inception.ts";
export { Judge, type JudgedPictures, type Reference, type ReferenceCaption } from "./metrics/judge.ts";
export { psnr, ssim } from "./metrics/similarity.ts";
export type {
  Architecture,
  CrossAttention,
  Features,
  Geometry,
  Layout,
  Role,
  Stage,
  StagedModel,
  UNetPlace,
} from "./models/architecture.ts";
export type { AutoencoderConfig } from "./models/autoencoder.ts";
export { type AutoencoderKLConfig, autoencoderKL } from "./models/autoencoder-kl.ts";
export { autoencoderKLTemporalDecoder } from "./models/autoencoder-kl-temporal-decoder.ts";
export {
  type AutoencoderTinyConfig,
  autoencoderTiny,
  scaleLatents,
  unscaleLatents,
} from "./models/autoencoder-tiny.ts";
export { clip } from "./models/clip.ts";
export { type CLIPTextConfig, clipText, clipTextWithProjection } from "./models/clip-text.ts";
export { type CLIPVisionConfig, clipVisionWithProjection } from "./models/clip-vision.ts";
export type { Count as ConfigCount, LayerCount, TensorSize } from "./models/counts.ts";
export { type DiTConfig, dit } from "./models/dit.ts";
export type { SinusoidOptions } from "./models/layers.ts";
export { type PixArtConfig, pixart } from "./models/pixart.ts";
export {
  architectureOf,
  type Networks,
  networksOf,
  type Registry,
  registered,
  registry,
  supportedClasses,
} from "./models/registry.ts";
export { type SD3Config, sd3 } from "./models/sd3.ts";
export { type Blocks, blocksOf } from "./models/split-model.ts";
export { loadModel, type ModelSession, type StagedOptions, type StagedSession } from "./models/staged-session.ts";
export { type T5Config, t5 } from "./models/t5.ts";
export type { ClassEmbedding } from "./models/unet/class-embedding.ts";
export type { BlockKind, UNetConfig, UNetLevel } from "./models/unet/config.ts";
export type { TextTime } from "./models/unet/text-time.ts";
export type { TimestepCond } from "./models/unet/timestep-cond.ts";
export { type UNet2DConditionConfig, unet2DCondition } from "./models/unet-2d-condition.ts";
export { type MotionLevel, type UNetMotionConfig, unetMotion } from "./models/unet-motion.ts";
export { type UNetSpatioTemporalConfig, unetSpatioTemporal } from "./models/unet-spatio-temporal.ts";
export type { WeightSource, Weights } from "./models/weights.ts";
export type { ClassLabels } from "./pipelines/class-labels.ts";
export {
  type ClassToImage,
  type ClassToImageInWorker,
  type ClassToImageLoading,
  type ClassToImageOptions,
  ClassToImagePipeline,
  type ClassToImageResult,
  type ClassToImageSource,
  type SampleClassLatentsOptions,
} from "./pipelines/class-to-image.ts";
export {
  type ImageToVideo,
  type ImageToVideoInWorker,
  type ImageToVideoOptions,
  ImageToVideoPipeline,
  type ImageToVideoResult,
  type SampleImageVideoOptions,
} from "./pipelines/image-to-video.ts";
export type {
  Encoding as PictureEncoding,
  PictureSettings,
  PictureSource,
  PictureValues,
} from "./pipelines/picture-source.ts";
export type { PictureLoopOptions, PictureOptions, PictureResult } from "./pipelines/pictures.ts";
export type { PlannedPart } from "./pipelines/run-plan.ts";
export type { LoopOptions, SamplingOptions } from "./pipelines/settings.ts";
export {
  type SampleLatentsOptions,
  type TextToImage,
  type TextToImageInWorker,
  type TextToImageLoading,
  TextToImagePipeline,
  type TextToImageSource,
} from "./pipelines/text-to-image.ts";
export type {
  ConditionOptions,
  EmbedOptions,
  FamilyOption,
  FamilyOptions,
  MicroConditions,
  TextConditions,
  TextEmbeddings,
  TextEncoder,
  Texts,
  TextToImageFamily,
} from "./pipelines/text-to-image-family.ts";
export type { OutputType, TextToImageOptions, TextToImageResult } from "./pipelines/text-to-image-options.ts";
export {
  type SampleVideoOptions,
  type TextToVideo,
  type TextToVideoInWorker,
  type TextToVideoLoading,
  type TextToVideoOptions,
  TextToVideoPipeline,
  type TextToVideoResult,
  type TextToVideoSource,
} from "./pipelines/text-to-video.ts";
export type { VideoActions, VideoOptions, VideoResult } from "./pipelines/videos.ts";
export type { ResolveOptions } from "./platform/platform.ts";
export type { Releasable } from "./runtime/open-all.ts";
export {
  type Provider,
  type ProviderName,
  providers,
  type Runtime,
  type Session,
  type SessionOptions,
  type WeightLocation,
  type WeightLocations,
  type WeightPath,
} from "./runtime/runtime.ts";
export { type Denoiser, DenoiserByRows, type Feeds, PlainDenoiser, runParts } from "./sampling/denoiser.ts";
export type { PictureLatents } from "./sampling/from-picture.ts";
export { type GuidanceInterval, type GuidedDenoise, guide, guidedDenoise } from "./sampling/guidance.ts";
export {
  type DividedNetwork,
  type EqualTime,
  type Method,
  type MethodOption,
  type MethodOptions,
  type NetworkKind,
  networkKinds,
  type WholeNetwork,
} from "./sampling/method.ts";
export { TorchGenerator } from "./sampling/noise.ts";
export { type SampleOptions, type SamplerStep, type SampleStart, sample } from "./sampling/sampler.ts";
export type { Seeds } from "./sampling/seeds.ts";
export {
  type Action,
  type PeriodicSchedule,
  parseSchedule,
  policyOf,
  type Schedule,
  type StepChoice,
  type StepContext,
  type StepPolicy,
  scheduled,
  stretched,
} from "./sampling/step-policy.ts";
export { dynamicShift } from "./schedulers/dynamic-shift.ts";
export {
  type ChosenConfig,
  createScheduler,
  type SchedulerChoice,
  schedulerChoices,
  schedulerNames,
} from "./schedulers/registry.ts";
export * from "./schedulers/scheduler.ts";
export type { TimestepSpacing } from "./schedulers/spacing.ts";
export { describeBytes, parseBytes } from "./streamlined/bytes.ts";
export type { CachedFeatures as KeptFeatures, GroupProgress } from "./streamlined/session.ts";
export {
  type DType,
  type DTypeArrays,
  type FloatTensor,
  floatTensor,
  int64Tensor,
  sizeOf,
  type Tensor,
} from "./tensor.ts";
export type { OutputError } from "./verify/compare.ts";
export { type Verification, type VerifyOptions, verifyFolder } from "./verify/verify-folder.ts";
export type { Beside as BesideFolder } from "./verify/video-case.ts";
export type { WorkerChoice, WorkerLike } from "./worker/choice.ts";
