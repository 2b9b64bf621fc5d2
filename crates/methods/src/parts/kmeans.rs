//! Spherical k-means on the device (Caron et al. 2020, <https://arxiv.org/abs/2006.09882>, on DeepCluster-v2).

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::infonce::unit;

/// Similarities that are held at once: 64 MiB of them, and as much for the memberships.
const AT_ONCE: usize = 1 << 24;

/// What k-means found.
pub struct Clusters {
    /// Unit vectors, `[K, dim]`.
    pub centroids: Tensor<2>,
    /// The cluster of every point, `[points]`.
    pub assigned: Tensor<1, Int>,
}

/// Spherical k-means from `centroids` `[K, dim]`: `iterations` rounds of assigning every point to the centroid of the largest
/// dot product and moving each centroid to the mean of its points, scaled to length 1; then one assignment more. A centroid
/// without points stays. `parts` are the points, `[rows, dim]` each, one part after another.
///
/// Everything stays on the device, and no more than a block of points meets all centroids at once.
///
/// # Panics
/// When there are no points.
pub fn kmeans(parts: &[Tensor<2>], centroids: Tensor<2>, iterations: usize) -> Clusters {
    let k = centroids.dims()[0];
    let (blocks, mut centroids) = (blocks(parts, k), centroids);
    for _ in 0..iterations {
        let (mut sums, mut sizes) = (centroids.zeros_like(), Tensor::zeros([1, k], &centroids.device()));
        for block in &blocks {
            let points = joined(block);
            let member = member(&nearest(points.clone(), centroids.clone()), k);
            sums = sums + member.clone().transpose().matmul(points);
            sizes = sizes + member.sum_dim(0);
        }
        let sizes = sizes.transpose();
        let empty = sizes.clone().equal_elem(0.0).expand(sums.dims());
        let means = sums / sizes.clamp_min(1.0);
        centroids = unit(means.mask_where(empty, centroids));
    }
    let assigned = blocks.iter().map(|block| nearest(joined(block), centroids.clone())).collect();
    Clusters { assigned: Tensor::cat(assigned, 0), centroids }
}

/// How many there are of each of `0..k` among `assigned`, which may have others: `[points]` to `[k]`.
pub fn sizes(assigned: &Tensor<1, Int>, k: usize) -> Tensor<1> {
    let (len, block) = (assigned.dims()[0], (AT_ONCE / k.max(1)).max(1));
    let mut sizes = Tensor::zeros([1, k], &assigned.device());
    for at in (0..len).step_by(block) {
        sizes = sizes + member(&assigned.clone().narrow(0, at, block.min(len - at)), k).sum_dim(0);
    }
    sizes.reshape([k])
}

/// Parts put together to blocks that are worth a matrix product and not too large for one.
fn blocks(parts: &[Tensor<2>], k: usize) -> Vec<&[Tensor<2>]> {
    let most = (AT_ONCE / k.max(1)).max(1);
    let (mut blocks, mut from, mut rows) = (Vec::new(), 0, 0);
    for (i, part) in parts.iter().enumerate() {
        let more = part.dims()[0];
        if i > from && rows + more > most {
            blocks.push(&parts[from..i]);
            (from, rows) = (i, 0);
        }
        rows += more;
    }
    blocks.push(&parts[from..]);
    blocks
}

fn joined(block: &[Tensor<2>]) -> Tensor<2> {
    match block {
        [only] => only.clone(),
        several => Tensor::cat(several.to_vec(), 0),
    }
}

