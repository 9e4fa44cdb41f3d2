// [main] Colours, type and spacing: a dark and a light palette, checked for contrast and for colour-blind eyes.

use std::sync::{Arc, LazyLock};

use egui::{
    Color32, CornerRadius, FontData, FontDefinitions, FontFamily, FontId, Margin, RichText, Stroke,
    TextStyle, Theme, Ui, Visuals, vec2,
};

use crate::damage::DamageKind;

/// Every colour there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Palette {
    /// Window, panels on it, controls on them, and what lies in them.
    pub background: Color32,
    pub panel: Color32,
    pub raised: Color32,
    pub well: Color32,
    pub line: Color32,
    /// Text, from loud to quiet.
    pub text: Color32,
    pub dim: Color32,
    /// The instrument's own colour: values, what was repaired, the next step. Then text on it.
    pub accent: Color32,
    pub on_accent: Color32,
    /// Backgrounds of chosen things.
    pub chosen: Color32,
    pub warning: Color32,
    pub problem: Color32,
    /// The undamaged waveform.
    pub wave: Color32,
    /// One a kind of damage.
    damage: [Color32; DamageKind::COUNT],
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// For dark rooms.
pub static DARK: Palette = Palette {
    background: rgb(0x11_13_18),
    panel: rgb(0x19_1c_23),
    raised: rgb(0x28_2d_37),
    well: rgb(0x0b_0d_11),
    line: rgb(0x2f_35_41),
    text: rgb(0xe9_ec_f2),
    dim: rgb(0xa3_ac_bb),
    accent: rgb(0x5f_d3_c0),
    on_accent: rgb(0x07_1a_18),
    chosen: rgb(0x1f_4a_46),
    warning: rgb(0xf0_b9_4a),
    problem: rgb(0xff_7b_6b),
    wave: rgb(0x7f_8b_a0),
    // Found by a search for the largest least distance (CIELAB, 32 here and 19 in the light palette) of
    // any two under normal, protan, deutan and tritan vision (Machado et al. 2009), with a contrast of 3
    // at least against the well. `contrast_and_distance` holds them to it.
    damage: [
        rgb(0xcd_15_28),
        rgb(0xe6_9f_14),
        rgb(0xfa_f9_91),
        rgb(0x91_5f_8d),
        rgb(0x5b_46_e0),
        rgb(0x23_b2_76),
        rgb(0xba_ff_e8),
        rgb(0xaf_98_f6),
    ],
};

/// For daylight.
pub static LIGHT: Palette = Palette {
    background: rgb(0xe4_e7_ec),
    panel: rgb(0xf4_f6_f9),
    raised: rgb(0xdd_e2_ea),
    well: rgb(0xff_ff_ff),
    line: rgb(0xbf_c6_d1),
    text: rgb(0x1a_1e_26),
    dim: rgb(0x4f_58_67),
    accent: rgb(0x0b_72_66),
    on_accent: rgb(0xff_ff_ff),
    chosen: rgb(0xc2_e6_e0),
    warning: rgb(0x8a_53_00),
    problem: rgb(0xb3_24_1b),
    wave: rgb(0x76_81_94),
    damage: [
        rgb(0xff_00_35),
        rgb(0x69_96_46),
        rgb(0x54_62_00),
        rgb(0x7c_39_85),
        rgb(0x14_65_d6),
        rgb(0x0c_55_51),
        rgb(0x25_a2_a1),
        rgb(0x2e_27_be),
    ],
};

impl Palette {
    /// The colour of a kind of damage, for areas. Never the only sign: names stand beside it.
    pub const fn damage(&self, kind: DamageKind) -> Color32 {
        self.damage[kind as usize]
    }
}

/// Everything lies on a grid of four points. Space between panels, and inside them.
pub const GAP: f32 = 8.0;
pub const INSIDE: i8 = 12;
/// Rounding of panels and wells, and of buttons on them.
pub const RADIUS: u8 = 8;
pub const BUTTON_RADIUS: u8 = 5;
/// Sizes of type: what is said first, text, notes.
pub const HEADLINE: f32 = 17.0;
pub const BODY: f32 = 13.0;
pub const SMALL: f32 = 11.0;

/// Inter, cut down to what the editor writes (`fonts/subset.py`), under the Open Font License (`fonts/OFL.txt`).
const REGULAR: &[u8] = include_bytes!("fonts/Inter-Regular.otf");
const SEMI_BOLD: &[u8] = include_bytes!("fonts/Inter-SemiBold.otf");

