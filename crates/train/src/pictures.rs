//! Pictures of a run: the views as the network sees them, and what it makes of a few fixed images: where a Vision
//! Transformer attends to, what a ResNet tells apart and finds again.
//!
//! Nothing here touches what training computes: images and views are functions of (seed, epoch, sample), and the
//! network is only evaluated. A run with pictures and one without are the same to the last bit.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use ocelli_data::views::resized_crop;
use ocelli_data::{CropBox, Filter as Kernel, Image, MocoViews, Rng, Source, ViewPlan};
use ocelli_eval::colour::{Colormap, heatmap};
use ocelli_eval::correspondence::{Match, MatchPicture, nearest};
use ocelli_eval::pca::pca_rgb;
use ocelli_eval::picture::{Filter, Picture};
use ocelli_eval::sheet::{AttentionExample, AttentionSheet, Sheet, SheetCell, SheetRow, SheetStyle};
use ocelli_models::weights::preprocessing::Statistics;
use ocelli_models::{AnyBackbone, BackboneKind, Vit};

use crate::atomic::write_atomically;
use crate::features::eval_transform;
use crate::looking::{Cells, attention_of, cells_of, image_tensor};
use crate::{RunConfig, TrainError};

/// Images that are followed, and samples whose views are shown.
const IMAGES: usize = 4;
/// Unreadable images are passed over for others, so often at most.
const ATTEMPTS: usize = 16;
/// Long side attention is drawn at where images are evaluated as they are.
const LONGEST_PX: u32 = 480;
/// Longest side of a picture on a sheet or strip.
const CELL_PX: usize = 128;
/// Space between the pictures of a strip.
const GAP_PX: usize = 6;
/// Local views shown at most.
const LOCALS: usize = 8;
/// Matches drawn at most.
const MATCHES: usize = 40;

/// An image that is drawn on: the pixels the network is evaluated with, whole cells of them.
struct Fixed {
    name: String,
    class: String,
    image: Image,
}

/// Draws the pictures of one run. They are files in `pictures/`:
///
/// * `views.png`: samples and their views in the first epoch, un-normalised;
/// * `attention-images.png`: the fixed images, one below the other;
/// * `attention-0007.png`: the teacher's attention to them after 7 epochs (mean of the heads), in the same places;
/// * `heads.png`: the newest attention, head by head.
///
/// A ResNet has, in place of attention, `features-images.png` and `features-0007.png`, the three leading components of its
/// dense features as colours, and `matches.png`, the newest: cells of one of the images and of an augmented view of it that
/// choose each other.
pub struct Pictures {
    config: RunConfig,
    device: Device,
    source: Arc<dyn Source>,
    fixed: Vec<Fixed>,
}

impl Pictures {
    /// Chooses the fixed images: evenly spaced over `test`, or over `source` without one. Unreadable images are
    /// passed over; without a readable one there is no picture of attention.
    pub fn new(
        config: &RunConfig,
        device: &Device,
        source: &Arc<dyn Source>,
        test: Option<&Arc<dyn Source>>,
    ) -> Self {
        let from = test.filter(|t| !t.is_empty()).unwrap_or(source);
        let patch = config.cell_px() as u32;
        let fixed = readable(from.as_ref(), IMAGES)
            .into_iter()
            .map(|(index, image)| {
                let class = from.label(index).and_then(|l| from.class_names().get(l as usize).cloned());
                let image = whole_patches(&eval_transform(config).apply(&image), patch);
                Fixed { name: from.name(index), class: class.unwrap_or_default(), image }
            })
            .collect();
        Self { config: config.clone(), device: device.clone(), source: source.clone(), fixed }
    }

