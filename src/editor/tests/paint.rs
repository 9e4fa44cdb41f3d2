// [main] A small software renderer for pictures of the editor, and how two pictures are compared.

use std::{cell::RefCell, collections::HashMap, fs::File, io::BufReader, path::Path, rc::Rc};

use egui::{
    Color32, ColorImage, ImageData, Mesh, Rect, TextureId, TexturesDelta,
    epaint::{ClippedPrimitive, Primitive},
};
use egui_kittest::TestRenderer;

/// Red, green and blue, rows from the top.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<[u8; 3]>,
}

/// The textures that the harness was told of.
#[derive(Clone, Default)]
pub struct Textures(Rc<RefCell<HashMap<TextureId, ColorImage>>>);

impl TestRenderer for Textures {
    fn handle_delta(&mut self, delta: &mut TexturesDelta) {
        let delta = std::mem::take(delta);
        let mut textures = self.0.borrow_mut();
        for (id, parts) in delta.set.clone() {
            for part in parts {
                let ImageData::Color(image) = &part.image;
                match (part.pos, textures.get_mut(&id)) {
                    (Some([left, top]), Some(whole)) => {
                        for y in 0..image.size[1] {
                            let from = y * image.size[0];
                            let to = (top + y) * whole.size[0] + left;
                            whole.pixels[to..to + image.size[0]]
                                .copy_from_slice(&image.pixels[from..from + image.size[0]]);
                        }
                    }
                    _ => {
                        textures.insert(id, ColorImage::clone(image));
                    }
                }
            }
        }
        for id in &delta.free {
            textures.remove(id);
        }
        delta.drop_without_applying();
    }
}

/// Says that a delta has been dealt with: dropping one that wasn't is a panic of egui's.
trait Dealt {
    fn drop_without_applying(self);
}

impl Dealt for TexturesDelta {
    fn drop_without_applying(mut self) {
        self.clear();
    }
}

impl Textures {
    /// Draws tessellated shapes as egui's own renderers do: premultiplied colours, blended as they are.
    pub fn draw(&self, primitives: &[ClippedPrimitive], size: [usize; 2], scale: f32) -> Picture {
        let mut target = Target {
            width: size[0],
            height: size[1],
            pixels: vec![[0.0; 3]; size[0] * size[1]],
            scale,
        };
        let textures = self.0.borrow();
        for primitive in primitives {
            if let Primitive::Mesh(mesh) = &primitive.primitive {
                let texture = textures.get(&mesh.texture_id);
                target.mesh(mesh, primitive.clip_rect, texture);
            }
        }
        Picture {
            width: size[0],
            height: size[1],
            pixels: (target.pixels.iter())
                .map(|p| p.map(|c| c.round().clamp(0.0, 255.0) as u8))
                .collect(),
        }
    }
}

struct Target {
    width: usize,
    height: usize,
    pixels: Vec<[f32; 3]>,
    scale: f32,
}

impl Target {
    fn mesh(&mut self, mesh: &Mesh, clip: Rect, texture: Option<&ColorImage>) {
        for corners in mesh.indices.chunks_exact(3) {
            let v = [0, 1, 2].map(|i| mesh.vertices[corners[i] as usize]);
            let p = v.map(|v| [v.pos.x * self.scale, v.pos.y * self.scale]);
            let area = edge(p[0], p[1], p[2]);
            if area == 0.0 || !area.is_finite() {
                continue;
            }
            // Turn all triangles the same way round.
            let order = if area > 0.0 { [0, 1, 2] } else { [0, 2, 1] };
            let (p, v) = (order.map(|i| p[i]), order.map(|i| v[i]));
            let area = area.abs();
            let (left, right) = self.range(p.map(|p| p[0]), clip.left(), clip.right(), self.width);
            let (top, bottom) = self.range(p.map(|p| p[1]), clip.top(), clip.bottom(), self.height);
            // Most pixels are of one colour without a texture's picture: no need to mix.
            let flat = v[1].color == v[0].color && v[2].color == v[0].color;
            let plain = v[1].uv == v[0].uv && v[2].uv == v[0].uv;
            let one = (flat && plain).then(|| {
                let texel = texture.map_or([255.0; 4], |t| sample(t, [v[0].uv.x, v[0].uv.y]));
                let colour = v[0].color.to_array();
                std::array::from_fn(|c| f32::from(colour[c]) * texel[c] / 255.0)
            });
            for y in top..bottom {
                for x in left..right {
                    let at = [x as f32 + 0.5, y as f32 + 0.5];
                    let w = [
                        edge(p[1], p[2], at),
                        edge(p[2], p[0], at),
                        edge(p[0], p[1], at),
                    ];
                    let inside = (0..3).all(|i| {
                        w[i] > 0.0 || (w[i] == 0.0 && owns(p[(i + 1) % 3], p[(i + 2) % 3]))
                    });
                    if !inside {
                        continue;
                    }
                    let pixel = &mut self.pixels[y * self.width + x];
                    if let Some(colour) = one {
                        let colour: [f32; 4] = colour;
                        for (old, new) in pixel.iter_mut().zip(colour) {
                            *old = new + *old * (1.0 - colour[3] / 255.0);
                        }
                        continue;
                    }
                    let mix =
                        |f: &dyn Fn(usize) -> f32| (0..3).map(|i| w[i] * f(i)).sum::<f32>() / area;
                    let uv = [mix(&|i| v[i].uv.x), mix(&|i| v[i].uv.y)];
                    let texel = texture.map_or([255.0; 4], |t| sample(t, uv));
                    let colour: [f32; 4] = std::array::from_fn(|c| {
                        mix(&|i| f32::from(v[i].color.to_array()[c])) * texel[c] / 255.0
                    });
                    for (old, new) in pixel.iter_mut().zip(colour) {
                        *old = new + *old * (1.0 - colour[3] / 255.0);
                    }
                }
            }
        }
    }

