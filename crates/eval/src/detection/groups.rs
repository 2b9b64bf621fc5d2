//! Detections or objects by class and image, without a table as large as the largest number of an image.

use std::ops::Range;

/// Numbers of items, sorted by class and image; those of one class and image keep their order.
pub(super) struct Groups {
    keys: Vec<(usize, usize)>,
    order: Vec<usize>,
}

impl Groups {
    /// Of items with a class and an image each.
    pub fn of<T>(items: &[T], key: impl Fn(&T) -> (usize, usize)) -> Self {
        let keys: Vec<(usize, usize)> = items.iter().map(key).collect();
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|i| keys[*i]);
        Self { keys: order.iter().map(|i| keys[*i]).collect(), order }
    }

    /// The items of a class in an image.
    pub fn get(&self, class: usize, image: usize) -> &[usize] {
        let key = (class, image);
        &self.order[self.keys.partition_point(|k| *k < key)..self.keys.partition_point(|k| *k <= key)]
    }

    /// The items of a class, image by image.
    pub fn images(&self, class: usize) -> impl Iterator<Item = (usize, &[usize])> {
        let whole = self.class(class);
        let mut at = whole.start;
        std::iter::from_fn(move || {
            let image = self.keys.get(at).filter(|_| at < whole.end)?.1;
            let end = at + self.keys[at..whole.end].partition_point(|k| k.1 <= image);
            let items = &self.order[at..end];
            at = end;
            Some((image, items))
        })
    }

    /// All items of a class.
    pub fn of_class(&self, class: usize) -> &[usize] {
        &self.order[self.class(class)]
    }

    fn class(&self, class: usize) -> Range<usize> {
        self.keys.partition_point(|k| k.0 < class)..self.keys.partition_point(|k| k.0 <= class)
    }
}
