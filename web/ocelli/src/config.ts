// The settings of a run of training: the native program's names.

/** What can be trained in a tab: what a Vision Transformer can have and learns without labels. */
export type MethodName = 'dino' | 'moco' | 'simclr' | 'barlow' | 'vicreg' | 'byol' | 'swav' | 'deepcluster';

/** The methods' own settings; a run has those of its method. */
export interface MethodSettings {
  dino?: DinoSettings;
  moco?: MocoSettings;
  simclr?: SimclrSettings;
  barlow?: BarlowSettings;
  vicreg?: VicregSettings;
  byol?: ByolSettings;
  swav?: SwavSettings;
  deepcluster?: DeepClusterSettings;
}

/**
 * Every setting. Defaults are those of training in a tab: a small network, pictures of 64 px. Those named here are DINO's; the other
 * methods have batches of 32, two views without local crops (SwAV and DeepCluster two local ones), and a constant weight decay.
 */
export interface TrainingSettings extends MethodSettings {
  /** `dino` */
  method: MethodName;
  /** `vit-ti/16`, `vit-s/8`, or width, blocks, heads and patch: `vit-128x4x2/8` (default). */
  arch: string;
  views: ViewSettings;
  /** 20 */
  epochs: number;
  /** 50 */
  steps_per_epoch: number;
  /** Pictures of a step (16). */
  batch_size: number;
  seed: number;
  /** Probability that a step leaves out the last block of the student; those before it less (0). */
  drop_path: number;
  /** Peak learning rate, as it is (5e-4). */
  lr: number;
  min_lr: number;
  /** Epochs until the peak (2). */
  warmup_epochs: number;
  weight_decay: number;
  weight_decay_end: number;
  /** Largest length of a parameter's gradient; longer ones are shortened (3). */
  clip_grad: number;
}

export interface DinoSettings {
  head: DinoHeadSettings;
  student_temp: number;
  teacher_temp: number;
  /** The teacher's temperature at the start, and the epochs until it has the other. */
  warmup_teacher_temp: number;
  warmup_teacher_temp_epochs: number;
  centre_momentum: number;
  /** At the start; a cosine takes it to 1. */
  teacher_momentum: number;
  /** Epochs during which the last layer is not trained. */
  freeze_last_layer_epochs: number;
}

export interface DinoHeadSettings {
  /** Prototypes. */
  out_dim: number;
  hidden_dim: number;
  /** Width before the last layer. */
  bottleneck_dim: number;
  /** Linear layers before the last one. */
  layers: number;
  batch_norm: boolean;
  /** Keep the lengths of the last layer's rows at 1. */
  norm_last_layer: boolean;
}

/** MoCo v2. */
export interface MocoSettings {
  /** Width of the head's hidden layers; 0 is the network's own (256). */
  hidden_dim: number;
  /** Linear layers of the head; 0 is 3. */
  layers: number;
  /** Width of queries and keys (128). */
  out_dim: number;
  /** Keys in the queue (256): a multiple of `batch_size`, and fewer than there are pictures. */
  queue: number;
  temperature: number;
  /** Of the key encoder (0.995). */
  momentum: number;
  momentum_schedule: 'constant' | 'cosine';
  shuffle_keys: boolean;
}

export interface SimclrSettings {
  /** 0.2 */
  temperature: number;
  /** Linear layers of the head (2), and the width between them (256). */
  layers: number;
  hidden_dim: number;
  /** Width of the embeddings (128). */
  out_dim: number;
}

/** Barlow Twins. */
export interface BarlowSettings {
  /** Widths of the projector (512). */
  hidden_dim: number;
  out_dim: number;
  /** Weight of the redundancy term (0.0051). */
  lambda: number;
  /** Multiplies the loss (0.1). */
  loss_scale: number;
}

export interface VicregSettings {
  /** Width of the expander's layers (512). */
  dim: number;
  /** Weights of the three terms (25, 25, 1). */
  variance: number;
  invariance: number;
  covariance: number;
}

export interface ByolSettings {
  /** Linear layers of the projector; 0 is 3. */
  projector_layers: number;
  /** Linear layers of the predictor (2). */
  predictor_layers: number;
  /** Width of the hidden layers of both (512), and of what they give (64). */
  hidden_dim: number;
  out_dim: number;
  /** Of the target network at the start (0.99); a cosine takes it to 1. */
  momentum: number;
}

export interface SwavSettings {
  /** 128 */
  prototypes: number;
  /** Widths of the projector (256) and of the embeddings (64). */
  hidden_dim: number;
  out_dim: number;
  head_norm: boolean;
  /** 0.1 */
  temperature: number;
  /** Of Sinkhorn's iterations (0.02): smaller codes are harder. */
  epsilon: number;
  iterations: number;
  /** Embeddings of former batches that codes are balanced with (0). */
  queue: number;
  queue_from_epoch: number;
  /** Steps at the start in which the prototypes are not trained (50). */
  freeze_prototypes_steps: number;
}

/** DeepCluster-v2. Its networks are made with the first step: it wants to know how many pictures there are. */
export interface DeepClusterSettings {
  /** Prototypes of each head ([100, 100, 50]); no more than there are pictures. */
  heads: number[];
  /** Widths of the projector (128) and of the embeddings (64). */
  hidden_dim: number;
  out_dim: number;
  /** 0.1 */
  temperature: number;
  /** Rounds of k-means (10). */
  iterations: number;
}

export interface ViewSettings {
  /** Sides of the two global and of the local views, pixels. */
  global_size_px: number;
  local_size_px: number;
  /** Shares of a picture's area that they show, from and to. */
  global_scale: [number, number];
  local_scale: [number, number];
  /** Local views of a picture. */
  local_crops: number;
  /** Largest σ of the blur in pixels (1); 0 turns it off. */
  blur_sigma_max: number;
  /** Of methods that leave them open, which none of these does. */
  jitter: number;
  randaugment: number;
  erase: number;
  /** Taken off pixels in 0..1, and what divides them (ImageNet's). */
  mean: [number, number, number];
  std: [number, number, number];
}

type Part<V> = V extends readonly unknown[] ? V : V extends object ? Partly<V> : V;
type Partly<T> = { [K in keyof T]?: Part<T[K]> };

/** Settings of a run; what is left out has its default. */
export type TrainingConfig = Partly<TrainingSettings>;