/// The points of these numbers, in this order, `[numbers, dim]`: what [`kmeans`] may start from.
///
/// # Panics
/// When a number is beyond the last point.
pub fn points_of(parts: &[Tensor<2>], numbers: &[usize]) -> Tensor<2> {
    let mut sorted: Vec<(usize, usize)> = numbers.iter().enumerate().map(|(k, row)| (*row, k)).collect();
    sorted.sort_unstable();
    let (mut found, mut from, mut first) = (Vec::new(), 0, 0);
    for part in parts {
        let rows = part.dims()[0];
        let here = sorted[from..].iter().take_while(|(row, _)| *row < first + rows).count();
        if here > 0 {
            let own: Vec<usize> = sorted[from..from + here].iter().map(|(row, _)| row - first).collect();
            found.push(part.clone().select(0, integers(&own, &part.device())));
        }
        (from, first) = (from + here, first + rows);
    }
    assert!(from == numbers.len(), "a number beyond the {first} points");
    let found = Tensor::cat(found, 0);
    let mut place = vec![0; numbers.len()];
    sorted.iter().enumerate().for_each(|(at, (_, k))| place[*k] = at);
    let device = found.device();
    found.select(0, integers(&place, &device))
}

/// The centroid of the largest dot product for every point, `[points]`.
fn nearest(points: Tensor<2>, centroids: Tensor<2>) -> Tensor<1, Int> {
    points.matmul(centroids.transpose()).argmax(1).squeeze_dim(1)
}

/// 1 where a point belongs to a cluster, else 0: `[points, k]`.
fn member(assigned: &Tensor<1, Int>, k: usize) -> Tensor<2> {
    let all = integers(&(0..k).collect::<Vec<_>>(), &assigned.device()).unsqueeze_dim::<2>(0);
    let points = assigned.dims()[0];
    let own = assigned.clone().unsqueeze_dim::<2>(1);
    own.expand([points, k]).equal(all.expand([points, k])).float()
}

/// Numbers of the host on the device.
pub(crate) fn integers(values: &[usize], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.iter().map(|v| *v as i32).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[[f32; 2]]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.concat(), [values.len(), 2]), &Device::flex())
    }

    fn assigned(clusters: &Clusters) -> Vec<i64> {
        clusters.assigned.clone().into_data().iter::<i64>().collect()
    }

    #[test]
    fn clusters_are_found_whatever_the_parts_and_an_empty_one_stays() {
        let all = [[1.0, 0.1], [1.0, -0.1], [0.1, 1.0], [-0.1, 1.0], [-1.0, 0.0], [0.0, 1.0]];
        let first = points_of(&[points(&all)], &[0, 3]);
        let start = Tensor::cat(vec![first, points(&[[0.0, -1.0]])], 0);
        let whole = kmeans(&[points(&all)], start.clone(), 5);
        assert_eq!(assigned(&whole), [0, 0, 1, 1, 1, 1]);
        let centroids: Vec<f32> = whole.centroids.clone().into_data().try_to_vec().unwrap();
        assert!((centroids[0] - 1.0).abs() < 1e-5 && centroids[1].abs() < 1e-5, "{centroids:?}");
        assert_eq!(centroids[4..], [0.0, -1.0], "without points it stays");
        let parts = kmeans(&[points(&all[..1]), points(&all[1..4]), points(&all[4..])], start, 5);
        assert_eq!(assigned(&parts), assigned(&whole));
        let counted: Vec<f32> = sizes(&whole.assigned, 3).into_data().try_to_vec().unwrap();
        assert_eq!(counted, [2.0, 4.0, 0.0]);
    }

    #[test]
    fn starts_are_taken_in_their_order() {
        let all = [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]];
        let found = points_of(&[points(&all[..3]), points(&all[3..])], &[3, 0, 2]);
        let found: Vec<f32> = found.into_data().try_to_vec().unwrap();
        assert_eq!(found, [4.0, 0.0, 1.0, 0.0, 3.0, 0.0]);
    }

    #[test]
    fn blocks_hold_what_is_allowed_and_everything_once() {
        let part = |rows: usize| Tensor::<2>::zeros([rows, 1], &Device::flex());
        let parts: Vec<Tensor<2>> = [5, 5, 9, 1, 30].map(part).to_vec();
        let rows = |k| blocks(&parts, k).iter().map(|b| joined(b).dims()[0]).collect::<Vec<_>>();
        assert_eq!(rows(AT_ONCE / 10), [10, 10, 30]);
        assert_eq!(rows(1), [50]);
    }
}
