//! A network that is trained alone.

use burn::module::Module;
use ocelli_models::params::FlatParam;
use ocelli_models::weights::{ModuleState as _, StateDict};

use crate::method::{MethodError, Update};
use crate::optim::Group;

/// A network that is trained, with nothing that follows it.
pub(crate) struct Trained<N: Module> {
    // Absent only while it is replaced.
    net: Option<N>,
}

impl<N: Module> Trained<N> {
    /// The network on the autodiff device.
    pub fn new(net: N) -> Self {
        Self { net: Some(net) }
    }

    /// The network.
    #[allow(clippy::expect_used)] // Absent only inside `update`, which puts it back before it returns.
    pub fn net(&self) -> &N {
        self.net.as_ref().expect("a network is only taken while it is being replaced")
    }

    /// Takes the optimizer's step; `group` says how a parameter is stepped beside what the configuration says.
    pub fn update(&mut self, update: Update<'_>, group: &dyn Fn(&FlatParam) -> Group) {
        let Update { optimizer, gradients, rates, config, .. } = update;
        if let Some(net) = self.net.take() {
            let group = |param: &FlatParam| config.group(param).and(group(param));
            self.net = Some(optimizer.step(net, None, gradients, rates, &group).0);
        }
    }

    /// Puts another network in its place; it stays as it is where `change` fails.
    pub fn change(&mut self, change: impl FnOnce(N) -> Result<N, MethodError>) -> Result<(), MethodError> {
        self.net = Some(change(self.net().clone())?);
        Ok(())
    }

    /// Puts what becomes of it in its place.
    pub fn map(&mut self, map: impl FnOnce(N) -> N) {
        self.net = self.net.take().map(map);
    }

    /// Its tensors, under their names.
    pub fn state(&self) -> Result<StateDict, MethodError> {
        let mut state = StateDict::default();
        state.add_module("", self.net())?;
        Ok(state)
    }

    /// Restores [`Trained::state`] from the tensors that have the network's names, among others.
    pub fn load(&mut self, state: &StateDict) -> Result<(), MethodError> {
        let mut own = self.state()?;
        let names: std::collections::HashSet<String> = own.tensors.drain(..).map(|(name, _)| name).collect();
        own.tensors = state.tensors.iter().filter(|(name, _)| names.contains(name)).cloned().collect();
        self.change(|net| Ok(own.load_into(net)?))
    }
}
