//! Parameters by name: what optimizers, moving averages and weight files need of a module, with the ranks erased.
//!
//! ```
//! use burn::tensor::Device;
//! use ocelli_models::{Init, Linear, params};
//!
//! let layer = Linear::new(3, 2, true, &mut Init::new(0, &Device::flex()));
//! let names: Vec<String> = params::collect(&layer).into_iter().map(|p| p.name).collect();
//! assert_eq!(names, ["weight", "bias"]);
//! assert_eq!(params::count(&layer), 3 * 2 + 2);
//! ```

use std::marker::PhantomData;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
#[cfg(feature = "autodiff")]
use burn::tensor::Gradients;
use burn::tensor::{Shape, Tensor};

/// One parameter, flattened. `values` is `[len]` outside autodiff; `shape` is the module's own shape.
#[derive(Debug, Clone)]
pub struct FlatParam {
    /// PyTorch's name.
    pub name: String,
    /// Shape in the module (linear weights are `[in, out]`).
    pub shape: Shape,
    /// Row-major values, `[len]`.
    pub values: Tensor<1>,
    /// False for running statistics: saved and loaded, never optimised or averaged.
    pub trainable: bool,
}

impl FlatParam {
    /// Whether AdamW's decay leaves it alone: biases and everything one-dimensional (the reference's
    /// `get_params_groups`). Position embeddings, the class token and a trained `weight_g` *are* decayed.
    pub fn is_regularised(&self) -> bool {
        self.shape.num_dims() > 1 && !self.name.ends_with(".bias")
    }
}

#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    /// `container` is burn's word for what the name is of: variants of an enum are wrappers, too.
    fn enter(&mut self, name: &str, container: &str) {
        self.0.push(if container.starts_with("Enum:") { "op_".to_owned() } else { name.to_owned() });
    }
    fn exit(&mut self) {
        self.0.pop();
    }
    /// Components starting with `op_` are wrappers PyTorch does not have.
    fn name(&self) -> String {
        self.0.iter().filter(|c| !c.starts_with("op_")).map(String::as_str).collect::<Vec<_>>().join(".")
    }
}

fn is_running(name: &str) -> bool {
    name.ends_with("running_mean") || name.ends_with("running_var")
}

/// All parameters and running statistics, in declaration order.
pub fn collect<M: Module>(module: &M) -> Vec<FlatParam> {
    struct Collect {
        path: Path,
        out: Vec<FlatParam>,
    }
    impl ModuleVisitor for Collect {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let name = self.path.name();
            let tensor = param.val().inner();
            self.out.push(FlatParam {
                trainable: !is_running(&name),
                shape: tensor.shape(),
                values: tensor.flatten(0, D - 1),
                name,
            });
        }
    }
    let mut visitor = Collect { path: Path::default(), out: Vec::new() };
    module.visit(&mut visitor);
    visitor.out
}

/// Takes the gradients of `module`'s parameters out of `gradients`: `(name, [len])`, parameters without one left out.
#[cfg(feature = "autodiff")]
pub fn take_gradients<M: Module>(module: &M, gradients: &mut Gradients) -> Vec<(String, Tensor<1>)> {
    struct Take<'a> {
        path: Path,
        gradients: &'a mut Gradients,
        out: Vec<(String, Tensor<1>)>,
    }
    impl ModuleVisitor for Take<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad_remove(self.gradients) {
                self.out.push((self.path.name(), gradient.flatten(0, D - 1)));
            }
        }
    }
    let mut visitor = Take { path: Path::default(), gradients, out: Vec::new() };
    module.visit(&mut visitor);
    visitor.out
}

