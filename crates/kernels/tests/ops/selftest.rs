//! What `ocelli devices --selftest` runs, on the device under test.

use std::collections::BTreeSet;

use ocelli_train::selftest::{Difference, cases};

use crate::common::device;

#[test]
fn every_kernel_passes_its_selftest() {
    let device = device().inner();
    let mut wrong = Vec::new();
    for case in cases(&device) {
        let found = case.compare(&device);
        assert!(!found.is_empty(), "{} {}: nothing is compared", case.kernel, case.shape);
        for Difference { part, largest, tolerance } in found.iter().filter(|d| !d.is_small()) {
            wrong.push(format!(
                "{} {}: {part} is {largest:.1e} away, {tolerance:.0e} at most",
                case.kernel, case.shape
            ));
        }
    }
    #[cfg(feature = "gpu")]
    crate::shaders::assert_listed();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_case_is_there_twice() {
    let all: Vec<(&str, String)> =
        cases(&device().inner()).into_iter().map(|case| (case.kernel, case.shape)).collect();
    let different: BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len(), "{all:#?}");
    for kernel in
        ["linear", "attention", "conv2d", "batch_norm", "info_nce", "adamw_ema", "roi_align", "similarity_topk"]
    {
        assert!(all.iter().any(|(name, _)| *name == kernel), "{kernel}");
    }
}