static STRONG: LazyLock<FontFamily> = LazyLock::new(|| FontFamily::Name("semibold".into()));

/// The semibold face, for titles and what is chosen.
pub fn strong(size: f32) -> FontId {
    FontId::new(size, STRONG.clone())
}

/// The title of a panel.
pub fn title(palette: &Palette, text: &str) -> RichText {
    RichText::new(text).font(strong(SMALL)).color(palette.dim)
}

/// The palette that `ui` is drawn in.
pub fn of(ui: &Ui) -> &'static Palette {
    if ui.visuals().dark_mode {
        &DARK
    } else {
        &LIGHT
    }
}

/// A box on the window.
pub fn panel(palette: &Palette) -> egui::Frame {
    egui::Frame::new()
        .fill(palette.panel)
        .stroke(Stroke::new(1.0, palette.line))
        .corner_radius(CornerRadius::same(RADIUS))
        .inner_margin(Margin::symmetric(INSIDE, 10))
}

/// Makes a new context look like Uncook: before its first picture.
pub fn begin(ctx: &egui::Context, light: bool) {
    // What Inter's part lacks is drawn by the faces that egui brings.
    let mut fonts = FontDefinitions::default();
    let fallback = fonts.families.get(&FontFamily::Proportional).cloned();
    for (name, bytes, family) in [
        ("Inter", REGULAR, FontFamily::Proportional),
        ("Inter SemiBold", SEMI_BOLD, STRONG.clone()),
    ] {
        (fonts.font_data).insert(name.to_owned(), Arc::new(FontData::from_static(bytes)));
        let mut names = vec![name.to_owned()];
        names.extend(fallback.iter().flatten().cloned());
        fonts.families.insert(family, names);
    }
    ctx.set_fonts(fonts);
    apply(ctx, light);
}

/// Makes a context dark or light.
pub fn apply(ctx: &egui::Context, light: bool) {
    for (theme, palette) in [(Theme::Dark, &DARK), (Theme::Light, &LIGHT)] {
        ctx.set_visuals_of(theme, visuals(theme, palette));
    }
    ctx.set_theme(if light { Theme::Light } else { Theme::Dark });
    ctx.all_styles_mut(|style| {
        let font = |size, family| FontId::new(size, family);
        style.text_styles = [
            (TextStyle::Heading, strong(HEADLINE)),
            (TextStyle::Body, font(BODY, FontFamily::Proportional)),
            (TextStyle::Button, font(BODY, FontFamily::Proportional)),
            (TextStyle::Small, font(SMALL, FontFamily::Proportional)),
            (TextStyle::Monospace, font(12.0, FontFamily::Monospace)),
        ]
        .into();
        style.spacing.item_spacing = vec2(6.0, 4.0);
        style.spacing.button_padding = vec2(8.0, 3.0);
        style.spacing.interact_size.y = 22.0;
        style.interaction.selectable_labels = false;
        // Beside what is scrolled, not over it.
        style.spacing.scroll.floating_allocated_width = 8.0;
    });
}

