//! The vocabulary that bags of words are made with, renewed while one trains (Gidaris et al. 2021,
//! <https://arxiv.org/abs/2012.11552>).

use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use ocelli_kernels::together;
use ocelli_models::Init;
use ocelli_models::weights::{HostTensor, StateDict};

use crate::method::MethodError;
use crate::parts::bow::{Bags, bags_of_words};

/// μ before the first step.
const FIRST_MEAN: f64 = 0.5;

/// Words, the oldest replaced first, and the scale of the distances to them. Starts full of random words.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// `[len, dim]`.
    words: Tensor<2>,
    pointer: usize,
    /// μ: moving average of the mean squared distance of a cell to its nearest word, `[1]`.
    mean: Tensor<1>,
    momentum: f64,
    /// New words of a step's micro-batches, written together when the step is done.
    pending: Vec<Tensor<2>>,
    /// μ as each micro-batch of the step has it.
    means: Vec<Tensor<1>>,
}

impl Vocabulary {
    /// Words max(0, N(0, 1)) drawn from `seed`, as features after a ReLU are; `momentum` is that of μ.
    pub fn new([len, dim]: [usize; 2], momentum: f64, seed: u64, device: &Device) -> Self {
        // Drawn with a small deviation, which leaves the tails of the distribution.
        const DEVIATION: f64 = 0.02;
        let drawn = Init::new(seed, device).trunc_normal([len, dim], DEVIATION).val();
        Self {
            words: relu(drawn / DEVIATION),
            pointer: 0,
            mean: Tensor::full([1], FIRST_MEAN, device),
            momentum,
            pending: Vec::new(),
            means: Vec::new(),
        }
    }

    /// `[len, dim]`.
    pub fn words(&self) -> Tensor<2> {
        self.words.clone()
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.words.dims()[0]
    }

    /// Whether it has no words.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row the next word goes to.
    pub fn pointer(&self) -> usize {
        self.pointer
    }

    /// μ, `[1]`.
    pub fn mean(&self) -> Tensor<1> {
        self.mean.clone()
    }

    /// Numbers it holds.
    pub fn values(&self) -> usize {
        self.words.dims().iter().product::<usize>() + 1
    }

    /// Bags of maps `[images, dim, rows, cols]` without border, by the words as they were before the step. μ takes up the
    /// distances of these maps before it is used; of several micro-batches each sees its own, and the mean of them is kept.
    pub fn bags(&mut self, maps: Tensor<4>, inv_delta: f64) -> Bags {
        let (before, momentum) = (self.mean.clone(), self.momentum);
        let mut moved = None;
        let bags = bags_of_words(maps, &self.words, inv_delta, |nearest| {
            let mean = before * momentum + together::mean(nearest) * (1.0 - momentum);
            moved = Some(mean.clone());
            mean
        });
        self.means.extend(moved);
        bags
    }

    /// Keeps the new words `[n, dim]` of a micro-batch until [`Vocabulary::turn`].
    pub fn hold(&mut self, words: Tensor<2>) {
        self.pending.push(words);
    }

    /// Ends a step: the oldest words give way to what was held, and μ is what the step made of it.
    pub fn turn(&mut self) {
        let words = std::mem::take(&mut self.pending);
        if !words.is_empty() {
            self.enqueue(Tensor::cat(words, 0));
        }
        let means = std::mem::take(&mut self.means);
        if !means.is_empty() {
            self.mean = Tensor::cat(means, 0).mean();
        }
    }

    /// Writes words `[n, dim]` over the oldest ones, and goes on from the first row past the last. Of more than there are rows
    /// the last are kept.
    fn enqueue(&mut self, words: Tensor<2>) {
        let ([n, dim], len) = (words.dims(), self.len());
        let kept = n.min(len);
        if kept == 0 {
            return;
        }
        let words = words.narrow(0, n - kept, kept);
        let (at, head) = (self.pointer, kept.min(len - self.pointer));
        let own = self.words.clone().slice_assign([at..at + head, 0..dim], words.clone().narrow(0, 0, head));
        self.words = match kept - head {
            0 => own,
            rest => own.slice_assign([0..rest, 0..dim], words.narrow(0, head, rest)),
        };
        self.pointer = (at + kept) % len;
    }

    /// Adds it as `NAME`, `NAME_ptr` and `NAME_distance_mean`.
    pub(crate) fn add_to(&self, name: &str, state: &mut StateDict) -> Result<(), MethodError> {
        let unreadable = || MethodError::Unreadable(name.to_owned());
        let words = self.words.clone().into_data().try_to_vec().map_err(|_| unreadable())?;
        let mean = self.mean.clone().into_data().try_to_vec().map_err(|_| unreadable())?;
        let mut add = |end: &str, shape: Vec<usize>, values: Vec<f32>| {
            state.tensors.push((format!("{name}{end}"), HostTensor { shape, values }));
        };
        add("", self.words.dims().to_vec(), words);
        add("_ptr", vec![1], vec![self.pointer as f32]);
        add("_distance_mean", vec![1], mean);
        Ok(())
    }

