//! Mesa's compiler for AMD's cards, without a card.
//!
//! RADV offers a device for the family that `RADV_FORCE_FAMILY` names; nothing runs on it, but pipelines are compiled as for the
//! real one, and `VK_KHR_pipeline_executable_properties` says what became of them. wgpu does not open that device, so this does, the
//! way wgpu's Vulkan backend would: all features of the device on, robust buffers among them, and any subgroup size allowed.
#![allow(unsafe_code)]

use std::ffi::CStr;

use ash::khr::pipeline_executable_properties as properties;
use ash::{Device, Entry, Instance, vk};

/// An error in words.
pub type Failure = Box<dyn std::error::Error>;

/// What the compiler made of a kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Vector registers of a lane.
    pub registers: u64,
    /// Registers, vector and scalar, that did not fit.
    pub spills: u64,
    /// Waves that one SIMD unit keeps in flight, as the driver counts: of 32 lanes on RDNA, where a subgroup of 64 is two; of 64
    /// on GCN.
    pub waves: u64,
    /// Bytes of workgroup memory.
    pub shared: u64,
    /// Bytes of machine code.
    pub code: u64,
    /// The machine code.
    pub listing: String,
}

/// RADV's device.
pub struct Radv {
    device: Device,
    properties: properties::Device,
    instance: Instance,
    // The library stays loaded as long as its functions are called.
    _entry: Entry,
    /// `Mesa 22.3.6`.
    pub version: String,
    /// The name of the device.
    pub name: String,
}

