//! Rows of many images, of which every process of a run computes a part.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::{BadFile, Source};
use ocelli_world::World;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::fence::fenced;

/// Images by their numbers.
pub(crate) type Images = (Arc<dyn Source>, Vec<usize>);
/// Rows `[n, dim]` of the images that can be read, their labels, and the images that cannot.
pub(crate) type Rows = (Tensor<2>, Vec<u32>, Vec<BadFile>);

/// What a process tells beside its rows.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told {
    dim: usize,
    labels: Vec<u32>,
    bad: Vec<BadFile>,
    error: Option<String>,
}

/// The rows of all images, of which each process computes those of a run of neighbours. The first gets them in the order of the
/// images, the others get none. All call it at the same time, and none waits for one whose part failed: that is told.
///
/// # Errors
/// In the first, when a part failed. In the others none: theirs are the first's to tell.
pub(crate) fn rows_in(
    world: &dyn World,
    images: &Images,
    device: &Device,
    rows: impl Fn(&Images) -> Result<Rows, TrainError>,
) -> Result<Option<Rows>, TrainError> {
    let (rank, size) = (world.rank(), world.size());
    if size == 1 {
        return rows(images).map(Some);
    }
    let (source, indices) = images;
    let part = indices[rank * indices.len() / size..(rank + 1) * indices.len() / size].to_vec();
    let own = match part.is_empty() {
        true => Ok((Told::default(), Vec::new())),
        false => fenced(|| on_host(rows(&(source.clone(), part))?)),
    };
    let (told, values) =
        own.unwrap_or_else(|e| (Told { error: Some(e.to_string()), ..Told::default() }, Vec::new()));
    let all = world.collect(&message(&told, &values)?);
    if !world.is_first() {
        return Ok(None);
    }
    let (mut found, mut all_values) = (Told::default(), Vec::new());
    for (rank, bytes) in all.iter().enumerate() {
        let (told, values) = read(bytes)?;
        if let Some(error) = told.error {
            return Err(TrainError::Device(format!("process {rank} of {size}: {error}")));
        }
        found.dim = found.dim.max(told.dim);
        found.labels.extend(told.labels);
        found.bad.extend(told.bad);
        all_values.extend(values);
    }
    let shape = [found.labels.len(), found.dim];
    Ok(Some((Tensor::from_data(TensorData::new(all_values, shape), device), found.labels, found.bad)))
}

fn on_host((rows, labels, bad): Rows) -> Result<(Told, Vec<f32>), TrainError> {
    let dim = rows.dims()[1];
    let values = rows.into_data().try_to_vec();
    let values = values.map_err(|e| TrainError::Device(format!("cannot read features back: {e:?}")))?;
    Ok((Told { dim, labels, bad, error: None }, values))
}

/// Length of the words, the words as JSON, and the values.
fn message(told: &Told, values: &[f32]) -> Result<Vec<u8>, TrainError> {
    let words = serde_json::to_vec(told).map_err(|e| garbled(&e))?;
    let length = (words.len() as u64).to_le_bytes();
    let values = values.iter().flat_map(|value| value.to_le_bytes());
    Ok(length.into_iter().chain(words).chain(values).collect())
}

fn read(bytes: &[u8]) -> Result<(Told, Vec<f32>), TrainError> {
    let cut = || garbled(&"it is cut off");
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
    let (words, values) = rest.split_at_checked(u64::from_le_bytes(*length) as usize).ok_or_else(cut)?;
    let told = serde_json::from_slice(words).map_err(|e| garbled(&e))?;
    Ok((told, values.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect()))
}

fn garbled(why: &dyn std::fmt::Display) -> TrainError {
    TrainError::Device(format!("cannot exchange features: {why}"))
}

#[cfg(test)]
mod tests {
    use ocelli_data::{SceneConfig, SceneSource};
    use ocelli_world::threads;

    use super::*;

    /// What each of so many processes gets of 7 images whose rows are their numbers; `fails` ends the part of one.
    fn found(ranks: usize, fails: Option<usize>) -> Vec<Result<Option<Rows>, String>> {
        let scenes = SceneSource::new(SceneConfig { count: 9, size_px: 16, ..SceneConfig::default() }).unwrap();
        let images: Images = (Arc::new(scenes), vec![8, 0, 1, 2, 3, 5, 7]);
        let rows = |rank: usize, (source, part): &Images| {
            if fails == Some(rank) {
                return Err(TrainError::Device("a cable fell out".into()));
            }
            let values: Vec<f32> = part.iter().flat_map(|i| [*i as f32, -(*i as f32)]).collect();
            let labels = part.iter().filter_map(|i| source.label(*i)).collect();
            let rows = Tensor::from_data(TensorData::new(values, [part.len(), 2]), &Device::flex());
            Ok((rows, labels, vec![BadFile { name: format!("{rank}.png"), reason: "cut off".into() }]))
        };
        let worlds = threads(ranks);
        std::thread::scope(|scope| {
            let rank = |world: &ocelli_world::Shared| {
                let rows = |part: &Images| rows(world.rank(), part);
                rows_in(world.as_ref(), &images, &Device::flex(), rows).map_err(|e| e.to_string())
            };
            let running: Vec<_> = worlds.iter().map(|world| scope.spawn(move || rank(world))).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn the_first_has_all_rows_in_their_order() {
        for ranks in [1, 2, 3, 9] {
            let mut all = found(ranks, None);
            let (rows, labels, bad) = all.remove(0).unwrap().unwrap();
            let values: Vec<f32> = rows.into_data().try_to_vec().unwrap();
            let expected: Vec<f32> =
                [8, 0, 1, 2, 3, 5, 7].iter().flat_map(|i| [*i as f32, -(*i as f32)]).collect();
            assert_eq!(values, expected, "{ranks}");
            assert_eq!(labels, [8, 0, 1, 2, 3, 5, 7], "{ranks}");
            // Of nine processes two have no image.
            assert_eq!(bad.len(), ranks.min(7));
            assert!(all.into_iter().all(|other| other.unwrap().is_none()), "{ranks}");
        }
    }

    #[test]
    fn a_part_that_fails_is_told_and_nobody_waits_for_it() {
        let all = found(3, Some(2));
        let message = all[0].as_ref().err().unwrap();
        assert!(message.contains("process 2 of 3") && message.contains("a cable fell out"), "{message}");
        assert!(all[1..].iter().all(|other| other.as_ref().is_ok_and(Option::is_none)));
    }
}