    /// Pixels that a triangle may touch along an axis.
    fn range(&self, at: [f32; 3], low: f32, high: f32, size: usize) -> (usize, usize) {
        let min = at
            .iter()
            .copied()
            .fold(f32::MAX, f32::min)
            .max((low * self.scale).round());
        let max = at
            .iter()
            .copied()
            .fold(f32::MIN, f32::max)
            .min((high * self.scale).round());
        let from = min.floor().clamp(0.0, size as f32) as usize;
        (
            from,
            (max.ceil().clamp(0.0, size as f32) as usize).max(from),
        )
    }
}

fn edge(a: [f32; 2], b: [f32; 2], c: [f32; 2]) -> f32 {
    (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
}

/// Top and left edges own the pixels on them, so that neighbours don't both draw them.
fn owns(a: [f32; 2], b: [f32; 2]) -> bool {
    (a[1] == b[1] && b[0] > a[0]) || b[1] < a[1]
}

fn sample(texture: &ColorImage, uv: [f32; 2]) -> [f32; 4] {
    let [width, height] = texture.size;
    let axis = |t: f32, size: usize| {
        let at = (t * size as f32 - 0.5).clamp(0.0, (size - 1) as f32);
        let low = at.floor() as usize;
        (low, (low + 1).min(size - 1), at - low as f32)
    };
    let ((x0, x1, fx), (y0, y1, fy)) = (axis(uv[0], width), axis(uv[1], height));
    let at = |x: usize, y: usize| texture.pixels[y * width + x].to_array().map(f32::from);
    let (a, b, c, d) = (at(x0, y0), at(x1, y0), at(x0, y1), at(x1, y1));
    std::array::from_fn(|i| {
        let top = a[i] + fx * (b[i] - a[i]);
        let bottom = c[i] + fx * (d[i] - c[i]);
        top + fy * (bottom - top)
    })
}

/// Side of the squares that are compared, in points: a third of the smallest control.
const SQUARE: usize = 8;
/// Largest difference of a square's mean colour, of 255. A hundredth of the way is rounding, a faint control is more.
const TOLERANCE: f32 = 12.0;

impl Picture {
    pub fn read(path: &Path) -> Option<Self> {
        let decoder = png::Decoder::new(BufReader::new(File::open(path).ok()?));
        let mut reader = decoder.read_info().ok()?;
        let mut bytes = vec![0; reader.output_buffer_size()?];
        let info = reader.next_frame(&mut bytes).ok()?;
        Some(Self {
            width: info.width as usize,
            height: info.height as usize,
            pixels: bytes.chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect(),
        })
    }

    pub fn write(&self, path: &Path) {
        let file = File::create(path).unwrap();
        let mut encoder = png::Encoder::new(file, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::High);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(self.pixels.as_flattened()).unwrap();
    }

    /// Fills a rectangle of points.
    pub fn erase(&mut self, rect: Rect, scale: f32, colour: Color32) {
        let side = |a: f32, b: f32, size: usize| {
            (a * scale).round() as usize..((b * scale).round() as usize).min(size)
        };
        for y in side(rect.top(), rect.bottom(), self.height) {
            for x in side(rect.left(), rect.right(), self.width) {
                self.pixels[y * self.width + x] = [colour.r(), colour.g(), colour.b()];
            }
        }
    }

    fn square(&self, x: usize, y: usize, side: usize) -> [f32; 3] {
        let mut sum = [0.0; 3];
        for row in y..y + side {
            for pixel in &self.pixels[row * self.width + x..row * self.width + x + side] {
                for (sum, c) in sum.iter_mut().zip(pixel) {
                    *sum += f32::from(*c);
                }
            }
        }
        sum.map(|s| s / (side * side) as f32)
    }

    /// Number of squares in which the two look different; `None` if they differ in size.
    pub fn differences(&self, other: &Self, scale: f32) -> Option<usize> {
        if (self.width, self.height) != (other.width, other.height) {
            return None;
        }
        let side = (SQUARE as f32 * scale) as usize;
        let mut count = 0;
        for y in (0..self.height / side).map(|y| y * side) {
            for x in (0..self.width / side).map(|x| x * side) {
                let (a, b) = (self.square(x, y, side), other.square(x, y, side));
                count += usize::from((0..3).any(|c| (a[c] - b[c]).abs() > TOLERANCE));
            }
        }
        Some(count)
    }
}