/// Replaces parameters: `replace` gets each one and returns new values `[len]`, or `None` to keep it. The device's
/// autodiff setting and whether a gradient is wanted stay as they were.
pub fn replace<M: Module>(module: M, replace: impl FnMut(&FlatParam) -> Option<Tensor<1>>) -> M {
    struct Replace<F> {
        path: Path,
        replace: F,
        marker: PhantomData<()>,
    }
    impl<F: FnMut(&FlatParam) -> Option<Tensor<1>>> ModuleMapper for Replace<F> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let name = self.path.name();
            let (id, tensor, mapper) = param.consume();
            let (autodiff, require_grad) = (tensor.is_autodiff(), tensor.is_require_grad());
            let shape = tensor.shape();
            let flat = FlatParam {
                trainable: !is_running(&name),
                shape: shape.clone(),
                values: tensor.clone().inner().flatten(0, D - 1),
                name,
            };
            let tensor = match (self.replace)(&flat) {
                None => tensor,
                Some(values) => {
                    let values: Tensor<D> = values.reshape(shape);
                    match autodiff {
                        true => values.autodiff().set_require_grad(require_grad),
                        false => values,
                    }
                }
            };
            Param::from_mapped_value(id, tensor, mapper)
        }
    }
    module.map(&mut Replace { path: Path::default(), replace, marker: PhantomData })
}

/// A module whose values were taken out by [`take`].
#[derive(Debug)]
pub struct Emptied<M> {
    module: M,
    shapes: Vec<Shape>,
}

/// Takes the values out of a module, so that whoever gets them holds them alone and may write to their memory; the module
/// waits for [`Emptied::fill`].
pub fn take<M: Module>(module: M) -> (Emptied<M>, Vec<FlatParam>) {
    struct Take {
        path: Path,
        empty: Option<Tensor<1>>,
        out: Vec<FlatParam>,
    }
    impl ModuleMapper for Take {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let name = self.path.name();
            let (id, tensor, mapper) = param.consume();
            let (autodiff, require_grad) = (tensor.is_autodiff(), tensor.is_require_grad());
            let shape = tensor.shape();
            let values = tensor.inner().flatten(0, D - 1);
            let empty = self.empty.get_or_insert_with(|| Tensor::zeros([1], &values.device()));
            let empty: Tensor<D> = empty.clone().reshape([1; D]);
            self.out.push(FlatParam { trainable: !is_running(&name), shape, values, name });
            let empty = if autodiff { empty.autodiff().set_require_grad(require_grad) } else { empty };
            Param::from_mapped_value(id, empty, mapper)
        }
    }
    let mut mapper = Take { path: Path::default(), empty: None, out: Vec::new() };
    let module = module.map(&mut mapper);
    let shapes = mapper.out.iter().map(|p| p.shape.clone()).collect();
    (Emptied { module, shapes }, mapper.out)
}

impl<M: Module> Emptied<M> {
    /// The module with these values, `[len]` each, in the order [`take`] gave them.
    ///
    /// # Panics
    /// When there are fewer values than parameters.
    pub fn fill(self, values: Vec<Tensor<1>>) -> M {
        struct Fill<I> {
            values: I,
        }
        impl<I: Iterator<Item = (Tensor<1>, Shape)>> ModuleMapper for Fill<I> {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let (id, empty, mapper) = param.consume();
                let (values, shape) = next(&mut self.values);
                let values: Tensor<D> = values.reshape(shape);
                let values = match empty.is_autodiff() {
                    true => values.autodiff().set_require_grad(empty.is_require_grad()),
                    false => values,
                };
                Param::from_mapped_value(id, values, mapper)
            }
        }
        assert!(values.len() == self.shapes.len(), "{} values for {} parameters", values.len(), self.shapes.len());
        self.module.map(&mut Fill { values: values.into_iter().zip(self.shapes) })
    }
}

/// As many as there are parameters, so there is another.
#[allow(clippy::expect_used)]
fn next<T>(values: &mut impl Iterator<Item = T>) -> T {
    values.next().expect("a value for every parameter")
}

/// Number of trainable values in a module.
pub fn count<M: Module>(module: &M) -> usize {
    collect(module).iter().filter(|p| p.trainable).map(|p| p.shape.num_elements()).sum()
}
