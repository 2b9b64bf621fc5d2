//! Fixtures, devices and comparisons shared by the parity tests.
#![allow(dead_code)]

pub mod tiny;

use std::fs;
use std::path::PathBuf;

use burn::tensor::Device;
use ocelli::train::device::{DeviceChoice, open};

mod fixture;

#[allow(unused_imports)] // Not every binary compares with a fixture.
pub use fixture::*;

/// Folder of the fixtures: `OCELLI_GOLDEN`, else the project's copy.
pub fn golden_folder() -> PathBuf {
    std::env::var_os("OCELLI_GOLDEN").map(PathBuf::from).unwrap_or_else(|| {
        // Asked when the test runs: a cached build may have been made elsewhere.
        PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("tests/golden")
    })
}

/// The device under test, `OCELLI_TEST_DEVICE` (cpu, gpu, gpu:N; else the CPU), with the kernels of `OCELLI_TEST_KERNELS`
/// (auto, wgsl, stock).
pub fn device() -> Device {
    let kernels = std::env::var("OCELLI_TEST_KERNELS").unwrap_or_else(|_| "auto".into());
    ocelli::kernels::set_mode(kernels.parse().unwrap());
    let name = std::env::var("OCELLI_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    let choice: DeviceChoice = name.parse().unwrap();
    open(choice).unwrap_or_else(|e| panic!("OCELLI_TEST_DEVICE={name}: {e}")).device
}

/// Names of fixtures that start with `prefix`, sorted; never empty.
pub fn fixtures(prefix: &str) -> Vec<String> {
    let folder = golden_folder();
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .filter_map(|e| e.unwrap().file_name().into_string().ok())
        .filter_map(|n| n.strip_suffix(".json").map(str::to_owned))
        .filter(|n| n.starts_with(prefix))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no fixture {prefix}* in {}", folder.display());
    names
}

/// The bytes of a fixture's file.
pub fn read(file: &str) -> Vec<u8> {
    let path = golden_folder().join(file);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
