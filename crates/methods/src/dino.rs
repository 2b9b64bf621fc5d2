//! DINO: self-distillation with no labels (Caron et al. 2021, <https://arxiv.org/abs/2104.14294>).

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};
use ocelli_models::weights::{HostTensor, ModuleState as _, StateDict};
use ocelli_models::{DenseBackbone, DinoHead, DinoHeadConfig, Init, Mode, Vit, VitConfig};
use serde::{Deserialize, Serialize};

use crate::method::{LossOutput, Method, MethodError, StepClock};
use crate::optim::Follower;
use crate::schedule::TeacherTemperature;
use crate::{ViewBox, ema_update};

/// DINO's own constants; defaults are the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DinoConfig {
    /// The projection head.
    pub head: DinoHeadConfig,
    /// τs (0.1).
    pub student_temp: f64,
    /// τt after its warm-up (0.04; above 0.07 training becomes unstable).
    pub teacher_temp: f64,
    /// τt of epoch 0 (0.04).
    pub warmup_teacher_temp: f64,
    /// Epochs until τt is reached (0).
    pub warmup_teacher_temp_epochs: usize,
    /// Momentum of the centre (0.9).
    pub centre_momentum: f64,
    /// Momentum of the teacher at the start; a cosine takes it to 1 (0.996; 0.9995 for batches of 256 and below).
    pub teacher_momentum: f64,
    /// Epochs during which the last layer is not trained (1).
    pub freeze_last_layer_epochs: usize,
}

impl Default for DinoConfig {
    fn default() -> Self {
        Self {
            head: DinoHeadConfig::default(),
            student_temp: 0.1,
            teacher_temp: 0.04,
            warmup_teacher_temp: 0.04,
            warmup_teacher_temp_epochs: 0,
            centre_momentum: 0.9,
            teacher_momentum: 0.996,
            freeze_last_layer_epochs: 1,
        }
    }
}

impl DinoConfig {
    fn check(&self) -> Result<(), MethodError> {
        let positive = |key: &'static str, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(MethodError::Value { key, expected: "a number above 0", found: value.to_string() }),
        };
        let unit = |key: &'static str, value: f64| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(MethodError::Value { key, expected: "a number from 0 to 1", found: value.to_string() }),
        };
        positive("dino.student_temp", self.student_temp)?;
        positive("dino.teacher_temp", self.teacher_temp)?;
        positive("dino.warmup_teacher_temp", self.warmup_teacher_temp)?;
        positive("dino.head.out_dim", self.head.out_dim as f64)?;
        positive("dino.head.hidden_dim", self.head.hidden_dim as f64)?;
        positive("dino.head.bottleneck_dim", self.head.bottleneck_dim as f64)?;
        unit("dino.centre_momentum", self.centre_momentum)?;
        unit("dino.teacher_momentum", self.teacher_momentum)
    }
}

/// A backbone with its projection head.
#[derive(Module, Debug)]
pub struct DinoNet<B: Module> {
    /// The backbone.
    pub backbone: B,
    /// The projection head.
    pub head: DinoHead,
}

impl<B: DenseBackbone> DinoNet<B> {
    /// Logits of all views: one backbone pass per crop size, one head pass over everything. Also returns the
    /// backbone's features.
    fn forward(&self, views: &[Tensor<4>], mode: Mode) -> (Tensor<2>, Tensor<2>) {
        let features: Vec<Tensor<2>> = views.iter().map(|v| self.backbone.features(v.clone(), mode)).collect();
        let features = match <[Tensor<2>; 1]>::try_from(features) {
            Ok([only]) => only,
            Err(several) => Tensor::cat(several, 0),
        };
        (self.head.forward(features.clone(), mode), features)
    }
}

/// Draws a backbone.
pub type Draw<'a, B, E> = dyn Fn(&mut Init) -> Result<B, E> + 'a;

/// Student, teacher and centre.
pub struct Dino<B: DenseBackbone = Vit> {
    config: DinoConfig,
    // Absent only while the optimizer holds it.
    student: Option<DinoNet<B>>,
    teacher: Option<DinoNet<B>>,
    /// Whether the optimizer has moved the teacher in this step.
    teacher_moved: bool,
    centre: Tensor<2>,
    teacher_mean: Option<(Tensor<2>, usize)>,
}

