//! A network that is trained and one that follows it: student and teacher, query and key encoder.

use std::collections::HashSet;

use burn::module::Module;
use burn::tensor::Device;
use ocelli_models::Init;
use ocelli_models::params::{self, FlatParam};
use ocelli_models::weights::{ModuleState as _, StateDict};

use super::ema_update;
use crate::method::{MethodError, StepClock, Update, num_values};
use crate::optim::{Follower, Group};

/// Draws a backbone.
pub type Draw<'a, B, E> = dyn Fn(&mut Init) -> Result<B, E> + 'a;

/// Both networks.
pub(crate) struct Followed<N: Module> {
    // Absent only while they are replaced.
    net: Option<N>,
    follower: Option<N>,
    /// Whether the follower has moved in this step.
    moved: bool,
}

/// The networks are absent only inside the functions below, which put them back before they return.
#[allow(clippy::expect_used)]
fn present<T>(net: Option<T>) -> T {
    net.expect("a network is only taken while it is being replaced")
}

impl<N: Module> Followed<N> {
    /// Both must have been built on their own, from one seed: clones share their running statistics. The follower may lack
    /// parameters of the network, as BYOL's predictor: those are followed by nothing.
    pub fn new(net: N, follower: N) -> Self {
        Self { net: Some(net), follower: Some(follower), moved: false }
    }

    /// Both drawn from `seed`: `net` makes a network of what its `draw` draws, and goes on drawing. `device` is the plain device;
    /// the parameters of the network that is trained are tracked.
    pub fn drawn<B, E: Into<MethodError>>(
        draw: [&Draw<'_, B, E>; 2],
        seed: u64,
        device: &Device,
        net: impl Fn(B, &mut Init) -> N,
    ) -> Result<Self, MethodError> {
        let of = |draw: &Draw<'_, B, E>, device: &Device| -> Result<N, MethodError> {
            let mut init = Init::new(seed, device);
            let backbone = draw(&mut init).map_err(Into::into)?;
            Ok(net(backbone, &mut init))
        };
        Ok(Self::new(of(draw[0], &device.clone().autodiff())?, of(draw[1], device)?))
    }

    /// The same with another network in the follower's place.
    pub fn with_follower(self, change: impl FnOnce(N) -> N) -> Self {
        Self { follower: self.follower.map(change), ..self }
    }

    /// The network that is trained.
    pub fn net(&self) -> &N {
        present(self.net.as_ref())
    }

    /// The network that follows.
    pub fn follower(&self) -> &N {
        present(self.follower.as_ref())
    }

    /// Takes the optimizer's step, and in the same pass over the memory moves the follower where `momentum` says so.
    pub fn update(&mut self, update: Update<'_>, momentum: Option<f64>, group: &dyn Fn(&FlatParam) -> Group) {
        let Update { optimizer, gradients, rates, config, .. } = update;
        let group = |param: &FlatParam| config.group(param).and(group(param));
        let net = present(self.net.take());
        let follower = momentum.map(|momentum| Follower { net: present(self.follower.take()), momentum });
        self.moved = follower.is_some();
        let (net, follower) = optimizer.step(net, follower, gradients, rates, &group);
        self.net = Some(net);
        if self.moved {
            self.follower = follower;
        }
    }

    /// follower ← m·follower + (1 − m)·network.
    pub fn follow(&mut self, momentum: f64) {
        let net = present(self.net.as_ref());
        self.follower = self.follower.take().map(|follower| ema_update(follower, net, momentum));
    }

    /// [`Followed::follow`] before the loss of this process's first micro-batch of a step, whatever its number.
    pub fn follow_first(&mut self, momentum: f64, clock: &StepClock) {
        if clock.micro_batch == 0 || !self.moved {
            self.follow(momentum);
            self.moved = true;
        }
    }

    /// [`Followed::follow`], unless [`Followed::update`] has done it in this step.
    pub fn follow_once(&mut self, clock: &StepClock) {
        if !std::mem::take(&mut self.moved) {
            self.follow(clock.momentum);
        }
    }

    /// Both networks' tensors under a prefix each.
    pub fn state(&self, [net, follower]: [&str; 2]) -> Result<StateDict, MethodError> {
        let mut state = StateDict::default();
        state.add_module(net, self.net())?;
        state.add_module(follower, self.follower())?;
        Ok(state)
    }

    /// Loads both by `load`, or neither: the second can only fail where the first does, as both parts of the state are
    /// compared before, but for what the follower lacks.
    pub fn load(
        &mut self,
        [net, follower]: [&StateDict; 2],
        load: impl Fn(&StateDict, N) -> Result<N, MethodError>,
    ) -> Result<(), MethodError> {
        let names = |net: &N| params::collect(net).into_iter().map(|p| p.name).collect::<HashSet<String>>();
        let (all, followed) = (names(self.net()), names(self.follower()));
        let is_alone = |name: &String| all.contains(name) && !followed.contains(name);
        let mut net_shapes = shapes(net);
        net_shapes.retain(|(name, _)| !is_alone(name));
        if net_shapes != shapes(follower) {
            return Err(MethodError::Missing("follower of the trained network's shape"));
        }
        let loaded = load(net, self.net().clone())?;
        self.follower = Some(load(follower, self.follower().clone())?);
        self.net = Some(loaded);
        Ok(())
    }

    /// Numbers in the follower.
    pub fn held_values(&self) -> usize {
        num_values(self.follower())
    }
}

/// Adds the tensors of `part` to `state` under `prefix`.
pub(crate) fn append(state: &mut StateDict, prefix: &str, part: StateDict) {
    state.tensors.extend(part.tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
}

/// Replaces the start of every name that has one of these starts.
pub(crate) fn renamed(state: &StateDict, starts: &[(&str, &str)]) -> StateDict {
    let tensors = state.tensors.iter().map(|(name, tensor)| {
        let found = starts.iter().find_map(|(from, to)| name.strip_prefix(from).map(|rest| format!("{to}{rest}")));
        (found.unwrap_or_else(|| name.clone()), tensor.clone())
    });
    StateDict { tensors: tensors.collect(), metadata: state.metadata.clone() }
}

fn shapes(state: &StateDict) -> Vec<(String, Vec<usize>)> {
    let mut shapes: Vec<_> = state.tensors.iter().map(|(n, t)| (n.clone(), t.shape.clone())).collect();
    shapes.sort();
    shapes
}