    /// What there is to see before training, into `folder`: `attention-images.png`, and `views.png` with samples evenly
    /// spaced over the training images and the views the loader makes of them in epoch 0. Local views are drawn at the
    /// scale of the global ones.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn views(&self, folder: &Path) -> Result<(), TrainError> {
        self.images(folder)?;
        let plan = self.config.view_plan();
        let shown = plan.views.len().min(2 + LOCALS);
        let style = SheetStyle { cell_px: CELL_PX, label_px: 140, ..SheetStyle::default() };
        let largest = plan.views.iter().map(|v| v.size_px).max().unwrap_or(1) as usize;
        let rows: Vec<SheetRow> = readable(self.source.as_ref(), IMAGES)
            .into_iter()
            .map(|(index, image)| {
                let mut rng = Rng::for_sample(self.config.seed, 0, index as u64);
                // Every view is drawn, shown or not: the generator walks on as the loader's does.
                let params = plan.draw_all(&image, &mut rng);
                let views = plan.views.iter().zip(&params).take(shown).map(|(v, p)| v.render(&image, p));
                let mut cells = vec![SheetCell::new(picture(&image)?)];
                for view in views {
                    cells.push(SheetCell::new(to_scale(&picture(&view)?, largest, &style)));
                }
                let class = self.source.label(index).and_then(|l| self.source.class_names().get(l as usize));
                let note = class.cloned().unwrap_or_default();
                Ok(SheetRow { label: self.source.name(index), note, cells })
            })
            .collect::<Result<_, TrainError>>()?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut columns = vec!["image".to_owned()];
        columns.extend(plan.views.iter().take(shown).map(|view| view.title.clone()));
        let sheet = Sheet { title: String::new(), columns, rows, style }.render()?;
        write_picture(&folder.join("views.png"), &sheet)
    }

    /// What there is to see after `epochs_done` epochs, and before the first what there is to see before training.
    ///
    /// # Errors
    /// As [`Pictures::views`] and [`Pictures::draw_network`].
    pub fn draw(&self, encoder: &AnyBackbone, epochs_done: usize, folder: &Path) -> Result<(), TrainError> {
        if epochs_done == 0 {
            self.views(folder)?;
        }
        self.draw_network(encoder, epochs_done, folder)
    }

    /// Writes what the network makes of the fixed images after `epochs_done` epochs into `folder` (0: before training).
    ///
    /// # Errors
    /// When values cannot be read from the device, are not finite, or a file cannot be written.
    pub fn draw_network(
        &self,
        encoder: &AnyBackbone,
        epochs_done: usize,
        folder: &Path,
    ) -> Result<(), TrainError> {
        match encoder {
            AnyBackbone::Vit(vit) => self.attention(vit, epochs_done, folder),
            AnyBackbone::ResNet(_) => self.features(encoder, epochs_done, folder),
        }
    }

    /// Dense features as colours, and matches.
    fn features(&self, encoder: &AnyBackbone, epochs_done: usize, folder: &Path) -> Result<(), TrainError> {
        let Some(first) = self.fixed.first() else { return Ok(()) };
        let style = SheetStyle { cell_px: CELL_PX, ..SheetStyle::default() };
        let maps = self.fixed.iter().map(|f| self.cells(encoder, &f.image)).collect::<Result<Vec<_>, _>>()?;
        // Components of all of them together: one colour is one thing in every image.
        let dim = maps[0].dim;
        let all: Vec<f32> = maps.iter().flat_map(|map| map.values.iter().copied()).collect();
        let (colours, mut at) = (pca_rgb(&all, dim)?, 0);
        let mut strip = Vec::new();
        for (map, fixed) in maps.iter().zip(&self.fixed) {
            let [rows, cols] = map.grid;
            let bytes = colours[at..at + 3 * rows * cols].to_vec();
            at += bytes.len();
            let [width, height] = style.display_size(fixed.image.width as usize, fixed.image.height as usize);
            strip.push(Picture::new(cols, rows, bytes)?.resize(width, height, Filter::Nearest));
        }
        write_strip(&folder.join(format!("features-{epochs_done:04}.png")), &strip)?;

        let spec = ViewPlan::moco(MocoViews {
            size_px: (self.config.views.global_size_px / self.config.cell_px() * self.config.cell_px()) as u32,
            ..MocoViews::default()
        });
        let spec = &spec.views[0];
        let mut rng = Rng::for_sample(self.config.seed, 0, 0);
        let view = spec.render(&first.image, &spec.sample(first.image.width, first.image.height, &mut rng));
        let (a, b) = (&maps[0], self.cells(encoder, &view)?);
        let mut matches: Vec<Match> = nearest(a.rows(&self.device), b.rows(&self.device))?;
        matches.retain(|m| m.mutual);
        matches.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then(a.from.cmp(&b.from)));
        matches.truncate(MATCHES);
        // Small images are drawn larger: lines and dots need room.
        let drawn = |image: &Image| -> Result<Picture, TrainError> {
            let picture = picture(image)?;
            let times = (CELL_PX * 2).div_ceil(picture.width().max(picture.height()).max(1));
            Ok(picture.resize(picture.width() * times, picture.height() * times, Filter::Smooth))
        };
        let page = MatchPicture {
            images: [&drawn(&first.image)?, &drawn(&view)?],
            features: [&a.values, &b.values],
            grids: [a.grid, b.grid],
            dim,
        };
        write_picture(&folder.join("matches.png"), &page.render(&matches)?)
    }

    /// Features of an image's cells.
    fn cells(&self, encoder: &AnyBackbone, image: &Image) -> Result<Cells, TrainError> {
        cells_of(encoder, self.input(image))
    }

    fn input(&self, image: &Image) -> Tensor<4> {
        let statistics = Statistics { mean: self.config.views.mean, std: self.config.views.std };
        image_tensor(image, &statistics, &self.device)
    }

    /// The fixed images, where [`Self::look`] puts their maps.
    fn images(&self, folder: &Path) -> Result<(), TrainError> {
        let style = SheetStyle { cell_px: CELL_PX, ..SheetStyle::default() };
        let shown = self.fixed.iter().map(|f| Ok(style.display(&picture(&f.image)?)));
        let shown = shown.collect::<Result<Vec<_>, TrainError>>()?;
        let name = match self.config.arch.kind() {
            BackboneKind::Vit => "attention-images.png",
            BackboneKind::ResNet => "features-images.png",
        };
        if shown.is_empty() { Ok(()) } else { write_strip(&folder.join(name), &shown) }
    }

    /// Writes the teacher's attention after `epochs_done` epochs into `folder` (0: before training).
    ///
    /// # Errors
    /// When values cannot be read from the device, are not finite, or a file cannot be written.
    pub fn attention(&self, teacher: &Vit, epochs_done: usize, folder: &Path) -> Result<(), TrainError> {
        if self.fixed.is_empty() {
            return Ok(());
        }
        let style = SheetStyle { cell_px: CELL_PX, ..SheetStyle::default() };
        let pictures = self.fixed.iter().map(|f| picture(&f.image)).collect::<Result<Vec<_>, _>>()?;
        let maps = self
            .fixed
            .iter()
            .map(|f| attention_of(teacher, self.input(&f.image)))
            .collect::<Result<Vec<_>, _>>()?;

        let means = maps.iter().zip(&pictures).map(|(map, picture)| {
            let [width, height] = style.display_size(picture.width(), picture.height());
            heatmap(&map.mean(), map.columns(), width, height, Colormap::Viridis, Filter::Nearest)
        });
        let means = means.collect::<Result<Vec<_>, _>>()?;
        write_strip(&folder.join(format!("attention-{epochs_done:04}.png")), &means)?;

        let examples: Vec<AttentionExample<'_>> = self
            .fixed
            .iter()
            .zip(maps.iter().zip(&pictures))
            .map(|(f, (attention, picture))| AttentionExample {
                name: &f.name,
                note: &f.class,
                picture,
                attention,
                truth: None,
            })
            .collect();
        let sheet = AttentionSheet { style, ..AttentionSheet::default() }.render(&examples)?;
        write_picture(&folder.join("heads.png"), &sheet)
    }
}

