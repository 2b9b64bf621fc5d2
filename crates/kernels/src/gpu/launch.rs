//! Launching an expanded template on tensors.

use std::sync::{Arc, OnceLock};

use burn::backend::wgpu::{CubeDim, CubeTensor, KernelSource, SourceKernel, SourceTemplate, into_contiguous};
use burn::cubecl::prelude::KernelId;
use burn::cubecl::server::KernelArguments;
use burn::cubecl::{CubeCount, ExecutionMode};
use burn::tensor::{DType, Shape};

use super::caps::software;
use super::sizes;
use super::template::{Setting, expand};

/// A template with its settings, as burn runs it.
#[derive(Debug)]
struct Expanded {
    text: Arc<str>,
}

impl KernelSource for Expanded {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(self.text.as_ref())
    }

    /// Compiled kernels are kept by this, never by their text: so it is the text. Unchecked, or every loop gets a counter.
    fn id(&self) -> KernelId {
        KernelId::new::<Self>().mode(ExecutionMode::Unchecked).info(self.text.clone())
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// Is told of every launch: the template, its settings, and the workgroups (how many, and how many layers of that many).
pub type Watcher = fn(&'static str, &[(&'static str, Setting)], (usize, usize));

static WATCHER: OnceLock<Watcher> = OnceLock::new();

/// Has `watcher` told of every launch of this process from now on. Only the first watcher stays.
pub fn watch_launches(watcher: Watcher) {
    // Whoever comes second asked for what is there already, or has to do without.
    let _ = WATCHER.set(watcher);
}

/// One dispatch. Buffers are bound in order, the sizes after them.
pub(crate) struct Launch<'a> {
    pub shader: &'static str,
    pub settings: &'a [(&'static str, Setting)],
    /// Invocations of a workgroup.
    pub group: usize,
    /// Workgroups: how many, and how many layers of that many.
    pub groups: (usize, usize),
    pub buffers: &'a [&'a CubeTensor],
    pub sizes: &'a [u32],
}

/// Workgroups along one dimension at most (WebGPU's default limit).
const MAX_GROUPS: usize = 65_535;

impl Launch<'_> {
    pub fn run(&self) {
        let client = &self.buffers[0].client;
        let (groups, layers) = self.groups;
        if groups * layers == 0 {
            return;
        }
        if let Some(watcher) = WATCHER.get() {
            watcher(self.shader, self.settings, self.groups);
        }
        // A row of workgroups is as long as it may be; the kernels put x and y together again.
        let rows = groups.div_ceil(MAX_GROUPS);
        let count = CubeCount::Static(groups.div_ceil(rows) as u32, rows as u32, layers as u32);
        let mut bindings: Vec<_> = self.buffers.iter().map(|t| t.handle.clone().binding()).collect();
        bindings.push(sizes::buffer(self.buffers[0], self.sizes).binding());
        let kernel = Expanded { text: expand(self.shader, self.settings) };
        client.launch(
            Box::new(SourceKernel::new(kernel, CubeDim::new_1d(self.group as u32))),
            count,
            KernelArguments::new().with_buffers(bindings),
        );
    }
}

/// A tensor for a result, with whatever the memory holds.
pub(crate) fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    let bytes = shape.iter().product::<usize>() * size_of::<f32>();
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        Shape::from(shape),
        like.client.empty(bytes),
        DType::F32,
    )
}

/// Words on the device, of which there is at least one.
pub(crate) fn uploaded(like: &CubeTensor, words: &[u32]) -> CubeTensor {
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        Shape::from([words.len()]),
        like.client.create_from_slice(bytemuck::cast_slice(words)),
        DType::U32,
    )
}

/// Row-major and without gaps.
pub(crate) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// Contiguous and nobody else's, to be written to: the tensor itself, or a copy where somebody else holds it too.
pub(crate) fn owned(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// The same numbers of a contiguous tensor under another shape.
pub(crate) fn reshaped<const D: usize>(tensor: CubeTensor, shape: [usize; D]) -> CubeTensor {
    CubeTensor::new_contiguous(tensor.client, tensor.device, Shape::from(shape), tensor.handle, tensor.dtype)
}

/// A dimension.
pub(crate) fn size(tensor: &CubeTensor, dim: usize) -> usize {
    tensor.meta.shape()[dim]
}

/// All numbers.
pub(crate) fn count(tensor: &CubeTensor) -> usize {
    tensor.meta.shape().num_elements()
}

/// Sums of the columns of `x`, read as `[rows, columns]`: `[columns]`.
pub(crate) fn sum_rows(x: &CubeTensor, rows: usize, columns: usize) -> CubeTensor {
    let vec = columns.is_multiple_of(4);
    let width = if vec { columns / 4 } else { columns };
    let group = if software() { 8 } else { 64 };
    let settings = [("vec", vec.into()), ("group", group.into())];
    let pass = |x: &CubeTensor, rows: usize, span: usize, y: &CubeTensor| {
        Launch {
            shader: "sum_rows",
            settings: &settings,
            group,
            groups: ((rows.div_ceil(span) * width).div_ceil(group), 1),
            buffers: &[x, y],
            sizes: &[rows as u32, width as u32, span as u32, 0],
        }
        .run();
    };
    let y = empty(x, [columns]);
    // Enough spans to occupy the device, few enough that adding them up is nothing.
    let span = rows.div_ceil((4096 / width.max(1)).clamp(1, 64)).max(16);
    let spans = rows.div_ceil(span);
    if spans <= 1 {
        pass(x, rows, rows.max(1), &y);
        return y;
    }
    let partial = empty(x, [spans, columns]);
    pass(x, rows, span, &partial);
    pass(&partial, spans, spans, &y);
    y
}
