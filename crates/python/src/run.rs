//! What a run wrote, for programs.

use std::path::PathBuf;

use ocelli::report::{self, Rows};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use toml::{Table, Value};

use crate::arrays::array;
use crate::error::of_run;
use crate::model::{Model, load};

/// A run's folder, as it was when this was made: its configuration and its figures.
#[pyclass(frozen, module = "ocelli")]
pub struct Run {
    run: report::Run,
}

#[pymethods]
impl Run {
    /// Reads the folder. Damaged files are read as far as they go.
    // As Python hands it over.
    #[new]
    #[allow(clippy::needless_pass_by_value)]
    fn new(path: PathBuf) -> PyResult<Self> {
        let run = report::Run::read(&path).map_err(|error| of_run(&path, &error))?;
        Ok(Self { run })
    }

    /// The folder.
    #[getter]
    fn path(&self) -> PathBuf {
        self.run.dir.clone()
    }

    /// The configuration, with a dict for each section; empty where it cannot be read.
    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        table(py, self.run.config.as_ref().unwrap_or(&Table::new()))
    }

    /// Figures over the steps, averaged over as many steps as the run logs at once: arrays of one length by name, among them
    /// "step", "epoch" and "unix_s"; NaN where a row lacks a figure.
    #[getter]
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        rows(py, &self.run.history.steps)
    }

    /// The same over the epochs, among them "knn_20" where the run was evaluated so. "step" is the epoch's last.
    #[getter]
    fn epochs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        rows(py, &self.run.history.epochs)
    }

    /// The network of its newest checkpoint.
    #[pyo3(signature = (device="auto"))]
    fn model(&self, py: Python<'_>, device: &str) -> PyResult<Model> {
        load(py, self.run.dir.clone(), None, device, None, None, None, None)
    }

    fn __repr__(&self) -> String {
        let run = &self.run;
        let (method, arch, done) = (run.method(), run.arch(), run.history.epochs_done());
        format!("<ocelli.Run: {} {method} {arch}, {done:.0} epochs done>", run.dir.display())
    }
}

fn rows<'py>(py: Python<'py>, rows: &Rows) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let len = [rows.len()];
    for (name, values) in rows.columns() {
        dict.set_item(name, array(py, values, &len)?)?;
    }
    dict.set_item("step", array(py, &rows.steps, &len)?)?;
    dict.set_item("epoch", array(py, &rows.epochs, &len)?)?;
    dict.set_item("unix_s", array(py, &rows.unix_s, &len)?)?;
    Ok(dict)
}

fn table<'py>(py: Python<'py>, table_: &Table) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, of_key) in table_ {
        dict.set_item(key, value(py, of_key)?)?;
    }
    Ok(dict)
}

fn value<'py>(py: Python<'py>, of: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match of {
        Value::String(text) => text.into_pyobject(py)?.into_any(),
        Value::Integer(number) => number.into_pyobject(py)?.into_any(),
        Value::Float(number) => number.into_pyobject(py)?.into_any(),
        Value::Boolean(flag) => flag.into_pyobject(py)?.to_owned().into_any(),
        Value::Datetime(time) => time.to_string().into_pyobject(py)?.into_any(),
        Value::Array(values) => {
            let items = values.iter().map(|item| value(py, item)).collect::<PyResult<Vec<_>>>()?;
            PyList::new(py, items)?.into_any()
        }
        Value::Table(inner) => table(py, inner)?.into_any(),
    })
}
