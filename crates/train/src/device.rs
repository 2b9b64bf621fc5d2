//! Where to compute: the adapters there are, and which one a name means.
//!
//! ```
//! use ocelli_train::device::{self, DeviceChoice};
//!
//! let chosen = device::open("cpu".parse::<DeviceChoice>()?)?;
//! assert!(chosen.is_cpu);
//! assert_eq!("gpu:1".parse::<DeviceChoice>(), Ok(DeviceChoice::GpuIndex(1)));
//! assert!("cuda".parse::<DeviceChoice>().is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::str::FromStr;
#[cfg(feature = "gpu")]
use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;

use crate::TrainError;
use crate::limits::Limits;
use crate::memory::Memory;

/// A device by name: `auto`, `gpu`, `gpu:N`, `cpu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best hardware GPU, else the CPU.
    Auto,
    /// The best adapter; a software one only when there is no hardware.
    Gpu,
    /// The adapter with this number in `ocelli devices`.
    GpuIndex(usize),
    /// The CPU backend.
    Cpu,
}

impl FromStr for DeviceChoice {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "gpu" => Ok(Self::Gpu),
            "cpu" => Ok(Self::Cpu),
            _ => name
                .strip_prefix("gpu:")
                .and_then(|n| n.parse().ok())
                .map(Self::GpuIndex)
                .ok_or_else(|| format!("expected auto, gpu, gpu:N or cpu, found \"{name}\"")),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Gpu => f.write_str("gpu"),
            Self::GpuIndex(number) => write!(f, "gpu:{number}"),
            Self::Cpu => f.write_str("cpu"),
        }
    }
}

/// What an adapter is made of; the order is the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterKind {
    /// A card of its own.
    Discrete,
    /// Part of the processor's package.
    Integrated,
    /// A share of a GPU in a virtual machine.
    Virtual,
    /// A kind the driver does not tell.
    Other,
    /// A graphics API computed on the CPU (lavapipe, SwiftShader, WARP).
    Software,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete GPU",
            Self::Integrated => "integrated GPU",
            Self::Virtual => "virtual GPU",
            Self::Other => "unknown kind",
            Self::Software => "software (CPU)",
        })
    }
}

/// One graphics adapter.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Name, as the driver gives it.
    pub name: String,
    /// Driver and its version.
    pub driver: String,
    /// Graphics API.
    pub api: String,
    /// What it is made of.
    pub kind: AdapterKind,
    /// Largest storage buffer a kernel may bind, bytes.
    pub max_storage_buffer_bytes: u64,
    /// Largest buffer, bytes.
    pub max_buffer_bytes: u64,
    /// Storage buffers a kernel may bind at once.
    pub max_storage_buffers: u32,
    /// Workgroups along one dimension of a launch.
    pub max_workgroups: u32,
    /// Workgroup memory, bytes.
    pub max_workgroup_memory_bytes: u32,
    /// Threads of a workgroup.
    pub max_workgroup_threads: u32,
    /// Invocations of a subgroup, where subgroup operations are there and every subgroup has as many; else 0.
    pub subgroup_lanes: u32,
    /// Invocations of the smallest and of the largest subgroup, as the driver gives them.
    pub subgroup_range: [u32; 2],
    /// Whether shaders may use 64-bit integers.
    pub shader_int64: bool,
    /// What is optional and there, by WebGPU's and wgpu's names.
    pub features: Vec<&'static str>,
    /// The memory it computes in.
    pub memory: Memory,
    #[cfg(feature = "gpu")]
    device_kind: burn::tensor::DeviceKind,
    #[cfg(feature = "gpu")]
    graphics_api: burn::tensor::wgpu::WgpuBackend,
}

/// A device and the words for it.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The plain device (no autodiff).
    pub device: Device,
    /// Name for people.
    pub name: String,
    /// Why this one.
    pub reason: String,
    /// Whether it is the CPU backend.
    pub is_cpu: bool,
    /// The memory it computes in.
    pub memory: Memory,
}

