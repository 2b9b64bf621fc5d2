//! Maps drawn on a canvas straight from the device's memory: the live view reads nothing back.
//!
//! Burn's kernels and this share one device and one queue, so what is submitted later sees what was computed before.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use burn::backend::Wgpu;
use burn::backend::wgpu::wgpu;
use burn::cubecl::wgpu::{AutoCompiler, WgpuServer, WgpuSetup};
use burn::tensor::Tensor;
use wasm_bindgen::prelude::*;
use web_sys::OffscreenCanvas;
use wgpu::util::DeviceExt as _;

use crate::{Engine, TracedPicture, WebError};

/// Maps smaller than this are painted without making new memory.
const CELLS: u64 = 4096;

/// A canvas of one pixel a patch, for maps.
#[wasm_bindgen]
pub struct Overlay {
    setup: WgpuSetup,
    canvas: OffscreenCanvas,
    surface: wgpu::Surface<'static>,
    format: wgpu::TextureFormat,
    size: (u32, u32),
    find_levels: wgpu::ComputePipeline,
    colours: wgpu::RenderPipeline,
    settings: wgpu::Buffer,
    /// Values of the map, and what becomes of them.
    cells: [wgpu::Buffer; 2],
}

fn failed(what: impl std::fmt::Display) -> WebError {
    WebError::Device(format!("maps cannot be drawn on the device: {what}"))
}

#[wasm_bindgen]
impl Overlay {
    /// Takes over a canvas.
    ///
    /// # Errors
    /// `device` where the engine computes on the CPU, or the canvas cannot be drawn on.
    #[wasm_bindgen(constructor)]
    pub fn new(engine: &Engine, canvas: OffscreenCanvas) -> Result<Overlay, WebError> {
        let setup = engine.setup.clone().ok_or_else(|| failed("this engine computes on the CPU"))?;
        let device = &setup.device;
        let target = wgpu::SurfaceTarget::OffscreenCanvas(canvas.clone());
        let surface = setup.instance.create_surface(target).map_err(failed)?;
        let format = surface.get_capabilities(&setup.adapter).formats.first().copied();
        let format = format.ok_or_else(|| failed("the canvas has no format"))?;
        let shader = device.create_shader_module(wgpu::include_wgsl!("overlay.wgsl"));
        let find_levels = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &shader,
            entry_point: Some("find_levels"),
            compilation_options: Default::default(),
            cache: None,
        });
        let colours = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: None,
            layout: None,
            vertex: wgpu::VertexState {
                module: &shader,
                entry_point: Some("corners"),
                compilation_options: Default::default(),
                buffers: &[],
            },
            primitive: wgpu::PrimitiveState::default(),
            depth_stencil: None,
            multisample: wgpu::MultisampleState::default(),
            fragment: Some(wgpu::FragmentState {
                module: &shader,
                entry_point: Some("colours"),
                compilation_options: Default::default(),
                targets: &[Some(format.into())],
            }),
            multiview_mask: None,
            cache: None,
        });
        let settings = device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents: &[0; 32],
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        });
        let cells = [room(device, CELLS), room(device, CELLS)];
        Ok(Self { setup, canvas, surface, format, size: (0, 0), find_levels, colours, settings, cells })
    }

    /// Draws what `query` attends to in block `layer` of the first picture: one head, or their mean (`None`), and of it the
    /// cells that hold `mass` of the attention. Returns when the device is done.
    ///
    /// # Errors
    /// `argument` as [`TracedPicture::attention`], `device` when the canvas is gone.
    pub async fn paint(
        &mut self,
        look: &TracedPicture,
        layer: usize,
        query: usize,
        head: Option<usize>,
        mass: f32,
    ) -> Result<(), WebError> {
        let attention = look.attention_on_device(layer, query)?;
        let [_, heads, tokens] = attention.dims();
        if let Some(head) = head.filter(|head| *head >= heads) {
            return Err(WebError::argument("head", format!("0 to {}", heads - 1), head));
        }
        let (columns, rows) = (look.columns() as u32, look.rows() as u32);
        self.fit(columns, rows);
        let numbers = [heads as u32, tokens as u32 - 1, columns, head.unwrap_or(heads) as u32, mass.to_bits()];
        self.setup.queue.write_buffer(&self.settings, 0, bytemuck::cast_slice(&numbers));
        self.draw(attention.flatten(0, 2))?;
        self.done().await;
        Ok(())
    }
}

