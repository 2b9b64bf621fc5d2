//! Small pictures inside a page.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::text::escape;

/// A small copy of a picture, as a JPEG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail {
    /// The JPEG's bytes.
    pub jpeg: Vec<u8>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

impl Thumbnail {
    /// An `<img>` that holds the picture itself.
    pub(crate) fn tag(&self, alt: &str) -> String {
        format!(
            "<img src=\"data:image/jpeg;base64,{}\" width=\"{}\" height=\"{}\" alt=\"{}\">",
            self.base64(),
            self.width,
            self.height,
            escape(alt)
        )
    }

    pub(crate) fn base64(&self) -> String {
        STANDARD.encode(&self.jpeg)
    }
}