/// All adapters, in the order of `gpu:N`. Empty where there is no driver, or no loader for one: that is no error.
#[cfg(feature = "gpu")]
pub fn adapters() -> Vec<Adapter> {
    use burn::tensor::DeviceKind;
    use burn::tensor::wgpu::WgpuBackend;

    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let mut found = Vec::new();
    for (backends, graphics_api) in [
        (wgpu::Backends::VULKAN, WgpuBackend::Vulkan),
        (wgpu::Backends::METAL, WgpuBackend::Metal),
        (wgpu::Backends::DX12, WgpuBackend::Dx12),
    ] {
        let mut counts = [0usize; 5];
        for adapter in pollster::block_on(instance.enumerate_adapters(backends)) {
            let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
            let even = info.subgroup_min_size == info.subgroup_max_size;
            let kind = match info.device_type {
                wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
                wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
                wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
                wgpu::DeviceType::Other => AdapterKind::Other,
                wgpu::DeviceType::Cpu => AdapterKind::Software,
            };
            let index = counts[kind as usize];
            counts[kind as usize] += 1;
            found.push(Adapter {
                name: info.name,
                driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
                api: info.backend.to_string(),
                kind,
                max_storage_buffer_bytes: limits.max_storage_buffer_binding_size,
                max_buffer_bytes: limits.max_buffer_size,
                max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
                max_workgroups: limits.max_compute_workgroups_per_dimension,
                max_workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
                max_workgroup_threads: limits.max_compute_invocations_per_workgroup,
                subgroup_lanes: match features.contains(wgpu::Features::SUBGROUP) && even {
                    true => info.subgroup_min_size,
                    false => 0,
                },
                subgroup_range: [info.subgroup_min_size, info.subgroup_max_size],
                shader_int64: features.contains(wgpu::Features::SHADER_INT64),
                features: features.iter_names().map(|(name, _)| name).collect(),
                memory: match kind {
                    AdapterKind::Integrated | AdapterKind::Software => Memory::Host,
                    AdapterKind::Discrete | AdapterKind::Virtual | AdapterKind::Other => {
                        Memory::Own(own_memory(&adapter))
                    }
                },
                device_kind: match kind {
                    AdapterKind::Discrete => DeviceKind::DiscreteGpu(index),
                    AdapterKind::Integrated => DeviceKind::IntegratedGpu(index),
                    AdapterKind::Virtual => DeviceKind::VirtualGpu(index),
                    AdapterKind::Other => DeviceKind::DefaultDevice,
                    AdapterKind::Software => DeviceKind::Cpu,
                },
                graphics_api,
            });
        }
    }
    found.sort_by_key(|a| a.kind);
    found
}

/// Bytes of a card's own memory, where its driver tells: Vulkan's does.
#[cfg(all(feature = "gpu", target_os = "linux"))]
#[allow(unsafe_code)]
fn own_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    /// `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`.
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: the adapter is only asked, and nothing of it is kept.
    let adapter = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = adapter.shared_instance().raw_instance();
    // SAFETY: both come from the same live adapter.
    let memory = unsafe { instance.get_physical_device_memory_properties(adapter.raw_physical_device()) };
    let heaps = memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
    // A card may list a part of its memory once more, as what the processor can write to: the largest is the card's.
    heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
}

/// Elsewhere nobody asks.
#[cfg(all(feature = "gpu", not(target_os = "linux")))]
fn own_memory(_: &wgpu::Adapter) -> Option<u64> {
    None
}

/// Without the `gpu` feature there are none.
#[cfg(not(feature = "gpu"))]
pub fn adapters() -> Vec<Adapter> {
    Vec::new()
}

