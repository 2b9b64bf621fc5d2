//! Putting a scene together: ground, things, shadow, object, light, noise.

use libm::{cosf, sinf};

use super::Difficulty;
use super::backdrop::{Backdrop, Thing};
use super::noise::Noise;
use super::palette::{Palette, Rgb, mix, scale};
use super::shape::{Point, Shape};
use super::texture::{Texture, step};
use crate::{Image, Mask, Rng};

/// Where the object is and how it is turned.
struct Pose {
    centre: Point,
    /// Image units per object unit.
    radius: f32,
    /// Columns of the matrix from image to object directions.
    matrix: [Point; 2],
    warp: f32,
}

impl Pose {
    fn random(shape: &Shape, difficulty: &Difficulty, rng: &mut Rng) -> Self {
        let [low, high] = difficulty.object_area.map(f32::sqrt);
        let side = rng.uniform_f32(low, high);
        // Thin outlines would have to be larger than the image to cover much of it.
        let radius = (side / shape.area().max(0.3).sqrt()).min(0.48);
        let slack = radius * (1.0 - difficulty.outside);
        let [x, y] = [0, 1].map(|_| rng.uniform_f32(slack.min(0.5), (1.0 - slack).max(0.5)));
        let angle = rng.uniform_f32(-difficulty.tilt_rad, difficulty.tilt_rad);
        let mirror = if rng.chance(0.5) { -1.0 } else { 1.0 };
        let stretch = rng.uniform_f32(0.0, 1.0) * (difficulty.stretch - 1.0) + 1.0;
        let stretch = if rng.chance(0.5) { stretch } else { 1.0 / stretch }.sqrt();
        let (s, c) = (sinf(angle), cosf(angle));
        let matrix = [[c * mirror * stretch, -s / stretch], [s * mirror * stretch, c / stretch]];
        Self { centre: [x, y], radius, matrix, warp: difficulty.warp }
    }

    fn local(&self, p: Point, noise: &Noise) -> Point {
        let d = [(p[0] - self.centre[0]) / self.radius, (p[1] - self.centre[1]) / self.radius];
        let q = [
            d[0] * self.matrix[0][0] + d[1] * self.matrix[1][0],
            d[0] * self.matrix[0][1] + d[1] * self.matrix[1][1],
        ];
        let bend = |at: f32| (noise.at(q[0] * 1.6 + at, q[1] * 1.6 - at) - 0.5) * 2.0 * self.warp;
        [q[0] + bend(20.3), q[1] + bend(9.7)]
    }
}

/// The light: where it comes from, how unevenly it falls.
struct Light {
    /// From the scene towards the light, along the image.
    direction: Point,
    gradient: f32,
    /// Exposure and colour of the light, per channel.
    level: Rgb,
}

impl Light {
    fn random(difficulty: &Difficulty, rng: &mut Rng) -> Self {
        let angle = rng.uniform_f32(0.0, std::f32::consts::TAU);
        Self {
            direction: [cosf(angle), sinf(angle)],
            gradient: rng.uniform_f32(0.0, difficulty.light_gradient),
            level: {
                let [dark, bright] = difficulty.exposure;
                let (exposure, cast) = (rng.uniform_f32(dark, bright), difficulty.light_cast);
                std::array::from_fn(|_| exposure * rng.uniform_f32(1.0 - cast, 1.0 + cast))
            },
        }
    }

    fn at(&self, p: Point) -> Rgb {
        let along = (p[0] - 0.5) * self.direction[0] + (p[1] - 0.5) * self.direction[1];
        scale(self.level, 1.0 + self.gradient * along)
    }
}

/// A square field of values, one per pixel.
struct Field {
    side: usize,
    values: Vec<f32>,
}

impl Field {
    fn get(&self, x: i64, y: i64) -> f32 {
        let last = self.side as i64 - 1;
        self.values[y.clamp(0, last) as usize * self.side + x.clamp(0, last) as usize]
    }

    /// Central differences, per pixel.
    fn slope(&self, x: i64, y: i64) -> Point {
        let dx = self.get(x + 1, y) - self.get(x - 1, y);
        let dy = self.get(x, y + 1) - self.get(x, y - 1);
        // At the border the neighbour is the pixel itself.
        let span = |at: i64| if at == 0 || at == self.side as i64 - 1 { 1.0 } else { 0.5 };
        [dx * span(x), dy * span(y)]
    }
}

/// An object: its outline, where it is, and what it is made of.
struct Object {
    shape: Shape,
    pose: Pose,
    skin: Palette,
    texture: Texture,
    noise: Noise,
}

impl Object {
    /// Of a material that stands out against the ground where it is.
    fn random(shape: Shape, pose: Pose, backdrop: &Backdrop, difficulty: &Difficulty, rng: &mut Rng) -> Self {
        let ground = backdrop.palette(pose.centre);
        let usual = rng.chance(difficulty.usual_material);
        let skin = Palette::apart_from(&ground, difficulty.colour_distance, rng, |rng| match usual {
            true => Palette::usual_for(shape.class, rng),
            false => Palette::random(rng),
        });
        let texture = Texture::random(difficulty.texture_contrast, rng);
        let noise = Noise::new(rng);
        Self { shape, pose, skin, texture, noise }
    }

