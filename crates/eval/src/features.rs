//! Feature tables: one row (or one block of patch rows) per image, as bytes of a common format.
//!
//! A table lies in memory as a whole, and so do the bytes made from it: 100,000 images with 384 features are 154 MB.
//!
//! ```
//! use ocelli_eval::features::{FeatureTable, Pooling, TableFormat, encode};
//!
//! let mut table = FeatureTable::new(Pooling::Cls, 1, 2)?;
//! table.extend(&["a.jpg".to_owned(), "b.jpg".to_owned()], &[0.5, 1.0, -2.0, 0.25])?;
//! assert_eq!(table.shape(), [2, 2]);
//! assert_eq!(encode(TableFormat::Csv, &table)?, b"name,f0,f1\na.jpg,0.5,1\nb.jpg,-2,0.25\n");
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::EvalError;

mod encode;

pub use encode::{TableFormat, encode, names_txt};

/// Which tokens of a vision transformer make up an image's features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The class token.
    #[default]
    Cls,
    /// The mean of the patch tokens.
    MeanPatch,
    /// Every patch token.
    Patches,
}

impl Pooling {
    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::MeanPatch => "mean-patch",
            Self::Patches => "patches",
        }
    }

    /// Pools tokens `[batch, 1 + patches, dim]`, class token first, to `[batch, 1, dim]` or `[batch, patches, dim]`.
    ///
    /// # Errors
    /// [`EvalError::Shape`] if there is no patch token.
    pub fn apply(self, tokens: Tensor<3>) -> Result<Tensor<3>, EvalError> {
        let [_, count, _] = tokens.dims();
        if count < 2 {
            return Err(EvalError::shape("tokens", "the class token and at least one patch", count));
        }
        Ok(match self {
            Self::Cls => tokens.narrow(1, 0, 1),
            Self::MeanPatch => tokens.narrow(1, 1, count - 1).mean_dim(1),
            Self::Patches => tokens.narrow(1, 1, count - 1),
        })
    }
}

/// Features of named images: `[images, dim]`, or `[images, patches, dim]` with [`Pooling::Patches`].
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureTable {
    pooling: Pooling,
    names: Vec<String>,
    patches: usize,
    dim: usize,
    values: Vec<f32>,
}

impl FeatureTable {
    /// An empty table. `patches` counts only with [`Pooling::Patches`]; the other poolings have one row per image.
    ///
    /// # Errors
    /// [`EvalError::Empty`] if `dim` or, with [`Pooling::Patches`], `patches` is 0.
    pub fn new(pooling: Pooling, patches: usize, dim: usize) -> Result<Self, EvalError> {
        let patches = if pooling == Pooling::Patches { patches } else { 1 };
        if patches == 0 || dim == 0 {
            return Err(EvalError::Empty { what: "a feature row" });
        }
        Ok(Self { pooling, names: Vec::new(), patches, dim, values: Vec::new() })
    }

    /// Appends images: their names and their features, `[names, patches, dim]` row-major.
    ///
    /// # Errors
    /// [`EvalError::Shape`] if the number of values does not fit.
    pub fn extend(&mut self, names: &[String], values: &[f32]) -> Result<(), EvalError> {
        if values.len() != names.len() * self.patches * self.dim {
            let expected = format!("{} images × {} × {}", names.len(), self.patches, self.dim);
            return Err(EvalError::shape("features", expected, values.len()));
        }
        self.names.extend_from_slice(names);
        self.values.extend_from_slice(values);
        Ok(())
    }

    /// How the features were pooled.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Names of the images, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// `[images, dim]`, or `[images, patches, dim]` with [`Pooling::Patches`].
    pub fn shape(&self) -> Vec<usize> {
        match self.pooling {
            Pooling::Patches => vec![self.names.len(), self.patches, self.dim],
            Pooling::Cls | Pooling::MeanPatch => vec![self.names.len(), self.dim],
        }
    }

    /// Rows per image: 1 unless [`Pooling::Patches`].
    pub fn rows_per_image(&self) -> usize {
        self.patches
    }

    /// Length of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn pooling_picks_its_tokens() {
        let tokens = || {
            let values: Vec<f32> = (0..12).map(|v| v as f32).collect();
            Tensor::<3>::from_data(TensorData::new(values, [2, 3, 2]), &Device::flex())
        };
        let pooled = |pooling: Pooling| {
            let pooled = pooling.apply(tokens()).unwrap();
            (pooled.dims(), pooled.into_data().try_into_vec_as::<f32>().unwrap())
        };
        assert_eq!(pooled(Pooling::Cls), ([2, 1, 2], vec![0.0, 1.0, 6.0, 7.0]));
        assert_eq!(pooled(Pooling::MeanPatch), ([2, 1, 2], vec![3.0, 4.0, 9.0, 10.0]));
        assert_eq!(pooled(Pooling::Patches), ([2, 2, 2], vec![2.0, 3.0, 4.0, 5.0, 8.0, 9.0, 10.0, 11.0]));
        assert!(Pooling::Cls.apply(tokens().narrow(1, 0, 1)).is_err());
    }

    #[test]
    fn sizes_are_checked() {
        let mut table = FeatureTable::new(Pooling::Cls, 49, 3).unwrap();
        table.extend(&["a".into(), "b".into()], &[0.0; 6]).unwrap();
        assert_eq!(table.shape(), [2, 3]);
        assert!(table.extend(&["c".into()], &[0.0; 6]).is_err());
        assert!(FeatureTable::new(Pooling::Patches, 0, 3).is_err());
        assert!(FeatureTable::new(Pooling::Cls, 0, 0).is_err());
    }
}
