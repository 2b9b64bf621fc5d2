//! Pixels of a canvas to what the network takes.

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::views::resized_crop;
use ocelli_data::{CropBox, Filter, Image, normalise_into};

use crate::WebError;

/// Longest side of a picture as it is handed over; the worker scales larger ones down while decoding.
const MAX_SIDE_PX: u32 = 8192;

/// `[height, width, 4]` bytes (red, green, blue, alpha) over white.
///
/// # Errors
/// `image` when bytes and size do not fit together.
pub fn from_rgba(rgba: &[u8], width: u32, height: u32) -> Result<Image, WebError> {
    let expected = u64::from(width) * u64::from(height) * 4;
    if width == 0 || height == 0 || width.max(height) > MAX_SIDE_PX || rgba.len() as u64 != expected {
        return Err(WebError::Image(format!(
            "expected a picture of 1 to {MAX_SIDE_PX} px with 4 bytes a pixel, found {width}×{height} px and {} bytes",
            rgba.len()
        )));
    }
    let over_white = |level: u8, alpha: u8| {
        let (level, alpha) = (u32::from(level), u32::from(alpha));
        ((level * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let data =
        rgba.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, a]| [r, g, b].map(|l| over_white(l, a))).collect();
    Ok(Image::new(width, height, data)?)
}

/// Scales the long side to `long_px` (0 keeps it) and crops to whole patches: the steps of `ocelli attention`, so that
/// both give the same map.
pub fn fit(image: &Image, long_px: u32, patch_px: usize) -> Image {
    let long = image.width.max(image.height);
    let target = if long_px == 0 { long } else { long_px };
    let patch = patch_px as u32;
    let side = |s: u32| ((u64::from(s) * u64::from(target) / u64::from(long)) as u32).max(patch);
    let (width, height) = (side(image.width), side(image.height));
    let scaled = match (width, height) == (image.width, image.height) {
        true => image.clone(),
        false => resized_crop(image, CropBox::whole(image), width, height, Filter::Bicubic),
    };
    let (width, height) = (width / patch * patch, height / patch * patch);
    resized_crop(&scaled, CropBox { left: 0, top: 0, width, height }, width, height, Filter::Bicubic)
}

/// `[1, 3, height, width]` on the device.
pub fn to_tensor(image: &Image, mean: [f32; 3], std: [f32; 3], device: &Device) -> Tensor<4> {
    let (width, height) = (image.width as usize, image.height as usize);
    let mut data = vec![0.0; 3 * width * height];
    normalise_into(image, mean, std, &mut data);
    Tensor::from_data(TensorData::new(data, [1, 3, height, width]), device)
}