/// Up to `n` readable images, evenly spaced: index and pixels. An unreadable one is replaced by one after it.
///
/// Each place is shifted by its number, so that a set whose classes take turns does not show one class only.
fn readable(source: &dyn Source, n: usize) -> Vec<(usize, Image)> {
    let (len, n) = (source.len(), n.min(source.len()));
    let mut found: Vec<(usize, Image)> = Vec::with_capacity(n);
    for i in 0..n {
        let end = (i + 1) * len / n;
        let first = (i * len / n + i).min(end - 1);
        let image = (first..end).take(ATTEMPTS).find_map(|at| source.load(at).ok().map(|image| (at, image)));
        found.extend(image);
    }
    found
}

/// Cropped to whole patches, after shrinking what is larger than [`LONGEST_PX`].
fn whole_patches(image: &Image, patch_px: u32) -> Image {
    let (width, height) = (image.width.max(1), image.height.max(1));
    let longest = width.max(height);
    let long = longest.min(LONGEST_PX.max(patch_px));
    let side = |s: u32| (u64::from(s) * u64::from(long) / u64::from(longest)).max(u64::from(patch_px)) as u32;
    let scaled = match (side(width), side(height)) {
        (w, h) if (w, h) == (width, height) => image.clone(),
        (w, h) => resized_crop(image, CropBox::whole(image), w, h, Kernel::Bicubic),
    };
    let (width, height) = (scaled.width / patch_px * patch_px, scaled.height / patch_px * patch_px);
    if (width, height) == (scaled.width, scaled.height) {
        return scaled;
    }
    resized_crop(&scaled, CropBox { top: 0, left: 0, width, height }, width, height, Kernel::Bicubic)
}