impl Dino<Vit> {
    /// A Vision Transformer as student, drawn from `seed`, and a teacher equal to it without drop path. `device` is the
    /// plain device; the student's parameters are tracked.
    ///
    /// # Errors
    /// When a value is out of range.
    pub fn new(config: &DinoConfig, vit: &VitConfig, seed: u64, device: &Device) -> Result<Self, MethodError> {
        let teacher = VitConfig { drop_path: 0.0, ..vit.clone() };
        Self::of(config, [&|init: &mut Init| vit.init(init), &|init: &mut Init| teacher.init(init)], seed, device)
    }
}

impl<B: DenseBackbone> Dino<B> {
    /// A student drawn from `seed` and a teacher equal to it, with a zero centre. `build` draws the student's and the
    /// teacher's backbone; `device` is the plain device, the student's parameters are tracked.
    ///
    /// # Errors
    /// When a value is out of range, or a backbone cannot be built.
    pub fn of<E: Into<MethodError>>(
        config: &DinoConfig,
        build: [&Draw<'_, B, E>; 2],
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        config.check()?;
        let net = |build: &Draw<'_, B, E>, device: &Device| -> Result<DinoNet<B>, MethodError> {
            let mut init = Init::new(seed, device);
            let backbone = build(&mut init).map_err(Into::into)?;
            let head = config.head.init(backbone.map_dim(), &mut init);
            Ok(DinoNet { backbone, head })
        };
        let student = net(build[0], &device.clone().autodiff())?;
        // The reference always builds the teacher's head with a frozen weight_g, which comes to the same: it copies
        // the student's value, and averages whatever the student has.
        let teacher = net(build[1], device)?;
        Ok(Self {
            centre: Tensor::zeros([1, config.head.out_dim], device),
            config: config.clone(),
            student: Some(student),
            teacher: Some(teacher),
            teacher_moved: false,
            teacher_mean: None,
        })
    }

    /// The teacher's backbone: the network one keeps.
    pub fn teacher(&self) -> &DinoNet<B> {
        present(self.teacher.as_ref())
    }

    /// The centre, `[1, K]`.
    pub fn centre(&self) -> Tensor<2> {
        self.centre.clone()
    }

    /// The constants in use.
    pub fn config(&self) -> &DinoConfig {
        &self.config
    }

    /// Gives student and teacher this backbone; the heads stay as drawn.
    ///
    /// # Errors
    /// When it is of another shape; nothing is changed then.
    pub fn start_from(&mut self, backbone: &B) -> Result<(), MethodError> {
        let mut state = StateDict::default();
        state.add_module("", backbone)?;
        self.start_from_state(&state)
    }

    /// The same from a backbone's tensors, without reading anything from the device.
    ///
    /// # Errors
    /// When they are of another shape; nothing is changed then.
    pub fn start_from_state(&mut self, backbone: &StateDict) -> Result<(), MethodError> {
        let student = backbone.load_into(self.net().backbone.clone())?;
        let teacher = backbone.load_into(self.teacher().backbone.clone())?;
        self.student = self.student.take().map(|net| DinoNet { backbone: student, ..net });
        self.teacher = self.teacher.take().map(|net| DinoNet { backbone: teacher, ..net });
        Ok(())
    }

    /// τt of an epoch.
    pub fn teacher_temperature(&self, epoch: usize) -> f64 {
        TeacherTemperature {
            start: self.config.warmup_teacher_temp,
            end: self.config.teacher_temp,
            warmup_epochs: self.config.warmup_teacher_temp_epochs,
        }
        .at(epoch)
    }

    /// Student logits `[views·batch, K]`, teacher logits `[2·batch, K]` and teacher features of these views.
    pub fn outputs(&self, views: &[Tensor<4>], batch: usize, seed: u64) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
        let mode = Mode::Train { seed };
        let tracked: Vec<Tensor<4>> = views.iter().map(|v| v.clone().autodiff()).collect();
        let (student, _) = self.net().forward(&tracked, mode);
        let global = views[0].clone().narrow(0, 0, 2 * batch);
        let (teacher, features) = self.teacher().forward(&[global], mode);
        (student, teacher, features)
    }
}

/// The networks are absent only inside `update_net` and `after_step`, which put them back before they return.
#[allow(clippy::expect_used)]
fn present<T>(net: Option<T>) -> T {
    net.expect("a network is only taken while it is being replaced")
}

impl<B: DenseBackbone> Method for Dino<B> {
    type Net = DinoNet<B>;