fn visuals(theme: Theme, palette: &Palette) -> Visuals {
    let mut visuals = match theme {
        Theme::Dark => Visuals::dark(),
        Theme::Light => Visuals::light(),
    };
    visuals.override_text_color = Some(palette.text);
    visuals.panel_fill = palette.background;
    visuals.window_fill = palette.panel;
    visuals.extreme_bg_color = palette.well;
    visuals.faint_bg_color = palette.panel;
    visuals.window_stroke = Stroke::new(1.0, palette.line);
    visuals.selection.bg_fill = palette.chosen;
    visuals.selection.stroke = Stroke::new(1.0, palette.accent);
    visuals.hyperlink_color = palette.accent;
    let widgets = &mut visuals.widgets;
    for (state, fill, stroke) in [
        (&mut widgets.noninteractive, palette.panel, palette.line),
        (&mut widgets.inactive, palette.raised, palette.line),
        (&mut widgets.hovered, palette.raised, palette.accent),
        (&mut widgets.active, palette.chosen, palette.accent),
        (&mut widgets.open, palette.raised, palette.accent),
    ] {
        state.bg_fill = fill;
        state.weak_bg_fill = fill;
        state.bg_stroke = Stroke::new(1.0, stroke);
        state.fg_stroke = Stroke::new(1.0, palette.text);
        state.corner_radius = CornerRadius::same(BUTTON_RADIUS);
        state.expansion = 0.0;
    }
    visuals
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linear light, 0..=1.
    fn linear(colour: Color32) -> [f64; 3] {
        [colour.r(), colour.g(), colour.b()].map(|c| {
            let c = f64::from(c) / 255.0;
            if c <= 0.04045 {
                c / 12.92
            } else {
                ((c + 0.055) / 1.055).powf(2.4)
            }
        })
    }

    /// WCAG 2.2's contrast ratio, 1..=21.
    fn contrast(a: Color32, b: Color32) -> f64 {
        let light = |c| {
            let [r, g, b] = linear(c);
            0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05
        };
        let (a, b) = (light(a), light(b));
        a.max(b) / a.min(b)
    }

    /// Full protanopia, deuteranopia and tritanopia (Machado, Oliveira, Fernandes 2009), and none.
    const EYES: [[[f64; 3]; 3]; 4] = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [
            [0.152_286, 1.052_583, -0.204_868],
            [0.114_503, 0.786_281, 0.099_216],
            [-0.003_882, -0.048_116, 1.051_998],
        ],
        [
            [0.367_322, 0.860_646, -0.227_968],
            [0.280_085, 0.672_501, 0.047_413],
            [-0.011_820, 0.042_940, 0.968_881],
        ],
        [
            [1.255_528, -0.076_749, -0.178_779],
            [-0.078_411, 0.930_809, 0.147_602],
            [0.004_733, 0.691_367, 0.303_900],
        ],
    ];

    fn lab(colour: Color32, eye: &[[f64; 3]; 3]) -> [f64; 3] {
        let rgb = linear(colour);
        let [r, g, b] = [0, 1, 2].map(|i| {
            (0..3)
                .map(|j| eye[i][j] * rgb[j])
                .sum::<f64>()
                .clamp(0.0, 1.0)
        });
        let x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505;
        let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        let z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089;
        let f = |t: f64| {
            if t > 0.008_856 {
                t.cbrt()
            } else {
                7.787 * t + 16.0 / 116.0
            }
        };
        [
            116.0 * f(y) - 16.0,
            500.0 * (f(x) - f(y)),
            200.0 * (f(y) - f(z)),
        ]
    }

    #[test]
    fn contrast_and_distance() {
        assert!((contrast(Color32::BLACK, Color32::WHITE) - 21.0).abs() < 1e-9);
        for p in [&DARK, &LIGHT] {
            // WCAG AA: 4.5 for text.
            for ground in [p.background, p.panel, p.raised, p.well] {
                for text in [p.text, p.dim] {
                    assert!(contrast(text, ground) >= 4.5, "{text:?} on {ground:?}");
                }
            }
            for ground in [p.background, p.panel, p.well] {
                for text in [p.accent, p.warning, p.problem] {
                    assert!(contrast(text, ground) >= 4.5, "{text:?} on {ground:?}");
                }
            }
            assert!(contrast(p.text, p.chosen) >= 4.5);
            // A segment that is not chosen lies in a well, what is disabled is text all the same.
            assert!(contrast(p.accent, p.chosen) >= 3.0);
            assert!(contrast(p.on_accent, p.accent) >= 4.5);
            assert!(contrast(p.on_accent, p.warning) >= 4.5);
            assert!(contrast(p.on_accent, p.problem) >= 4.5);
            // And 3 for what isn't text: the ring of the focus, handles, waves, damage.
            for ground in [p.background, p.panel, p.raised, p.well] {
                assert!(contrast(p.accent, ground) >= 3.0, "focus on {ground:?}");
                assert!(contrast(p.text, ground) >= 3.0);
            }
            assert!(contrast(p.wave, p.well) >= 3.0);
            for kind in DamageKind::ALL {
                assert!(contrast(p.damage(kind), p.well) >= 3.0, "{kind:?}");
            }
            for eye in &EYES {
                for a in DamageKind::ALL {
                    for b in DamageKind::ALL.into_iter().filter(|b| *b > a) {
                        let (x, y) = (lab(p.damage(a), eye), lab(p.damage(b), eye));
                        let d = (0..3).map(|i| (x[i] - y[i]).powi(2)).sum::<f64>().sqrt();
                        assert!(d > 15.0, "{a:?} and {b:?} are {d:.1} apart");
                    }
                }
            }
        }
    }
}