fn picture(image: &Image) -> Result<Picture, TrainError> {
    Ok(Picture::new(image.width as usize, image.height as usize, image.data.clone())?)
}

/// A view in the middle of a cell, enlarged or shrunk as the largest view is.
fn to_scale(view: &Picture, largest: usize, style: &SheetStyle) -> Picture {
    let [cell, _] = style.display_size(largest, largest);
    let side = |s: usize| (s * cell / largest.max(1)).max(1);
    let (width, height) = (side(view.width()), side(view.height()));
    let filter = if width > view.width() { Filter::Nearest } else { Filter::Smooth };
    let mut page = Picture::filled(cell, cell, style.background);
    let at = |s: usize| cell.saturating_sub(s) / 2;
    page.paste(&view.resize(width, height, filter), at(width), at(height));
    page
}

/// Pictures one below the other, the space between them transparent.
fn write_strip(path: &Path, pictures: &[Picture]) -> Result<(), TrainError> {
    let width = pictures.iter().map(Picture::width).max().unwrap_or(1);
    let heights: usize = pictures.iter().map(|p| p.height() + GAP_PX).sum();
    let height = heights.saturating_sub(GAP_PX).max(1);
    let mut rgba = vec![0; width * height * 4];
    let mut top = 0;
    for picture in pictures {
        let left = (width - picture.width()) / 2;
        for (y, row) in picture.data().chunks_exact(picture.width() * 3).enumerate() {
            let start = ((top + y) * width + left) * 4;
            for (to, from) in rgba[start..].chunks_exact_mut(4).zip(row.chunks_exact(3)) {
                to[..3].copy_from_slice(from);
                to[3] = 255;
            }
        }
        top += picture.height() + GAP_PX;
    }
    write_png(path, width, height, &rgba, image::ExtendedColorType::Rgba8)
}

/// Writes a picture as PNG; its folder is made where there is none.
///
/// # Errors
/// When it cannot be encoded or written.
pub fn write_picture(path: &Path, picture: &Picture) -> Result<(), TrainError> {
    write_png(path, picture.width(), picture.height(), picture.data(), image::ExtendedColorType::Rgb8)
}

fn write_png(
    path: &Path,
    width: usize,
    height: usize,
    pixels: &[u8],
    colour: image::ExtendedColorType,
) -> Result<(), TrainError> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    image::ImageEncoder::write_image(encoder, pixels, width as u32, height as u32, colour).map_err(|e| {
        TrainError::File { path: path.to_owned(), reason: format!("cannot encode the picture: {e}") }
    })?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| TrainError::io(folder, "create the folder", &e))?;
    }
    // Marked, so that no data set takes it for a photograph.
    write_atomically(path, &ocelli_data::files::marked_png(&bytes))
}

#[cfg(test)]
mod tests {
    use ocelli_data::{DataError, Loader, LoaderConfig, SceneConfig, SceneSource};
    use ocelli_models::Init;

    use super::*;
    use crate::config::resolve;

    fn config() -> RunConfig {
        let sets = ["arch=vit-32x2x2/8", "dino.head.out_dim=64", "batch_size=4"].map(String::from);
        resolve(Some("demo"), None, &sets).unwrap()
    }

    fn scenes(count: usize) -> Arc<dyn Source> {
        Arc::new(SceneSource::new(SceneConfig { count, size_px: 64, ..SceneConfig::default() }).unwrap())
    }

    fn open(path: &Path) -> image::RgbaImage {
        image::open(path).unwrap().to_rgba8()
    }

    #[test]
    fn the_pictures_of_a_run() {
        let (config, device, source) = (config(), Device::flex(), scenes(16));
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("pictures");
        let pictures = Pictures::new(&config, &device, &source, None);
        let vit = "vit-32x2x2/8".parse::<ocelli_models::Arch>().unwrap().config(48, 0.0);
        let vit = vit.init(&mut Init::new(0, &device)).unwrap();
        pictures.views(&dir).unwrap();
        pictures.attention(&vit, 0, &dir).unwrap();
        pictures.attention(&vit, 7, &dir).unwrap();
        let (images, map) = (open(&dir.join("attention-images.png")), open(&dir.join("attention-0007.png")));
        assert_eq!(images.dimensions(), map.dimensions(), "images and maps lie in the same places");
        assert_eq!(images.height(), 4 * 128 + 3 * GAP_PX as u32);
        assert_eq!(images.get_pixel(0, 128).0[3], 0, "the gap is transparent");
        let first = source.load(0).unwrap();
        assert_eq!(images.get_pixel(20, 40).0[..3], first.pixel(10, 20).unwrap());
        assert_eq!(map, open(&dir.join("attention-0000.png")), "the same network looks at the same places");
        assert!(open(&dir.join("heads.png")).width() > 4 * 64);
    }