    const FIGURES: &'static [&'static str] = &["loss", "teacher_entropy", "kl", "feature_std"];

    fn net(&self) -> &DinoNet<B> {
        present(self.student.as_ref())
    }

    fn update_net(&mut self, step: impl FnOnce(DinoNet<B>) -> DinoNet<B>) {
        self.student = self.student.take().map(step);
    }

    fn update_with_follower(
        &mut self,
        clock: &StepClock,
        step: impl FnOnce(DinoNet<B>, Option<Follower<DinoNet<B>>>) -> (DinoNet<B>, Option<DinoNet<B>>),
    ) {
        let student = present(self.student.take());
        let teacher = present(self.teacher.take());
        let (student, teacher) = step(student, Some(Follower { net: teacher, momentum: clock.momentum }));
        self.teacher_moved = true;
        (self.student, self.teacher) = (Some(student), teacher);
    }

    fn loss(&mut self, views: &[Tensor<4>], batch: usize, _: &[Vec<ViewBox>], clock: &StepClock) -> LossOutput {
        let (student, teacher, features) = self.outputs(views, batch, clock.step_seed());
        let temperature = self.teacher_temperature(clock.epoch);
        let n_views = student.dims()[0] / batch;
        let loss = ocelli_kernels::dino_cross_entropy(
            student,
            teacher.clone(),
            self.centre.clone(),
            self.config.student_temp as f32,
            temperature as f32,
            n_views,
        );

        let entropy = entropy((teacher.clone() - self.centre.clone()) / temperature);
        let kl = loss.clone().inner() - entropy.clone();
        let mean = teacher.mean_dim(0);
        self.teacher_mean = Some(match self.teacher_mean.take() {
            None => (mean, 1),
            Some((sum, n)) => (sum + mean, n + 1),
        });
        let scalars = vec![
            ("loss", loss.clone().inner()),
            ("teacher_entropy", entropy),
            ("kl", kl),
            ("feature_std", feature_std(features)),
        ];
        LossOutput { loss, scalars }
    }

    fn is_frozen(&self, parameter: &str, epoch: usize) -> bool {
        epoch < self.config.freeze_last_layer_epochs && parameter.contains("last_layer")
    }

    fn after_step(&mut self, clock: &StepClock) {
        if let Some((sum, n)) = self.teacher_mean.take() {
            let m = self.config.centre_momentum;
            self.centre = self.centre.clone() * m + sum * ((1.0 - m) / n as f64);
        }
        if std::mem::take(&mut self.teacher_moved) {
            return;
        }
        let student = present(self.student.as_ref());
        self.teacher = self.teacher.take().map(|teacher| ema_update(teacher, student, clock.momentum));
    }

    fn state(&self) -> Result<StateDict, MethodError> {
        let mut state = StateDict::default();
        state.add_module("student.", self.net())?;
        state.add_module("teacher.", self.teacher())?;
        let shape = self.centre.dims().to_vec();
        let values = self.centre.clone().into_data().try_to_vec().map_err(|_| MethodError::Missing("centre"))?;
        state.tensors.push(("dino_loss.center".into(), HostTensor { shape, values }));
        Ok(state)
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), MethodError> {
        let centre = state.get("dino_loss.center").ok_or(MethodError::Missing("centre"))?;
        if centre.values.len() != self.config.head.out_dim {
            return Err(MethodError::Value {
                key: "dino.head.out_dim",
                expected: "the checkpoint's number of prototypes",
                found: format!("{} here, {} there", self.config.head.out_dim, centre.values.len()),
            });
        }
        let student = state.under("student.").load_into(self.net().clone())?;
        let teacher = state.under("teacher.").load_into(self.teacher().clone())?;
        let device = self.centre.device();
        self.centre = Tensor::<1>::from_floats(centre.values.as_slice(), &device).unsqueeze();
        (self.student, self.teacher, self.teacher_mean) = (Some(student), Some(teacher), None);
        Ok(())
    }
}

/// Mean over rows of −Σ p·log p with p = softmax(logits): `[1]`. Between 0 (one prototype takes all) and ln K.
fn entropy(logits: Tensor<2>) -> Tensor<1> {
    let log_p = activation::log_softmax(logits, 1);
    let p = log_p.clone().exp();
    // p·log p → 0 where p underflows; log p itself may be −∞ there.
    (p * log_p.clamp_min(-1e4)).sum_dim(1).mean().neg()
}

/// Standard deviation of the L2-normalised features over the batch, averaged over dimensions and multiplied by √dim:
/// about 1 when they spread over the sphere, 0 when they are all the same.
pub(crate) fn feature_std(features: Tensor<2>) -> Tensor<1> {
    let dim = features.dims()[1] as f64;
    let norm = features.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
    let unit = features / norm;
    let centred = unit.clone() - unit.mean_dim(0);
    centred.powi_scalar(2).mean_dim(0).sqrt().mean() * dim.sqrt()
}
