// What a page imports: the names of the package, and its two calls that do everything in one go.

import { Ocelli, type SessionOptions } from './client.js';
import type { TrainingConfig } from './config.js';
import type { OcelliModel } from './model.js';
import { together, type ImageSource, type LoadOptions, type OpenOptions, type WeightSource } from './options.js';
import type { StepFigures } from './protocol.js';
import type { TrainingSession } from './training.js';

export { clearModelCache, deleteModelFromCache, hasModelInCache } from './cache.js';
export { Ocelli, type SessionOptions } from './client.js';
export type {
  BarlowSettings, ByolSettings, DeepClusterSettings, DinoHeadSettings, DinoSettings, MethodName, MethodSettings, MocoSettings, SimclrSettings,
  SwavSettings, TrainingConfig, TrainingSettings, VicregSettings, ViewSettings,
} from './config.js';
export { OcelliError } from './error.js';
export type { FeatureSource } from './features.js';
export { LinearHead, type Prediction } from './head.js';
export { KnnClassifier, ranked, similarities, type KnnOptions, type Vote } from './knn.js';
export { OcelliModel, type LookOptions, type SegmentOptions } from './model.js';
export type { CallOptions, FetchOptions, ImageSource, LoadOptions, OpenOptions, Progress, ProgressOptions, WeightSource } from './options.js';
export type {
  CacheUse, DeviceChoice, DeviceInfo, ErrorCode, FeatureKind, FeatureOptions, FileProgress, Kernels, ModelInfo, NetworkOptions, Segmentation,
  SessionStart, StepFigures, Times,
} from './protocol.js';
export { SegmentationHead, type SegmentedClass } from './segmentation.js';
export { TrainingSession } from './training.js';
export { OcelliOverlay, OcelliView, type Attention, type AttentionOptions, type Match, type PaintOptions, type Patches } from './view.js';

/**
 * Opens a device and loads a network in one go; both downloads run at once. The worker is the network's own, and ends when that is
 * disposed of.
 */
export async function load(source: WeightSource, options: LoadOptions & OpenOptions = {}): Promise<OcelliModel> {
  const tell = together(['module', 'weights'], options.onProgress);
  const { ocelli, opened } = Ocelli.begin(options, tell);
  try {
    const [, model] = await Promise.all([opened, ocelli.network(source, options, tell, true)]);
    return model;
  } catch (error) {
    ocelli.dispose();
    throw error;
  }
}

export interface TrainOptions extends OpenOptions, SessionOptions {
  /** After every step; `session.pause()` ends the run there, with what was learnt. */
  onEvent?: ((figures: StepFigures, session: TrainingSession) => void) | undefined;
}

/**
 * Trains on pictures, with DINO unless `config.method` names another, from the first step to the last; the session that comes back
 * looks, and gives its weights. The module that trains is fetched now, and its worker ends with the session.
 *
 * A signal ends everything, the worker too; `session.pause()` in `onEvent` ends the run and keeps what was learnt.
 */
export async function train(images: Iterable<ImageSource>, config: TrainingConfig = {}, options: TrainOptions = {}): Promise<TrainingSession> {
  const { onEvent, signal } = options;
  const session = await Ocelli.train(config, options, options);
  try {
    for (const image of images) await session.addImage(image, { signal });
    await session.run((figures) => onEvent?.(figures, session), { signal });
    return session;
  } catch (error) {
    session.dispose();
    throw error;
  }
}
