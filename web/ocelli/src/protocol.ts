// What the page and the worker say to each other.

import type { Fitting } from './fitted.js';
import type { PatchLayers } from './patch-head.js';

/** Programs can rely on these; messages are for people. */
export type ErrorCode =
  | 'weights' | 'image' | 'argument' | 'device' | 'network' | 'integrity' | 'unsupported' | 'disposed' | 'fault';

export type DeviceChoice = 'auto' | 'webgpu' | 'cpu';
/** Whose kernels compute: the package's own where there are any, or burn's everywhere, to compare. */
export type Kernels = 'auto' | 'wgsl' | 'stock';

export interface DeviceInfo {
  /** Where it computes. */
  kind: 'webgpu' | 'cpu';
  /** The adapter, as far as the browser tells. */
  name: string;
  /** Why not WebGPU, where it computes on the CPU. */
  reason: string;
  /** A program that plays graphics hardware. */
  software: boolean;
  /** Limits of the adapter. */
  limits: Record<string, number>;
}

export interface ModelInfo {
  /** Such as `vit-s/16`, with registers `vit-s/14-reg4`. */
  arch: string;
  dim: number;
  depth: number;
  heads: number;
  /** Patch side, pixels. */
  patch: number;
  /** Image side the position embeddings belong to, pixels. */
  imageSize: number;
  /** Tokens that belong to no place of the picture; they are in no output. */
  registers: number;
  /** What was done to the file's tensors, in words: what was left out, and layer scale, which is folded into the projections. */
  notes: string[];
  parameters: number;
  format: string;
  /** Taken off pixels in 0..1, and what divides them. */
  mean: [number, number, number];
  std: [number, number, number];
  /** Where these come from, in words. */
  normalisation: string;
  /** The size it is evaluated at, pixels; see [FeatureOptions]. */
  resize: number;
  crop: number;
  /** CRC-32 of names, shapes and values, whatever file they came in; `backbone_crc32` of `ocelli eval linear`. */
  fingerprint: string;
}

/**
 * Which numbers of a picture: `cls`, the class token; `cls-4`, those of the last four blocks, the oldest first; `cls+mean`, the
 * class token and the mean patch, alternating.
 */
export type FeatureKind = 'cls' | `cls-${number}` | 'cls+mean';

/** Features, and how pictures are prepared for them: by default as the network is evaluated. */
export interface FeatureOptions {
  /** Default `cls`. */
  kind?: FeatureKind;
  /** Short side in pixels that pictures are scaled to; 0 leaves them as they are. */
  resize?: number;
  /** Side of the square cut from the middle, pixels; 0 takes all. */
  crop?: number;
  /** Instead of the network's own normalisation. */
  mean?: [number, number, number];
  std?: [number, number, number];
}

export interface ViewInfo {
  view: number;
  /** Pixels the network saw. */
  width: number;
  height: number;
  /** Patches. */
  rows: number;
  columns: number;
}

/** A class for every pixel of a picture. */
export interface Segmentation {
  /** Pixels. */
  width: number;
  height: number;
  /** `[height, width]`, row-major: the classes' numbers. */
  labels: Uint8Array;
}

/** A head as the worker gets it: its key alone where the numbers are there already. */
export interface HandedHead {
  key: number;
  layers: PatchLayers | undefined;
}

/** What a run of training began with. */
export type SessionStart = 'nothing' | 'backbone' | 'checkpoint';

export interface StepFigures {
  step: number;
  epoch: number;
  loss: number;
  gradient_norm: number;
  max_parameter_gradient_norm: number;
  lr: number;
  weight_decay: number;
  momentum: number;
  /** The loss where nothing is learnt, and its name. */
  level: number;
  level_name: string;
  /** The method's figures in words, as a progress bar prints them. */
  printed: string[];
  /** What has gone wrong, where the figures show it. */
  sign?: string;
  /** The method's figures by name. */
  [figure: string]: number | string | string[] | undefined;
}