    #[test]
    fn the_pictures_of_a_resnet() {
        let sets = ["arch=resnet-18c8", "moco.queue=8", "batch_size=4"].map(String::from);
        let (config, device) = (resolve(Some("densecl-laptop"), None, &sets).unwrap(), Device::flex());
        let folder = tempfile::tempdir().unwrap();
        let pictures = Pictures::new(&config, &device, &scenes(16), None);
        let encoder = config.backbone().init(&mut Init::new(0, &device)).unwrap();
        pictures.views(folder.path()).unwrap();
        pictures.draw_network(&encoder, 3, folder.path()).unwrap();
        let (images, map) =
            (open(&folder.path().join("features-images.png")), open(&folder.path().join("features-0003.png")));
        assert_eq!(images.dimensions(), map.dimensions(), "images and maps lie in the same places");
        // Six cells a side, one colour each; of several colours.
        assert_eq!(map.get_pixel(0, 0), map.get_pixel(15, 15));
        let colours: std::collections::BTreeSet<_> = map.pixels().map(|p| p.0).collect();
        assert!(colours.len() > 20, "{}", colours.len());
        assert!(open(&folder.path().join("matches.png")).width() > 512);
        assert!(!folder.path().join("attention-images.png").exists());
    }

    #[test]
    fn the_views_are_the_loaders() {
        let (config, source) = (config(), scenes(8));
        let loader_config = LoaderConfig { batch_size: 8, seed: config.seed, threads: 1, ..Default::default() };
        let loader = Loader::new(source.clone(), config.view_plan(), loader_config).unwrap();
        let batch = loader.epoch(0, 0).next().unwrap().unwrap();
        let dir = tempfile::tempdir().unwrap();
        Pictures::new(&config, &Device::flex(), &source, None).views(dir.path()).unwrap();
        let sheet = open(&dir.path().join("views.png"));
        // The first global view of sample 0 lies on the sheet, every pixel twice as large.
        let row = batch.indices.iter().position(|i| *i == 0).unwrap();
        let side = 48;
        let values = &batch.groups[0].data[row * 3 * side * side..][..3 * side * side];
        let level = |c: usize, i: usize| {
            let v = values[c * side * side + i] * config.views.std[c] + config.views.mean[c];
            (v * 255.0).round() as u8
        };
        let want: Vec<[u8; 3]> = (0..side).map(|x| [0, 1, 2].map(|c| level(c, x))).collect();
        let found = (0..sheet.height()).any(|y| {
            (0..sheet.width().saturating_sub(96)).any(|x| {
                want.iter().enumerate().all(|(i, rgb)| sheet.get_pixel(x + 2 * i as u32, y).0[..3] == *rgb)
            })
        });
        assert!(found, "the loader's view is not on the sheet");
    }

    #[test]
    fn unreadable_images_are_passed_over() {
        struct Broken(Arc<dyn Source>);
        impl Source for Broken {
            fn len(&self) -> usize {
                self.0.len()
            }
            fn load(&self, index: usize) -> Result<Image, DataError> {
                self.0.load(if index.is_multiple_of(4) { usize::MAX } else { index })
            }
            fn label(&self, _: usize) -> Option<u32> {
                None
            }
            fn name(&self, index: usize) -> String {
                self.0.name(index)
            }
            fn class_names(&self) -> &[String] {
                &[]
            }
        }
        let indices: Vec<usize> = readable(&Broken(scenes(16)), 4).iter().map(|(i, _)| *i).collect();
        assert_eq!(indices, [1, 5, 10, 15]);
        assert!(readable(&Broken(scenes(1)), 4).is_empty());
    }

    #[test]
    fn thin_and_huge_images_become_whole_patches() {
        for (w, h, want) in [(1000, 10, (480, 16)), (7, 7, (16, 16)), (50, 33, (48, 32)), (64, 64, (64, 64))] {
            let image = whole_patches(&Image::filled(w, h, [9, 9, 9]), 16);
            assert_eq!((image.width, image.height), want);
        }
    }
}