    fn local(&self, p: Point) -> Point {
        self.pose.local(p, &self.noise)
    }

    /// Signed distances in object units; further away only roughly.
    fn field(&self, side: usize) -> Field {
        let reach = self.pose.radius * 1.4;
        let distance = |i: usize| {
            let p = centre_of(i, side);
            let off = [p[0] - self.pose.centre[0], p[1] - self.pose.centre[1]];
            let far = (off[0] * off[0] + off[1] * off[1]).sqrt();
            if far > reach { far / self.pose.radius - 0.9 } else { self.shape.distance(self.local(p)) }
        };
        Field { side, values: (0..side * side).map(distance).collect() }
    }

    /// How much of a pixel it covers, 0..1.
    fn cover(&self, field: &Field, x: i64, y: i64) -> f32 {
        let pixel = 1.0 / field.side as f32;
        let slope = field.slope(x, y);
        let steepness = (slope[0] * slope[0] + slope[1] * slope[1]).sqrt();
        // Distances are in object units; the steepness turns them into pixels.
        (0.5 - field.get(x, y) / steepness.clamp(0.3 * pixel, 6.0 * pixel / self.pose.radius)).clamp(0.0, 1.0)
    }

    /// Draws it with its shadow; `on` hears of the pixels of which it covers more than half.
    fn draw(&self, field: &Field, light: &Light, colours: &mut [Rgb], mut on: impl FnMut(usize)) {
        let side = field.side;
        let shadow = [light.direction[0] * -0.13, light.direction[1] * -0.13];
        let shadow = shadow.map(|v| (v * self.pose.radius * side as f32).round() as i64);
        for (i, colour) in colours.iter_mut().enumerate() {
            let (x, y) = ((i % side) as i64, (i / side) as i64);
            let shade = step(0.16, -0.14, field.get(x - shadow[0], y - shadow[1])) * 0.5;
            *colour = scale(*colour, 1.0 - shade);
            let cover = self.cover(field, x, y);
            if cover > 0.5 {
                on(i);
            }
            if cover > 0.0 {
                let depth = field.get(x, y);
                let p = centre_of(i, side);
                let tone = self.texture.tone(&self.shape, self.local(p), depth, &self.noise);
                let lit = relief(depth, field.slope(x, y), self.pose.radius * side as f32, light);
                *colour = mix(*colour, scale(self.skin.tone(tone), lit), cover);
            }
        }
    }
}

/// The middle of a pixel in image units.
fn centre_of(i: usize, side: usize) -> Point {
    let pixel = 1.0 / side as f32;
    [(i % side) as f32 + 0.5, (i / side) as f32 + 0.5].map(|v| v * pixel)
}

/// Everything a scene is made of, before it is drawn.
pub(crate) struct Plan {
    backdrop: Backdrop,
    /// From the back to the front.
    objects: Vec<Object>,
    light: Light,
    things: Vec<Thing>,
    /// What is left of the randomness, for the pixels.
    rng: Rng,
}

impl Plan {
    /// A scene with one object of a class.
    fn of_one(class: usize, difficulty: &Difficulty, mut rng: Rng) -> Self {
        let shape = Shape::random(class, &mut rng);
        let pose = Pose::random(&shape, difficulty, &mut rng);
        let backdrop = Backdrop::random(difficulty, &mut rng);
        let object = Object::random(shape, pose, &backdrop, difficulty, &mut rng);
        let light = Light::random(difficulty, &mut rng);
        let things = things(difficulty, &mut rng);
        Self { backdrop, objects: vec![object], light, things, rng }
    }

    /// A scene with an object of each class, but for those that find no place beside the others.
    pub fn of_many(classes: &[usize], difficulty: &Difficulty, mut rng: Rng) -> Self {
        /// How often a place is looked for.
        const TRIES: usize = 24;
        /// How near to each other objects may be, as a part of the sum of their radii.
        const NEAR: f32 = 0.7;
        let backdrop = Backdrop::random(difficulty, &mut rng);
        let mut objects: Vec<Object> = Vec::new();
        for &class in classes {
            let shape = Shape::random(class, &mut rng);
            let is_free = |pose: &Pose| {
                objects.iter().all(|other| {
                    let off = [0, 1].map(|axis| pose.centre[axis] - other.pose.centre[axis]);
                    let far = (off[0] * off[0] + off[1] * off[1]).sqrt();
                    far > NEAR * (pose.radius + other.pose.radius)
                })
            };
            let pose = (0..TRIES).map(|_| Pose::random(&shape, difficulty, &mut rng)).find(is_free);
            if let Some(pose) = pose {
                objects.push(Object::random(shape, pose, &backdrop, difficulty, &mut rng));
            }
        }
        let light = Light::random(difficulty, &mut rng);
        let things = things(difficulty, &mut rng);
        Self { backdrop, objects, light, things, rng }
    }