fn text(chars: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = chars.iter().map(|c| c.to_ne_bytes()[0]).take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The first physical device of RADV: the device, its name and the driver's version.
fn radv(instance: &Instance) -> Result<Option<(vk::PhysicalDevice, String, String)>, Failure> {
    // SAFETY: the instance is alive, and every structure is a local one.
    for physical in unsafe { instance.enumerate_physical_devices() }? {
        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut all = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
        // SAFETY: as above.
        unsafe { instance.get_physical_device_properties2(physical, &mut all) };
        let name = text(&all.properties.device_name);
        if driver.driver_id == vk::DriverId::MESA_RADV {
            return Ok(Some((physical, name, text(&driver.driver_info))));
        }
    }
    Ok(None)
}

impl Radv {
    /// Opens the device, or says that there is none.
    pub fn open() -> Result<Option<Self>, Failure> {
        // SAFETY: loading the system's Vulkan library runs its initialisers, as every Vulkan program does.
        let Ok(entry) = (unsafe { Entry::load() }) else { return Ok(None) };
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let info = vk::InstanceCreateInfo::default().application_info(&application);
        // SAFETY: `info` and what it points to live until the call returns.
        let Ok(instance) = (unsafe { entry.create_instance(&info, None) }) else { return Ok(None) };
        let Some((physical, name, version)) = radv(&instance)? else {
            // SAFETY: nothing was made from this instance.
            unsafe { instance.destroy_instance(None) };
            return Ok(None);
        };
        let mut executable = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default();
        let mut robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default();
        let mut f13 = vk::PhysicalDeviceVulkan13Features::default();
        let mut f12 = vk::PhysicalDeviceVulkan12Features::default();
        let mut f11 = vk::PhysicalDeviceVulkan11Features::default();
        let mut features = vk::PhysicalDeviceFeatures2::default()
            .push_next(&mut executable)
            .push_next(&mut robust)
            .push_next(&mut f13)
            .push_next(&mut f12)
            .push_next(&mut f11);
        // SAFETY: the chain is made of locals that outlive the call.
        unsafe { instance.get_physical_device_features2(physical, &mut features) };
        let queue = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
        let extensions = [properties::NAME.as_ptr(), ash::ext::robustness2::NAME.as_ptr()];
        let info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queue)
            .enabled_extension_names(&extensions)
            .push_next(&mut features);
        // SAFETY: `info` and what it points to live until the call returns.
        let device = unsafe { instance.create_device(physical, &info, None) }
            .map_err(|e| format!("RADV's device \"{name}\" does not open: {e}"))?;
        let properties = properties::Device::new(&instance, &device);
        Ok(Some(Self { device, properties, instance, _entry: entry, version, name }))
    }

    /// Compiles a kernel whose buffers are the bindings below `bindings` of group 0.
    pub fn compile(&self, spirv: &[u32], entry: &CStr, bindings: u32) -> Result<Compiled, Failure> {
        let bindings: Vec<_> = (0..bindings)
            .map(|binding| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding)
                    .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let device = &self.device;
        // SAFETY: every structure lives until its call returns, every object is destroyed once and after its last use, and naga
        // has validated the module that the SPIR-V was written from.
        unsafe {
            let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let set = [device.create_descriptor_set_layout(&info, None)?];
            let layout =
                device.create_pipeline_layout(&vk::PipelineLayoutCreateInfo::default().set_layouts(&set), None)?;
            let module = device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(spirv), None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(entry);
            let info = vk::ComputePipelineCreateInfo::default()
                .flags(
                    vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                        | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR,
                )
                .stage(stage)
                .layout(layout);
            let pipelines = device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let found = match &pipelines {
                Ok(pipelines) => self.described(pipelines[0]),
                Err((_, error)) => Err(format!("the driver refuses the kernel: {error}").into()),
            };
            for pipeline in pipelines.unwrap_or_else(|(pipelines, _)| pipelines) {
                device.destroy_pipeline(pipeline, None);
            }
            device.destroy_shader_module(module, None);
            device.destroy_pipeline_layout(layout, None);
            device.destroy_descriptor_set_layout(set[0], None);
            found
        }
    }

    /// What the driver says of a pipeline of one kernel.
    fn described(&self, pipeline: vk::Pipeline) -> Result<Compiled, Failure> {
        let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
        // SAFETY: the pipeline is alive and was made with both flags that ask for this.
        let statistics = unsafe { self.properties.get_pipeline_executable_statistics(&info) }?;
        let of = |name: &str| -> Result<u64, Failure> {
            let found = statistics.iter().find(|s| text(&s.name) == name).ok_or_else(|| {
                let all: Vec<String> = statistics.iter().map(|s| text(&s.name)).collect();
                format!("{} has no statistic \"{name}\", only: {}", self.version, all.join(", "))
            })?;
            match found.format {
                // SAFETY: the format says which of the union it is.
                vk::PipelineExecutableStatisticFormatKHR::UINT64 => Ok(unsafe { found.value.u64 }),
                _ => Err(format!("{}: the statistic \"{name}\" is no whole number", self.version).into()),
            }
        };
        Ok(Compiled {
            registers: of("VGPRs")?,
            spills: of("Spilled VGPRs")? + of("Spilled SGPRs")?,
            waves: of("Subgroups per SIMD")?,
            shared: of("LDS size")?,
            code: of("Code size")?,
            listing: self.listing(&info)?,
        })
    }

    /// The machine code of an executable.
    fn listing(&self, info: &vk::PipelineExecutableInfoKHR<'_>) -> Result<String, Failure> {
        // SAFETY: the pipeline is alive; without a place for them the driver tells how long the texts are.
        let mut parts = unsafe { self.properties.get_pipeline_executable_internal_representations(info) }?;
        let mut texts: Vec<Vec<u8>> = parts.iter().map(|part| vec![0; part.data_size]).collect();
        for (part, text) in parts.iter_mut().zip(&mut texts) {
            part.p_data = text.as_mut_ptr().cast();
        }
        let mut count = parts.len() as u32;
        let call = self.properties.fp().get_pipeline_executable_internal_representations_khr;
        // SAFETY: every part points to a text of its length, and all of them live until the call returns.
        unsafe { call(self.device.handle(), info, &mut count, parts.as_mut_ptr()) }.result()?;
        parts
            .iter()
            .zip(&texts)
            .find(|(part, _)| text(&part.name) == "Assembly")
            .map(|(_, bytes)| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned())
            .ok_or_else(|| {
                format!("{} gives no listing: it was built without a disassembler", self.version).into()
            })
    }
}

impl Drop for Radv {
    fn drop(&mut self) {
        // SAFETY: everything made from the device is destroyed where it was made.
        unsafe {
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}
