//! Pictures out of numpy, and numbers back.
//!
//! Through Python's own calls, and not numpy's C interface: one copy more of a picture, which is nothing beside the network,
//! and any version of numpy will do.

use ocelli::data::Image;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

/// Numbers that go to numpy.
pub trait Element: bytemuck::Pod {
    /// numpy's name of the type.
    const DTYPE: &'static str;
}

impl Element for f32 {
    const DTYPE: &'static str = "float32";
}

impl Element for f64 {
    const DTYPE: &'static str = "float64";
}

impl Element for u64 {
    const DTYPE: &'static str = "uint64";
}

/// Pictures that somebody gave: an array `[n, height, width, 3]`, or a sequence of `[height, width, 3]`.
pub struct Pictures<'py> {
    items: Bound<'py, PyAny>,
    /// How many.
    pub len: usize,
}

impl<'py> Pictures<'py> {
    /// Looks at what is there; a picture is read when it is asked for.
    pub fn new(items: &Bound<'py, PyAny>) -> PyResult<Self> {
        const EXPECTED: &str =
            "images: expected a uint8 array [n, height, width, 3] or a list of [height, width, 3]";
        if items.hasattr("ndim")? && items.getattr("ndim")?.extract::<usize>()? != 4 {
            return Err(PyValueError::new_err(format!("{EXPECTED}, found {}", described(items)?)));
        }
        let len = items.len().map_err(|_| {
            let found = items.get_type().name().map(|name| name.to_string()).unwrap_or_default();
            PyValueError::new_err(format!("{EXPECTED}, found {found}"))
        })?;
        Ok(Self { items: items.clone(), len })
    }

    /// One of them.
    pub fn get(&self, index: usize) -> PyResult<Image> {
        picture(&self.items.get_item(index)?, &format!("images[{index}]"))
    }
}

/// A picture `[height, width, 3]` of bytes, which is called `what` where it is none.
pub fn picture(item: &Bound<'_, PyAny>, what: &str) -> PyResult<Image> {
    let numpy = item.py().import("numpy")?;
    let array = numpy.call_method1("asarray", (item,))?;
    let wrong = || -> PyResult<PyErr> {
        let found = described(&array)?;
        Ok(PyValueError::new_err(format!("{what}: expected uint8 [height, width, 3], found {found}")))
    };
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    let is_bytes = array.getattr("dtype")?.getattr("name")?.extract::<String>()? == "uint8";
    let (true, &[height, width, 3]) = (is_bytes, shape.as_slice()) else { return Err(wrong()?) };
    let (Ok(height), Ok(width)) = (u32::try_from(height), u32::try_from(width)) else { return Err(wrong()?) };
    let bytes = array.call_method0("tobytes")?;
    let data = bytes.cast::<PyBytes>()?.as_bytes().to_vec();
    Image::new(width, height, data).map_err(|e| PyValueError::new_err(format!("{what}: {e}")))
}

/// Type and shape of an array, such as `float64 [2, 8, 8, 3]`.
fn described(array: &Bound<'_, PyAny>) -> PyResult<String> {
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    Ok(format!("{} {shape:?}", array.getattr("dtype")?.str()?))
}

/// An array of these numbers, row-major, that Python owns.
pub fn array<'py, T: Element>(py: Python<'py>, values: &[T], shape: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    let numpy = py.import("numpy")?;
    if values.is_empty() {
        return numpy.call_method1("zeros", (shape.to_vec(), T::DTYPE));
    }
    let bytes = PyByteArray::new(py, bytemuck::cast_slice(values));
    numpy.call_method1("frombuffer", (bytes, T::DTYPE))?.call_method1("reshape", (shape.to_vec(),))
}