impl Overlay {
    /// Makes the canvas `columns` by `rows`, and room for as many cells.
    fn fit(&mut self, columns: u32, rows: u32) {
        let count = u64::from(columns * rows);
        if self.cells[0].size() < 4 * count {
            self.cells = [room(&self.setup.device, count), room(&self.setup.device, count)];
        }
        if self.size == (columns, rows) {
            return;
        }
        self.size = (columns, rows);
        self.canvas.set_width(columns);
        self.canvas.set_height(rows);
        let configuration = wgpu::SurfaceConfiguration {
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT,
            format: self.format,
            color_space: wgpu::SurfaceColorSpace::Auto,
            width: columns,
            height: rows,
            present_mode: wgpu::PresentMode::Fifo,
            desired_maximum_frame_latency: 2,
            alpha_mode: wgpu::CompositeAlphaMode::PreMultiplied,
            view_formats: Vec::new(),
        };
        self.surface.configure(&self.setup.device, &configuration);
    }

    /// `attention` has one axis, so that its values lie side by side: columns may have been left out without a copy.
    fn draw(&self, attention: Tensor<1>) -> Result<(), WebError> {
        let tensor = attention.try_into_primitive::<Wgpu>().map_err(|e| failed(format!("{e:?}")))?;
        let lent = tensor.client.get_resource::<WgpuServer<AutoCompiler>>(tensor.handle.clone());
        let lent = lent.map_err(|e| failed(format!("{e:?}")))?;
        // Only what was submitted before is seen by what comes now.
        tensor.client.flush().map_err(|e| failed(format!("{e:?}")))?;
        let memory = lent.resource();
        let attention = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &memory.buffer,
            offset: memory.offset,
            size: memory.size.try_into().ok(),
        });

        use wgpu::CurrentSurfaceTexture::{Suboptimal, Success};
        let (Success(frame) | Suboptimal(frame)) = self.surface.get_current_texture() else {
            return Err(failed("the canvas gives no texture"));
        };
        let device = &self.setup.device;
        let settings = self.settings.as_entire_binding();
        let levels = self.cells[1].as_entire_binding();
        let group = |layout: wgpu::BindGroupLayout, entries: &[wgpu::BindGroupEntry<'_>]| {
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries })
        };
        let entry = |binding, resource| wgpu::BindGroupEntry { binding, resource };
        let inputs = group(
            self.find_levels.get_bind_group_layout(0),
            &[
                entry(0, attention),
                entry(1, settings.clone()),
                entry(2, self.cells[0].as_entire_binding()),
                entry(3, levels.clone()),
            ],
        );
        let shown = group(self.colours.get_bind_group_layout(0), &[entry(1, settings), entry(3, levels)]);
        let mut commands = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        let mut pass = commands.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.find_levels);
        pass.set_bind_group(0, &inputs, &[]);
        pass.dispatch_workgroups(1, 1, 1);
        drop(pass);
        let view = frame.texture.create_view(&wgpu::TextureViewDescriptor::default());
        let mut pass = commands.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: None,
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: &view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations {
                    load: wgpu::LoadOp::Clear(wgpu::Color::TRANSPARENT),
                    store: wgpu::StoreOp::Store,
                },
            })],
            depth_stencil_attachment: None,
            timestamp_writes: None,
            occlusion_query_set: None,
            multiview_mask: None,
        });
        pass.set_pipeline(&self.colours);
        pass.set_bind_group(0, &shown, &[]);
        pass.draw(0..3, 0..1);
        drop(pass);
        self.setup.queue.submit([commands.finish()]);
        self.setup.queue.present(frame);
        Ok(())
    }

    /// When everything submitted so far is done.
    async fn done(&self) {
        let state = Arc::new(Mutex::new((false, None::<Waker>)));
        let told = state.clone();
        self.setup.queue.on_submitted_work_done(move || {
            let mut state = told.lock().unwrap_or_else(PoisonError::into_inner);
            state.0 = true;
            if let Some(waker) = state.1.take() {
                waker.wake();
            }
        });
        poll_fn(|context| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.0 {
                return Poll::Ready(());
            }
            state.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Memory for `count` numbers.
fn room(device: &wgpu::Device, count: u64) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4 * count,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    })
}