/// Which of `adapters` a choice means: its number and why, or `None` for the CPU backend and why.
///
/// # Errors
/// When an adapter is asked for that is not there.
pub fn pick(choice: DeviceChoice, adapters: &[Adapter]) -> Result<(Option<usize>, String), TrainError> {
    let hardware = adapters.iter().position(|a| a.kind != AdapterKind::Software);
    match choice {
        DeviceChoice::Cpu => Ok((None, "asked for by name".into())),
        DeviceChoice::Auto => Ok(match hardware {
            Some(i) => (Some(i), "the first hardware GPU".into()),
            None if adapters.is_empty() => (None, "no graphics adapter was found".into()),
            None => (None, "only software adapters were found, and the CPU backend is faster than those".into()),
        }),
        DeviceChoice::Gpu => match hardware.or(if adapters.is_empty() { None } else { Some(0) }) {
            Some(i) => Ok((Some(i), "asked for by name".into())),
            None => Err(TrainError::Device(
                "--device gpu: no graphics adapter was found. Expected a Vulkan, Metal or DirectX 12 driver; on Linux \
                 install the driver's Vulkan package and libvulkan1, or use --device cpu"
                    .into(),
            )),
        },
        DeviceChoice::GpuIndex(i) if i < adapters.len() => Ok((Some(i), "asked for by number".into())),
        DeviceChoice::GpuIndex(i) => Err(TrainError::Device(format!(
            "--device gpu:{i}: expected a number below {} (see `ocelli devices`)",
            adapters.len()
        ))),
    }
}

/// The devices of adapters that were opened: the runtime of an adapter starts once in a process, and asking again gives the same
/// device.
#[cfg(feature = "gpu")]
static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

#[cfg(feature = "gpu")]
struct Opened {
    key: String,
    device: Device,
    limits: Limits,
}

/// What a device binds at most, where it is one that [`open`] opened on an adapter.
#[cfg(feature = "gpu")]
pub fn limits(device: &Device) -> Option<Limits> {
    let opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    opened.iter().find(|opened| opened.device == *device).map(|opened| opened.limits)
}

/// Without the `gpu` feature there is no adapter.
#[cfg(not(feature = "gpu"))]
pub fn limits(_: &Device) -> Option<Limits> {
    None
}

/// Opens the device a choice means.
///
/// # Errors
/// When an adapter is asked for that is not there or cannot be opened.
pub fn open(choice: DeviceChoice) -> Result<Chosen, TrainError> {
    let adapters = if choice == DeviceChoice::Cpu { Vec::new() } else { adapters() };
    match pick(choice, &adapters)? {
        (Some(index), reason) => open_adapter(&adapters[index], reason),
        (None, reason) => {
            Ok(Chosen { device: Device::flex(), name: "CPU".into(), reason, is_cpu: true, memory: Memory::Host })
        }
    }
}

/// As [`open`], for a process that shares its machine with others of the run: `auto` and `gpu` mean an adapter of its own, by its
/// number among them, where the machine has several. With fewer adapters than processes some have the same.
///
/// # Errors
/// As [`open`].
pub fn open_local(choice: DeviceChoice, local_rank: Option<usize>) -> Result<Chosen, TrainError> {
    let Some(local_rank) = local_rank.filter(|_| choice != DeviceChoice::Cpu) else { return open(choice) };
    let adapters = adapters();
    match pick_local(choice, local_rank, &adapters)? {
        (Some(index), reason) => open_adapter(&adapters[index], reason),
        (None, _) => open(choice),
    }
}

/// As [`pick`], for process `local_rank` on a machine: each takes the next adapter of the kind that one alone would take.
///
/// # Errors
/// As [`pick`].
pub fn pick_local(
    choice: DeviceChoice,
    local_rank: usize,
    adapters: &[Adapter],
) -> Result<(Option<usize>, String), TrainError> {
    let picked = pick(choice, adapters)?;
    let (Some(first), DeviceChoice::Auto | DeviceChoice::Gpu) = (picked.0, choice) else { return Ok(picked) };
    let reason = picked.1;
    let is_software = |i: usize| adapters[i].kind == AdapterKind::Software;
    let alike: Vec<usize> = (0..adapters.len()).filter(|i| is_software(*i) == is_software(first)).collect();
    if alike.len() < 2 {
        return Ok((Some(first), reason));
    }
    let index = alike[local_rank % alike.len()];
    Ok((Some(index), format!("{reason}; process {local_rank} of this machine takes gpu:{index}")))
}