/** What a file of weights does not tell, or should not decide. */
export interface NetworkOptions {
  /** Heads of a block, where the width is no multiple of 64. */
  heads?: number | undefined;
  /** Taken off pixels in 0..1, and what divides them (default: what the file says, else ImageNet's). */
  mean?: [number, number, number] | undefined;
  std?: [number, number, number] | undefined;
}

/** Whether the cache is used: `true`, read and filled; `false`, neither; `'reload'`, filled anew. */
export type CacheUse = boolean | 'reload';

/** Weights as the worker gets them: bytes, a file, or an address and how it is fetched. */
export interface Weights {
  from: ArrayBuffer | Uint8Array | Blob | string;
  headers: [string, string][];
  integrity: string | undefined;
  cache: CacheUse;
  maxBytes: number;
}

/** How far one file has come. */
export interface FileProgress {
  /** `module`: the WebAssembly module; `weights`: a network's file. */
  kind: 'module' | 'weights';
  /** Its address; empty for files and bytes. */
  url: string;
  /** Bytes so far, unpacked. */
  loaded: number;
  /** Bytes in all; 0 where the server does not tell. */
  total: number;
  /** Read from the browser's cache of weights: nothing is downloaded. */
  cached: boolean;
}

/** Which module a worker has: one that looks, or one that trains as well. */
export type ModuleKind = 'look' | 'train';

/** How a worker begins. */
export interface Opening {
  module: ModuleKind;
  device: DeviceChoice;
  kernels: Kernels;
  /** Address of the module, where it does not lie beside the worker. */
  wasmUrl: string | undefined;
  /** Whether somebody wants to know how far the module has come. */
  progress: boolean;
}

/** Everything the worker does: arguments and result. */
export interface Calls {
  open: { args: [Opening]; result: DeviceInfo };
  load: { args: [Weights, NetworkOptions]; result: ModelInfo & { model: number } };
  look: { args: [number, ImageBitmap | ImageData, number, boolean]; result: ViewInfo };
  lookAt: { args: [number, Float32Array, number, number, number]; result: ViewInfo };
  features: { args: [number, ImageBitmap | ImageData, Required<FeatureOptions>]; result: Float32Array };
  segment: { args: [number, HandedHead, ImageBitmap | ImageData, Fitting, boolean]; result: Segmentation };
  segmentView: { args: [number, HandedHead, number, number, boolean]; result: Segmentation };
  attention: { args: [number, number, number]; result: Float32Array };
  tokens: { args: [number]; result: Float32Array };
  colours: { args: [number]; result: Uint8Array };
  match: { args: [number, number]; result: { best: Uint32Array; similarity: Float32Array; mutual: Uint8Array } };
  scene: { args: [number, number]; result: ImageData };
  memory: { args: []; result: number };
  freeView: { args: [number]; result: void };
  freeModel: { args: [number]; result: void };
  overlay: { args: [OffscreenCanvas]; result: number };
  paint: { args: [number, number, number, number, number | undefined, number]; result: void };
  freeOverlay: { args: [number]; result: void };
  session: {
    args: [string, Weights | undefined, number | undefined];
    result: { session: number; config: string; totalSteps: number; shape: number[]; start: SessionStart };
  };
  sessionState: { args: [number, ArrayBuffer]; result: void };
  sessionImage: { args: [number, ImageBitmap | ImageData]; result: number };
  sessionScenes: { args: [number, number, number]; result: number };
  step: { args: [number]; result: StepFigures };
  stepOn: { args: [number, Float32Array, Float32Array, number]; result: StepFigures };
  sessionLook: { args: [number, ImageBitmap | ImageData, number]; result: ViewInfo };
  sessionWeights: { args: [number]; result: Uint8Array };
}

export type Call = keyof Calls;

export interface Request {
  id: number;
  call: Call;
  args: unknown[];
}

/** Milliseconds in the worker: all of a call, and of that the way of the pixels from the picture to the device. */
export interface Times {
  all: number;
  pixels: number;
}

export interface Cancel {
  cancel: number;
}

export type Reply =
  | { id: number; value: unknown; times: Times }
  | { id: number; error: { code: ErrorCode; message: string } }
  | { id: number; progress: FileProgress }
  | { id: number; cancelled: true }
  | { lost: string };
