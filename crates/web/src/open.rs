//! Opening a device.

use std::cell::RefCell;

use burn::cubecl::wgpu::WgpuSetup;
use burn::tensor::Device;
use ocelli_data::{SceneConfig, SceneSource};
use ocelli_kernels::gpu::{Caps, Family, set_caps};
use ocelli_kernels::set_mode;
use wasm_bindgen::prelude::*;

use crate::WebError;

thread_local! {
    static FAULT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A device to compute on: WebGPU, or the processor.
#[wasm_bindgen]
pub struct Engine {
    pub(crate) device: Device,
    /// WebGPU's own handles, where it computes there.
    pub(crate) setup: Option<WgpuSetup>,
}

#[wasm_bindgen]
impl Engine {
    /// Opens WebGPU, or the processor. `software` says that the adapter is a program that plays graphics hardware, which
    /// wants other kernels.
    ///
    /// # Errors
    /// `device` when WebGPU cannot be opened.
    pub async fn open(gpu: bool, software: bool) -> Result<Engine, WebError> {
        std::panic::set_hook(Box::new(|info| FAULT.set(Some(info.to_string()))));
        if !gpu {
            return Ok(Self { device: Device::flex(), setup: None });
        }
        set_caps(Caps::plain(if software { Family::Software } else { Family::Hardware }));
        let opened = Device::wgpu_options().init_with_setup_async().await;
        let (device, setup) = opened.map_err(|e| WebError::Device(format!("WebGPU cannot be opened: {e}")))?;
        Ok(Self { device, setup: Some(setup) })
    }

    /// Whether it computes on WebGPU.
    #[wasm_bindgen(getter)]
    pub fn gpu(&self) -> bool {
        self.setup.is_some()
    }

    /// Gives memory nobody uses back to the device.
    #[wasm_bindgen(js_name = cleanUp)]
    pub fn clean_up(&self) {
        self.device.memory_cleanup();
    }
}

impl Engine {
    /// Where networks lie.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// Whose kernels compute from now on: `auto`, `wgsl` or `stock`.
///
/// # Errors
/// `argument` for another name.
#[wasm_bindgen(js_name = chooseKernels)]
pub fn choose_kernels(name: &str) -> Result<(), WebError> {
    let mode = name.parse().map_err(|_| WebError::argument("kernels", "auto, wgsl or stock", name))?;
    set_mode(mode);
    Ok(())
}

/// What a panic said, once. A module that panicked is of no more use; the message is for the report.
#[wasm_bindgen]
pub fn fault() -> Option<String> {
    FAULT.take()
}

/// A built-in scene, `[size, size, 4]` bytes.
///
/// # Errors
/// `image` for a size out of range.
#[wasm_bindgen]
pub fn scene(index: usize, size_px: u32) -> Result<Vec<u8>, WebError> {
    let source = SceneSource::new(SceneConfig { count: usize::MAX, size_px, ..SceneConfig::default() })?;
    Ok(source.scene(index).image.data.as_chunks::<3>().0.iter().flat_map(|&[r, g, b]| [r, g, b, 255]).collect())
}
