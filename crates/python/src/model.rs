//! A network and what it makes of pictures.

use std::path::PathBuf;

use burn::tensor::{Tensor, TensorData};
use ocelli::data::{DataError, EvalTransform, Image, fit_to_cells};
use ocelli::eval::features::Pooling;
use ocelli::models::BackboneArch;
use ocelli::models::weights::preprocessing::{EvalSize, Preprocessing, Statistics, Told};
use ocelli::train::device::{self, Chosen, DeviceChoice};
use ocelli::train::{
    Loaded, Loading, TrainError, attention_of, cells_of, eval_transform, image_tensor, pooled_features,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::arrays::{Pictures, array, picture};
use crate::error::{computing, of_train, of_weights};

/// Features of images, and what a Vision Transformer attends to. `ocelli.load` and `Run.model` make one.
#[pyclass(frozen, module = "ocelli")]
pub struct Model {
    net: Loaded,
    device: Chosen,
}

/// Opens weights: a run folder, a checkpoint, a file of weights (.safetensors, PyTorch's .pth), a folder of Hugging Face,
/// `hf:NAME` for what its library has cached, or `random:ARCH`.
///
/// `arch` is the architecture they must have, such as "vit-s/16"; it also tells the number of heads where the file does not.
/// `device` is "auto", "cpu", "gpu" or "gpu:N". `mean` and `std` (of levels from 0 to 1, for red, green and blue), `resize`
/// (short side, pixels) and `crop` (side of the centre crop, pixels; 0 for neither) are taken before what the file says.
#[pyfunction]
#[pyo3(signature = (path, arch=None, device="auto", *, mean=None, std=None, resize=None, crop=None))]
#[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)] // Python names them, and hands them over.
pub fn load(
    py: Python<'_>,
    path: PathBuf,
    arch: Option<&str>,
    device: &str,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    resize: Option<usize>,
    crop: Option<usize>,
) -> PyResult<Model> {
    let choice: DeviceChoice = device.parse().map_err(|e| PyValueError::new_err(format!("device: {e}")))?;
    let arch: Option<BackboneArch> =
        arch.map(str::parse).transpose().map_err(|e| of_train(TrainError::Backbone(e)))?;
    let statistics = match (mean, std) {
        (Some(mean), Some(std)) => Some(Statistics::checked(mean, std).map_err(PyValueError::new_err)?),
        (None, None) => None,
        _ => return Err(PyValueError::new_err("mean and std: expected both or neither, found one of them")),
    };
    let size = resize.zip(crop).map(|(resize_px, crop_px)| EvalSize { resize_px, crop_px });
    let given = Preprocessing {
        statistics: statistics.map(|value| Told::new(value, "mean and std as given")),
        size: size.map(|value| Told::new(value, "resize and crop as given")),
    };
    let loading = Loading { heads: arch.as_ref().and_then(BackboneArch::heads), given, ..Loading::default() };
    let opened = py.detach(|| {
        computing(|| {
            let device = device::open(choice)?;
            // Told apart from the device's errors, for what is not there.
            Ok(loading.open(&path, &device.device).map(|net| (net, device)))
        })
    })?;
    let (mut net, device) = opened.map_err(|error| of_weights(&path, error))?;
    if let Some(arch) = arch.map(|arch| arch.to_string()).filter(|arch| *arch != net.arch()) {
        let found = net.arch();
        return Err(PyValueError::new_err(format!("{}: expected {arch}, found {found}", path.display())));
    }
    let halves = [("resize", resize, &mut net.size.value.resize_px), ("crop", crop, &mut net.size.value.crop_px)];
    for (name, given, px) in halves {
        if let (Some(given), None) = (given, size) {
            *px = given;
            net.size.source = format!("{name} as given; the other half: {}", net.size.source);
        }
    }
    Ok(Model { net, device })
}

#[pymethods]
impl Model {
    /// The architecture, such as "vit-s/16" or "resnet-50".
    #[getter]
    fn arch(&self) -> String {
        self.net.arch()
    }

    /// Length of a feature.
    #[getter]
    fn dim(&self) -> usize {
        self.net.config.dim()
    }

    /// Pixels per patch, or per cell of a ResNet.
    #[getter]
    fn patch_px(&self) -> usize {
        self.net.stride_px
    }

    /// Side of the square images that the position embeddings belong to, pixels; of a ResNet 224.
    #[getter]
    fn image_size_px(&self) -> usize {
        self.net.image_side_px()
    }

    /// What is taken off the levels from 0 to 1: red, green, blue.
    #[getter]
    fn mean(&self) -> (f32, f32, f32) {
        self.net.statistics.value.mean.into()
    }

    /// What the levels are then divided by: red, green, blue.
    #[getter]
    fn std(&self) -> (f32, f32, f32) {
        self.net.statistics.value.std.into()
    }

    /// Short side after resizing, pixels; 0 leaves images as they are.
    #[getter]
    fn resize_px(&self) -> usize {
        self.net.size.value.resize_px
    }

    /// Side of the centre crop, pixels; 0 takes the whole image.
    #[getter]
    fn crop_px(&self) -> usize {
        self.net.size.value.crop_px
    }

    /// Where it computes.
    #[getter]
    fn device(&self) -> &str {
        &self.device.name
    }

    /// What was loaded, in words.
    #[getter]
    fn description(&self) -> &str {
        &self.net.description
    }

    /// What nobody said and Ocelli guessed, a line each.
    #[getter]
    fn notes(&self) -> Vec<String> {
        let Loaded { statistics, size, .. } = &self.net;
        let normalisation = statistics.is_guess.then(|| format!("normalisation: {statistics}"));
        normalisation.into_iter().chain(size.is_guess.then(|| format!("size: {size}"))).collect()
    }

    fn __repr__(&self) -> String {
        let Loaded { description, statistics, size, .. } = &self.net;
        let device = &self.device.name;
        format!("<ocelli.Model: {description} on {device}; normalisation: {statistics}; size: {size}>")
    }

    /// Features of images, prepared and computed as `ocelli embed` does: float32 [n, dim].
    ///
    /// `images` is uint8 [n, height, width, 3], or a list of [height, width, 3] of any sizes. `features` is "cls" (the class
    /// token; of a ResNet, the mean of its cells) or "mean-patch" (the mean of the patches). `batch` images go through the
    /// network at once.
    #[pyo3(signature = (images, *, features="cls", batch=32))]
    fn embed<'py>(
        &self,
        py: Python<'py>,
        images: &Bound<'py, PyAny>,
        features: &str,
        batch: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let known = [Pooling::Cls, Pooling::MeanPatch];
        let Some(pooling) = known.into_iter().find(|pooling| pooling.name() == features) else {
            let message = format!("features: expected cls or mean-patch, found \"{features}\"");
            return Err(PyValueError::new_err(message));
        };
        if batch == 0 {
            return Err(PyValueError::new_err("batch: expected at least 1, found 0"));
        }
        let pictures = Pictures::new(images)?;
        let transform = eval_transform(&self.net.eval_config());
        let mut values = Vec::with_capacity(pictures.len * self.dim());
        for first in (0..pictures.len).step_by(batch) {
            py.check_signals()?;
            let indices = first..pictures.len.min(first + batch);
            let images = indices.map(|index| pictures.get(index)).collect::<PyResult<Vec<_>>>()?;
            values.extend(
                py.detach(|| computing(|| self.features(&images, &transform, pooling)))?.into_iter().flatten(),
            );
        }
        array(py, &values, &[pictures.len, self.dim()])
    }

    /// What the class token attends to in the last block, of each head: float32 [heads, rows, columns].
    ///
    /// `image` is uint8 [height, width, 3]. Its long side is scaled to `size` pixels (0: as it is, at most 480) and it is cut
    /// to whole patches, as `ocelli attention` does. Needs a Vision Transformer.
    #[pyo3(signature = (image, *, size=0))]
    fn attention<'py>(
        &self,
        py: Python<'py>,
        image: &Bound<'py, PyAny>,
        size: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.net.vit().map_err(of_train)?;
        let image = picture(image, "image")?;
        let map = py.detach(|| computing(|| attention_of(self.net.vit()?, self.pixels(&image, size))))?;
        let values: Vec<f32> = (0..map.heads()).flat_map(|head| map.head(head)).copied().collect();
        array(py, &values, &[map.heads(), map.rows(), map.columns()])
    }

    /// A feature for every patch (of a ResNet, every cell): float32 [rows, columns, dim], of the image as `attention` has it.
    #[pyo3(signature = (image, *, size=0))]
    fn tokens<'py>(&self, py: Python<'py>, image: &Bound<'py, PyAny>, size: usize) -> PyResult<Bound<'py, PyAny>> {
        let image = picture(image, "image")?;
        let cells = py.detach(|| computing(|| cells_of(&self.net.encoder, self.pixels(&image, size))))?;
        let [rows, columns] = cells.grid;
        array(py, &cells.values, &[rows, columns, cells.dim])
    }
}