    /// The class of each object.
    pub fn classes(&self) -> Vec<u32> {
        self.objects.iter().map(|object| object.shape.class as u32).collect()
    }

    /// The pixels of which each object covers more than half, whether it is seen there or not: lists of `[height, width]`.
    pub fn covered(&self, size_px: u32) -> Vec<Vec<bool>> {
        let side = size_px as usize;
        let covered = |object: &Object| {
            let field = object.field(side);
            (0..side * side).map(|i| object.cover(&field, (i % side) as i64, (i / side) as i64) > 0.5).collect()
        };
        self.objects.iter().map(covered).collect()
    }

    /// The picture; `on` hears of an object and a pixel of which it covers more than half.
    pub fn image(mut self, size_px: u32, difficulty: &Difficulty, mut on: impl FnMut(usize, usize)) -> Image {
        let side = size_px as usize;
        let mut colours: Vec<Rgb> = (0..side * side).map(|i| self.backdrop.colour(centre_of(i, side))).collect();
        for thing in &self.things {
            draw_thing(thing, &self.light, &mut colours, side);
        }
        for (at, object) in self.objects.iter().enumerate() {
            object.draw(&object.field(side), &self.light, &mut colours, |pixel| on(at, pixel));
        }
        let sigma = self.rng.uniform_f32(1.0, difficulty.noise_levels.max(1.0));
        let mut data = vec![0u8; side * side * 3];
        for (i, (bytes, colour)) in data.chunks_exact_mut(3).zip(&colours).enumerate() {
            let light = self.light.at(centre_of(i, side));
            let lit: Rgb = std::array::from_fn(|c| 255.0 * colour[c] * light[c]);
            for (byte, value) in bytes.iter_mut().zip(lit) {
                *byte = (value + sigma * bell(&mut self.rng) + 0.5) as u8;
            }
        }
        Image { width: size_px, height: size_px, data }
    }
}

fn things(difficulty: &Difficulty, rng: &mut Rng) -> Vec<Thing> {
    let [few, many] = difficulty.clutter;
    let count = few + rng.below(u64::from(many.saturating_sub(few)) + 1) as u32;
    (0..count).map(|_| Thing::random(difficulty, rng)).collect()
}

/// Draws a scene of a class: the image, and the pixels of which the object covers more than half.
pub(super) fn scene(class: usize, size_px: u32, difficulty: &Difficulty, rng: Rng) -> (Image, Mask) {
    let plan = Plan::of_one(class, difficulty, rng);
    let mut mask = vec![0u8; size_px as usize * size_px as usize];
    let image = plan.image(size_px, difficulty, |_, pixel| mask[pixel] = 1);
    (image, Mask { width: size_px, height: size_px, data: mask })
}

/// Brightness of the object's surface, which bulges towards the viewer and falls off to its outline.
fn relief(depth: f32, slope: Point, pixels_per_unit: f32, light: &Light) -> f32 {
    const BULGE: f32 = 0.35;
    let inside = (-depth / BULGE).clamp(0.0, 1.0);
    // Steep at the outline, flat further in. The slope of the distance points outwards.
    let tilt = (1.0 - inside) * 0.9;
    let outward = [slope[0] * pixels_per_unit, slope[1] * pixels_per_unit];
    let long = (outward[0] * outward[0] + outward[1] * outward[1]).sqrt().max(1.0);
    let facing = (outward[0] * light.direction[0] + outward[1] * light.direction[1]) / long;
    0.98 + 0.42 * facing * tilt - 0.12 * tilt
}

fn draw_thing(thing: &Thing, light: &Light, colours: &mut [Rgb], side: usize) {
    let pixel = 1.0 / side as f32;
    let (centre, radius) = thing.bounds();
    let range = |c: f32| {
        let low = ((c - radius) * side as f32).floor().clamp(0.0, side as f32) as usize;
        let high = ((c + radius) * side as f32).ceil().clamp(0.0, side as f32) as usize;
        low..high
    };
    for y in range(centre[1]) {
        for x in range(centre[0]) {
            let p = [(x as f32 + 0.5) * pixel, (y as f32 + 0.5) * pixel];
            let behind = [p[0] + light.direction[0] * 0.015, p[1] + light.direction[1] * 0.015];
            let shade = step(0.02, -0.02, thing.distance(behind)) * 0.35;
            let cover = (0.5 - thing.distance(p) / pixel).clamp(0.0, 1.0);
            let colour = &mut colours[y * side + x];
            *colour = mix(scale(*colour, 1.0 - shade), thing.colour(p), cover);
        }
    }
}

/// Roughly normal, standard deviation 1: the sum of four uniform 16-bit numbers from one draw.
fn bell(rng: &mut Rng) -> f32 {
    let bits = rng.next_u64();
    let sum = (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48);
    // Four uniforms of width 1 have variance 4/12.
    (sum as f32 / 65535.0 - 2.0) * 1.732
}