#[cfg(feature = "gpu")]
fn open_adapter(adapter: &Adapter, reason: String) -> Result<Chosen, TrainError> {
    use ocelli_kernels::gpu::{Caps, Family, set_caps};
    use ocelli_kernels::{choices_file, keep_choices};
    let name = format!("{} ({})", adapter.name, adapter.api);
    let key = format!("{name} {:?}", adapter.device_kind);
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let device = match opened.iter().find(|opened| opened.key == key) {
        Some(opened) => opened.device.clone(),
        None => {
            let software = adapter.kind == AdapterKind::Software;
            if software {
                tune_quickly();
            }
            set_caps(Caps {
                family: if software { Family::Software } else { Family::Hardware },
                lanes: adapter.subgroup_lanes as usize,
                int64: adapter.shader_int64,
            });
            if !software {
                // The fastest kernel of a card is a question to the card. A software adapter would take minutes to answer.
                keep_choices(&format!("{name} {}", adapter.driver), choices_file());
            }
            let device = Device::wgpu_options()
                .device_kind(adapter.device_kind.clone())
                .graphics_api(adapter.graphics_api)
                .init()
                .map_err(|e| {
                    TrainError::Device(format!("cannot open {} ({}): {e}", adapter.name, adapter.driver))
                })?;
            let limits =
                Limits { binding_bytes: adapter.max_storage_buffer_bytes, buffer_bytes: adapter.max_buffer_bytes };
            opened.push(Opened { key, device: device.clone(), limits });
            device
        }
    };
    Ok(Chosen { device, name, reason, is_cpu: false, memory: adapter.memory })
}

/// Trying every candidate kernel several times is worth it where one try takes microseconds. On a software adapter
/// it takes minutes, so each gets one try there and the first that is good enough is taken.
#[cfg(feature = "gpu")]
fn tune_quickly() {
    use burn::cubecl::config::autotune::AutotuneLevel;
    use burn::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig as _};
    let mut config = CubeClRuntimeConfig::default();
    config.autotune.level = AutotuneLevel::Minimal;
    config.autotune.bench.min_samples = 1;
    config.autotune.bench.max_samples = 1;
    config.autotune.bench.short_circuit_samples = 1;
    // A configuration somebody set before stays.
    CubeClRuntimeConfig::try_set(config);
}

#[cfg(not(feature = "gpu"))]
fn open_adapter(adapter: &Adapter, _: String) -> Result<Chosen, TrainError> {
    Err(TrainError::Device(format!("cannot open {}: built without the gpu feature", adapter.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(kind: AdapterKind) -> Adapter {
        Adapter {
            name: kind.to_string(),
            driver: String::new(),
            api: String::new(),
            kind,
            max_storage_buffer_bytes: 0,
            max_buffer_bytes: 0,
            max_storage_buffers: 0,
            max_workgroups: 0,
            max_workgroup_memory_bytes: 0,
            max_workgroup_threads: 0,
            subgroup_lanes: 0,
            subgroup_range: [0, 0],
            shader_int64: false,
            features: Vec::new(),
            memory: Memory::Host,
            #[cfg(feature = "gpu")]
            device_kind: burn::tensor::DeviceKind::DefaultDevice,
            #[cfg(feature = "gpu")]
            graphics_api: burn::tensor::wgpu::WgpuBackend::Vulkan,
        }
    }

    #[test]
    fn processes_of_a_machine_take_an_adapter_each() {
        let cards = [AdapterKind::Discrete, AdapterKind::Discrete, AdapterKind::Software].map(adapter);
        let taken = |choice, rank, adapters: &[Adapter]| pick_local(choice, rank, adapters).unwrap().0;
        for choice in [DeviceChoice::Auto, DeviceChoice::Gpu] {
            let all = [0, 1, 2, 3].map(|rank| taken(choice, rank, &cards));
            assert_eq!(all, [Some(0), Some(1), Some(0), Some(1)]);
        }
        assert_eq!(
            taken(DeviceChoice::Gpu, 3, &cards[2..]),
            Some(0),
            "a software adapter where there is no other"
        );
        assert_eq!(taken(DeviceChoice::Auto, 1, &cards[2..]), None);
        assert_eq!(taken(DeviceChoice::GpuIndex(1), 0, &cards), Some(1));
        assert!(pick_local(DeviceChoice::Gpu, 1, &[]).is_err());
    }
}
