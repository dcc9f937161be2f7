//! State files: what comes back, what is refused, and what survives.

mod bytes;
mod disk;
mod layers;
mod names;
mod torch;
mod values;

use wgpu_norm::batch_norm::State;
use wgpu_norm::state::{Naming, StateFile, StoredTensor, safetensors::Dtype};
use wgpu_norm::{BatchNormConfig, LayerNormConfig};

/// A state of three channels.
fn three_channels() -> State {
    let mut state = State::default();
    state.weight = Some(vec![1.5, -2.0, f32::MIN_POSITIVE]);
    state.bias = Some(vec![0.1, -0.0, 1e-40]);
    state.running_mean = Some(vec![-3.0, 1.0 / 3.0, 1e30]);
    state.running_var = Some(vec![0.0, 0.7, f32::MAX]);
    state.num_batches_tracked = Some(12345);
    state
}

/// Weight and bias of two values.
fn two_values() -> State {
    let mut state = State::default();
    state.weight = Some(vec![1.0, 2.0]);
    state.bias = Some(vec![-1.0, 0.5]);
    state
}

/// A small file of two layers, a tensor of another type, an empty one, and a text of others.
fn small_file() -> StateFile {
    let mut file = StateFile::new();
    let (bn, ln) = (BatchNormConfig::new(3), LayerNormConfig::new(2));
    file.insert_state("net.bn", &bn, &three_channels(), Naming::TORCH)
        .unwrap();
    file.insert_state("ln", &ln, &two_values(), Naming::TORCH)
        .unwrap();
    let kernel = StoredTensor::new(Dtype::BF16, [1, 2, 1], vec![1, 2, 3, 4]).unwrap();
    file.insert("net.conv.weight", kernel).unwrap();
    let empty = StoredTensor::from_f32([0, 7], &[]).unwrap();
    file.insert("empty", empty).unwrap();
    file.set_metadata("format", Some("pt".to_owned())).unwrap();
    file
}
