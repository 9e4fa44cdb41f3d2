// [main] Colours and spacing.

use egui::{Color32, CornerRadius, FontFamily, FontId, Stroke, TextStyle, Theme, Visuals, vec2};

use crate::damage::DamageKind;

/// Window background, panels, and what lies in them.
pub const BACKGROUND: Color32 = Color32::from_rgb(0x16, 0x18, 0x1d);
pub const PANEL: Color32 = Color32::from_rgb(0x1e, 0x21, 0x28);
pub const WELL: Color32 = Color32::from_rgb(0x11, 0x13, 0x17);
pub const LINE: Color32 = Color32::from_rgb(0x2e, 0x33, 0x3d);
/// Text, from loud to quiet.
pub const TEXT: Color32 = Color32::from_rgb(0xe6, 0xe9, 0xef);
pub const TEXT_DIM: Color32 = Color32::from_rgb(0x9a, 0xa3, 0xb2);
/// The instrument's own colour, for values and actions.
pub const ACCENT: Color32 = Color32::from_rgb(0x5e, 0xc8, 0xb8);
pub const ACCENT_DIM: Color32 = Color32::from_rgb(0x2f, 0x6b, 0x64);
pub const WARNING: Color32 = Color32::from_rgb(0xe8, 0xb4, 0x4c);
pub const PROBLEM: Color32 = Color32::from_rgb(0xe8, 0x6a, 0x5e);
/// The undamaged waveform.
pub const WAVE: Color32 = Color32::from_rgb(0x7d, 0x89, 0x9c);

/// Rounding of panels and wells.
pub const RADIUS: u8 = 6;
/// Space between panels.
pub const GAP: f32 = 8.0;

/// One colour a kind of damage, told apart also by lightness.
pub const fn damage(kind: DamageKind) -> Color32 {
    match kind {
        DamageKind::Clipping => Color32::from_rgb(0xf2, 0x5f, 0x5c),
        DamageKind::Saturation => Color32::from_rgb(0xf7, 0x9d, 0x5c),
        DamageKind::Click => Color32::from_rgb(0xf6, 0xe2, 0x7a),
        DamageKind::Dropout => Color32::from_rgb(0xc7, 0x7d, 0xff),
        DamageKind::BandLimit => Color32::from_rgb(0x5a, 0x9c, 0xf8),
        DamageKind::Noise => Color32::from_rgb(0x8f, 0xb8, 0x8a),
        DamageKind::Reverb => Color32::from_rgb(0x4f, 0xc3, 0xe0),
        DamageKind::Codec => Color32::from_rgb(0xd9, 0x6f, 0xa8),
    }
}

/// Makes a context look like Uncook.
pub fn apply(ctx: &egui::Context) {
    ctx.set_theme(Theme::Dark);
    let mut visuals = Visuals::dark();
    visuals.override_text_color = Some(TEXT);
    visuals.panel_fill = BACKGROUND;
    visuals.window_fill = PANEL;
    visuals.extreme_bg_color = WELL;
    visuals.faint_bg_color = PANEL;
    visuals.window_stroke = Stroke::new(1.0, LINE);
    visuals.selection.bg_fill = ACCENT_DIM;
    visuals.selection.stroke = Stroke::new(1.0, ACCENT);
    visuals.hyperlink_color = ACCENT;
    let widgets = &mut visuals.widgets;
    for (state, fill, stroke) in [
        (&mut widgets.noninteractive, PANEL, LINE),
        (
            &mut widgets.inactive,
            Color32::from_rgb(0x2a, 0x2f, 0x39),
            LINE,
        ),
        (
            &mut widgets.hovered,
            Color32::from_rgb(0x35, 0x3b, 0x47),
            ACCENT_DIM,
        ),
        (&mut widgets.active, ACCENT_DIM, ACCENT),
        (
            &mut widgets.open,
            Color32::from_rgb(0x35, 0x3b, 0x47),
            ACCENT_DIM,
        ),
    ] {
        state.bg_fill = fill;
        state.weak_bg_fill = fill;
        state.bg_stroke = Stroke::new(1.0, stroke);
        state.corner_radius = CornerRadius::same(4);
        state.expansion = 0.0;
    }
    ctx.set_visuals_of(Theme::Dark, visuals);
    ctx.all_styles_mut(|style| {
        style.text_styles = [
            (
                TextStyle::Heading,
                FontId::new(18.0, FontFamily::Proportional),
            ),
            (TextStyle::Body, FontId::new(13.0, FontFamily::Proportional)),
            (
                TextStyle::Button,
                FontId::new(13.0, FontFamily::Proportional),
            ),
            (
                TextStyle::Small,
                FontId::new(11.0, FontFamily::Proportional),
            ),
            (
                TextStyle::Monospace,
                FontId::new(12.0, FontFamily::Monospace),
            ),
        ]
        .into();
        style.spacing.item_spacing = vec2(8.0, 6.0);
        style.spacing.button_padding = vec2(10.0, 4.0);
        style.interaction.selectable_labels = false;
    });
}
