//! What the tests need where there are no files.
#![allow(dead_code)]

use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::tensor::Device;

#[path = "../../support/fixture.rs"]
mod fixture;

pub use fixture::*;

thread_local! {
    /// What the page handed in.
    pub static FILES: RefCell<BTreeMap<String, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
}

pub fn device() -> Device {
    Device::flex()
}

/// The bytes of a fixture's file.
pub fn read(file: &str) -> Vec<u8> {
    FILES.with_borrow(|files| files.get(file).cloned()).unwrap_or_else(|| panic!("the page handed in no {file}"))
}

/// Names of fixtures that start with `prefix`, sorted; never empty.
pub fn fixtures(prefix: &str) -> Vec<String> {
    let names = FILES.with_borrow(|files| {
        let names = files.keys().filter_map(|f| f.strip_suffix(".json")).filter(|n| n.starts_with(prefix));
        names.map(str::to_owned).collect::<Vec<_>>()
    });
    assert!(!names.is_empty(), "the page handed in no {prefix}*");
    names
}
