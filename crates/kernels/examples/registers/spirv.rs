//! From WGSL to SPIR-V, with the options of wgpu's Vulkan backend for a kernel launched unchecked.

use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// A kernel as a driver takes it.
pub struct Module {
    /// Its SPIR-V.
    pub words: Vec<u32>,
    /// The highest binding of group 0, plus one.
    pub bindings: u32,
}

/// What cubecl asks of wgpu for kernels of ours (`gpu/launch.rs`): no bounds checks, no counters in loops, no checks of divisions,
/// workgroup memory left as it is.
fn options(binding_map: spv::BindingMap) -> spv::Options<'static> {
    spv::Options {
        // Of Vulkan 1.3.
        lang_version: (1, 6),
        flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
        bounds_check_policies: BoundsCheckPolicies {
            index: BoundsCheckPolicy::Unchecked,
            buffer: BoundsCheckPolicy::Unchecked,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        fake_missing_bindings: false,
        binding_map,
        ..spv::Options::default()
    }
}

/// Translates a kernel's `main`.
pub fn module(wgsl: &str) -> Result<Module, String> {
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|e| e.emit_to_string(wgsl))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .map_err(|e| e.emit_to_string(wgsl))?;
    // wgpu numbers a layout's buffers from 0 on, as our bindings are numbered already.
    let bound: Vec<_> = module.global_variables.iter().filter_map(|(_, v)| v.binding).collect();
    let map = bound.iter().map(|at| {
        let to = spv::BindingInfo { descriptor_set: at.group, binding: at.binding, binding_array_size: None };
        (*at, to)
    });
    let entry = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".to_owned() };
    let words =
        spv::write_vec(&module, &info, &options(map.collect()), Some(&entry)).map_err(|e| e.to_string())?;
    let bindings = bound.iter().map(|at| at.binding + 1).max().unwrap_or(0);
    Ok(Module { words, bindings })
}