    /// Restores what [`Vocabulary::add_to`] wrote.
    pub(crate) fn restored(&self, name: &'static str, state: &StateDict) -> Result<Self, MethodError> {
        let stored = state.get(name).ok_or(MethodError::Missing(name))?;
        let [len, dim] = self.words.dims();
        let value = |expected: &str, found: String| {
            Err(MethodError::Value { key: name, expected: expected.to_owned(), found })
        };
        if stored.shape != [len, dim] {
            let found = format!("[{len}, {dim}] here, {:?} there", stored.shape);
            return value("the checkpoint's size, [words, dim]", found);
        }
        let number = |end: &str| state.get(&format!("{name}{end}")).and_then(|t| t.values.first().copied());
        let pointer = number("_ptr").ok_or(MethodError::Missing("pointer of the vocabulary"))?;
        let mean = number("_distance_mean").ok_or(MethodError::Missing("mean distance to the vocabulary"))?;
        if !(pointer >= 0.0 && (pointer as usize) < len) {
            return value("a pointer within the vocabulary", format!("pointer {pointer}, {len} words"));
        }
        let device = self.words.device();
        Ok(Self {
            words: Tensor::from_data(TensorData::new(stored.values.clone(), [len, dim]), &device),
            pointer: pointer as usize,
            mean: Tensor::from_data(TensorData::new(vec![mean], [1]), &device),
            momentum: self.momentum,
            pending: Vec::new(),
            means: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(from: usize, n: usize) -> Tensor<2> {
        let values: Vec<f32> = (from..from + n).flat_map(|k| [k as f32, -(k as f32)]).collect();
        Tensor::from_data(TensorData::new(values, [n, 2]), &Device::flex())
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    fn firsts(vocabulary: &Vocabulary) -> Vec<f32> {
        values(vocabulary.words()).chunks(2).map(|w| w[0]).collect()
    }

    fn after(vocabulary: &mut Vocabulary, new: &[Tensor<2>]) -> (Vec<f32>, usize) {
        new.iter().for_each(|w| vocabulary.hold(w.clone()));
        vocabulary.turn();
        (firsts(vocabulary), vocabulary.pointer())
    }

    #[test]
    fn it_begins_with_rectified_normal_words() {
        let drawn = values(Vocabulary::new([400, 50], 0.99, 3, &Device::flex()).words());
        let zero = drawn.iter().filter(|v| **v == 0.0).count() as f64 / drawn.len() as f64;
        let square = drawn.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / drawn.len() as f64;
        assert!((zero - 0.5).abs() < 0.02 && (square - 0.5).abs() < 0.03, "{zero} {square}");
        assert!(drawn.iter().any(|v| *v > 3.0), "the tails are there");
    }

    #[test]
    fn the_oldest_words_go_first_and_micro_batches_are_written_together() {
        let mut v = Vocabulary::new([4, 2], 0.99, 0, &Device::flex());
        v.hold(words(1, 2));
        assert_eq!(v.pointer(), 0, "not before the step is done");
        assert_eq!(after(&mut v, &[words(3, 1)]).1, 3);
        assert_eq!(after(&mut v, &[words(4, 2)]), (vec![5.0, 2.0, 3.0, 4.0], 1));
        assert_eq!(after(&mut v, &[words(6, 1), words(7, 5)]).0.len(), 4);
        let mut all = firsts(&v);
        all.sort_by(f32::total_cmp);
        assert_eq!(all, [8.0, 9.0, 10.0, 11.0], "the last of more than there is room for");
    }

    #[test]
    fn its_mean_distance_moves_once_a_step() {
        let mut v = Vocabulary::new([1, 2], 0.75, 0, &Device::flex());
        after(&mut v, &[words(0, 1)]);
        // Maps of one value at distances 1 and 2 of the only word, 0.
        let map = |value: f32| Tensor::<4>::full([2, 2, 1, 1], value, &Device::flex());
        v.bags(map(1.0), 15.0);
        assert_eq!(values(v.mean()), [0.5], "not before the step is done");
        v.bags(map(2.0), 15.0);
        v.turn();
        let expected = (0.75 * 0.5 + 0.25 * 2.0 + 0.75 * 0.5 + 0.25 * 8.0) / 2.0;
        assert!((values(v.mean())[0] - expected).abs() < 1e-6);
        v.turn();
        assert!((values(v.mean())[0] - expected).abs() < 1e-6);
    }

    #[test]
    fn it_goes_on_from_its_state_and_refuses_another() {
        let device = Device::flex();
        let mut v = Vocabulary::new([4, 2], 0.99, 0, &device);
        after(&mut v, &[words(1, 3)]);
        v.bags(Tensor::full([1, 2, 3, 3], 0.3, &device), 15.0);
        v.turn();
        let mut state = StateDict::default();
        v.add_to("words0", &mut state).unwrap();
        let mut again = Vocabulary::new([4, 2], 0.99, 7, &device).restored("words0", &state).unwrap();
        assert_eq!(values(again.mean()), values(v.mean()));
        assert_eq!(after(&mut again, &[words(8, 2)]), after(&mut v, &[words(8, 2)]));
        let message =
            Vocabulary::new([6, 2], 0.99, 7, &device).restored("words0", &state).unwrap_err().to_string();
        assert!(message.contains("[6, 2] here, [4, 2] there"), "{message}");
        state.tensors.iter_mut().find(|(n, _)| n == "words0_ptr").unwrap().1.values[0] = 4.0;
        assert!(again.restored("words0", &state).unwrap_err().to_string().contains("pointer 4"));
        state.tensors.retain(|(n, _)| n != "words0_distance_mean");
        assert!(again.restored("words0", &state).is_err());
    }
}
