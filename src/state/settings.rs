//! What the metadata of a state file says of a layer: the norm and its settings.
//!
//! The tensors do not tell an `eps` of 1e-3 from one of 1e-5, and a file in torch's form does not have it.

use super::file::StateFile;
use super::norms::Description;
use crate::error::StateError;

/// What the entry of a layer begins with, before its prefix.
const LAYER: &str = "wgpu-norm/layer/";

/// The key of a layer's entry.
pub fn key(prefix: &str) -> String {
    format!("{LAYER}{prefix}")
}

/// The entry of a layer: `norm=batch eps=1e-5 num_features=64 momentum=0.1`.
pub fn entry(layer: &Description) -> String {
    let norm = ("norm", layer.norm.to_string());
    let settings = [norm].into_iter().chain(layer.settings.iter().cloned());
    let words: Vec<String> = settings
        .map(|(setting, value)| format!("{setting}={value}"))
        .collect();
    words.join(" ")
}

/// The settings that a file has otherwise than the layer. A setting that the file does not have is none of them, one that
/// the layer does not have is.
pub fn differences(file: &StateFile, prefix: &str, layer: &Description) -> Vec<StateError> {
    let Some(entry) = file.metadata().get(&key(prefix)) else {
        return Vec::new();
    };
    let norm = layer.norm.to_string();
    let mut differences = Vec::new();
    for word in entry.split_whitespace() {
        let (setting, value) = word.split_once('=').unwrap_or((word, ""));
        let own = layer.settings.iter().find(|(own, _)| *own == setting);
        let own = match setting {
            "norm" => norm.as_str(),
            _ => own.map_or("unknown", |(_, own)| own.as_str()),
        };
        if !same(setting, value, own) {
            differences.push(StateError::Setting {
                layer: prefix.to_owned(),
                field: setting.to_owned(),
                file: value.to_owned(),
                given: own.to_owned(),
            });
        }
    }
    differences
}

/// Are the words equal, or is the number the same, in another form? A momentum of 0.01 and one of 0.99 in Keras' convention
/// differ by a rounding.
fn same(setting: &str, a: &str, b: &str) -> bool {
    let tolerance = match setting {
        "momentum" => f32::EPSILON,
        _ => 0.0,
    };
    let near = |a: f32, b: f32| a == b || (a - b).abs() <= tolerance;
    a == b || matches!((a.parse(), b.parse()), (Ok(a), Ok(b)) if near(a, b))
}
