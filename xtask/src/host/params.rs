// [main] A hosted plugin's parameters: found by string id, CLAP id or name, set from numbers or text.

use clack_extensions::params::ParamInfoFlags;
use clack_host::prelude::ClapId;

/// A parameter's id in CLAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamId(pub ClapId);

/// What a plugin says about one of its parameters.
#[derive(Clone, Debug)]
pub struct Param {
    pub id: ParamId,
    pub name: String,
    /// Slash-separated group.
    pub module: String,
    pub min: f64,
    pub max: f64,
    pub default: f64,
    pub flags: ParamInfoFlags,
}

impl Param {
    /// Whether values are whole numbers.
    pub fn is_stepped(&self) -> bool {
        self.flags.contains(ParamInfoFlags::IS_STEPPED)
    }

    /// Whether a host may automate it.
    pub fn is_automatable(&self) -> bool {
        self.flags.contains(ParamInfoFlags::IS_AUTOMATABLE)
    }
}

/// The CLAP id that nice-plug 0.4 makes of a parameter's string id (`hash_param_id`: a base-31
/// polynomial over the bytes, modulo 2³², the top bit cleared because VST3 keeps it for hosts).
pub fn clap_id_of(string_id: &str) -> Option<ClapId> {
    let hash = string_id
        .bytes()
        .fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    ClapId::from_raw(hash & !(1 << 31))
}

/// The parameter meant by `key`: its string id, else its visible name in any case.
pub fn find<'a>(params: &'a [Param], key: &str) -> Option<&'a Param> {
    let by_id = clap_id_of(key).and_then(|id| params.iter().find(|p| p.id.0 == id));
    by_id.or_else(|| params.iter().find(|p| p.name.eq_ignore_ascii_case(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(id: &str, name: &str) -> Param {
        Param {
            id: ParamId(clap_id_of(id).unwrap()),
            name: name.into(),
            module: String::new(),
            min: 0.0,
            max: 1.0,
            default: 0.0,
            flags: ParamInfoFlags::empty(),
        }
    }

    #[test]
    fn string_ids_hash_as_nice_plug_does() {
        // By hand: "ab" = 97 · 31 + 98.
        assert_eq!(clap_id_of("ab").unwrap().get(), 97 * 31 + 98);
        // Java's String.hashCode is the same polynomial: "polygenelubricants" is its known i32::MIN.
        assert_eq!(clap_id_of("polygenelubricants").unwrap().get(), 0);
    }

    #[test]
    fn a_parameter_is_found_by_id_before_name() {
        let params = [param("mix", "Dry/Wet"), param("blend", "Mix")];
        assert_eq!(find(&params, "mix").unwrap().name, "Dry/Wet");
        assert_eq!(find(&params, "dry/wet").unwrap().name, "Dry/Wet");
        assert_eq!(find(&params, "Blend").map(|p| p.name.as_str()), None);
        assert_eq!(find(&params, "blend").unwrap().name, "Mix");
    }
}