impl Model {
    /// A whole picture as the network takes it, `[1, 3, height, width]`.
    fn pixels(&self, image: &Image, long_px: usize) -> Tensor<4> {
        let fitted = fit_to_cells(image, long_px, self.net.stride_px);
        image_tensor(&fitted.image, &self.net.statistics.value, &self.device.device)
    }

    /// Features of the images, one block for each stretch of one size: without a crop they come in many.
    fn features(
        &self,
        images: &[Image],
        transform: &EvalTransform,
        pooling: Pooling,
    ) -> Result<Vec<Vec<f32>>, TrainError> {
        let prepared: Vec<_> = images.par_iter().map(|image| transform.apply_normalised(image)).collect();
        let smallest = self.net.config.cell_px() as u32;
        if let Some((_, width, height)) = prepared.iter().find(|(_, w, h)| w.min(h) < &smallest) {
            return Err(TrainError::Data(DataError::Config {
                what: "images".into(),
                expected: format!("at least {smallest} px each way"),
                found: format!("{width}×{height}"),
            }));
        }
        let same = |a: &(_, u32, u32), b: &(_, u32, u32)| (a.1, a.2) == (b.1, b.2);
        let stretches = prepared.chunk_by(same).map(|stretch| {
            let (_, width, height) = stretch[0];
            let shape = [stretch.len(), 3, height as usize, width as usize];
            let pixels: Vec<f32> = stretch.iter().flat_map(|(pixels, ..)| pixels).copied().collect();
            let pixels = Tensor::from_data(TensorData::new(pixels, shape), &self.device.device);
            Ok(pooled_features(&self.net.encoder, pixels, pooling)?.values)
        });
        stretches.collect()
    }
}
