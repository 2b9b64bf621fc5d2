// The settings of a run of training: the native program's names.

/** Every setting. Defaults are those of training in a tab: a small network, pictures of 64 px. */
export interface TrainingSettings {
  /** `vit-ti/16`, `vit-s/8`, or width, blocks, heads and patch: `vit-128x4x2/8` (default). */
  arch: string;
  dino: DinoSettings;
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

export interface ViewSettings {
  /** Sides of the two global and of the local views, pixels. */
  global_size_px: number;
  local_size_px: number;
  /** Shares of a picture's area that they show, from and to. */
  global_scale: [number, number];
  local_scale: [number, number];
  /** Local views of a picture. */
  local_crops: number;
  /** Range of the blur's σ in pixels; `null` turns blur off. */
  blur_sigma: [number, number] | null;
}

type Partly<T> = { [K in keyof T]?: T[K] extends readonly unknown[] | null ? T[K] : T[K] extends object ? Partly<T[K]> : T[K] };

/** Settings of a run; what is left out has its default. */
export type TrainingConfig = Partly<TrainingSettings>;
