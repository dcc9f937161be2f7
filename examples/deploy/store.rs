//! A training in a file: what to evaluate, and what to go on from.

use std::path::Path;

use wgpu::Buffer;
use wgpu_norm::state::{LoadOptions, StateFile, Stateful, StoredTensor};

use crate::network::{Network, Norm};
use crate::training::Training;

/// The names of the norms, and of the buffers that a step of training changes beside them.
fn buffers(network: &Network) -> Vec<(String, &Buffer)> {
    let mut all = vec![
        ("fc.weight".to_owned(), &network.weight.value),
        ("fc.bias".to_owned(), &network.bias.value),
        ("velocity.fc.weight".to_owned(), &network.weight.velocity),
        ("velocity.fc.bias".to_owned(), &network.bias.velocity),
    ];
    for (block, number) in network.blocks.iter().zip(1..) {
        all.push((format!("conv{number}.weight"), &block.conv.value));
        all.push((
            format!("velocity.conv{number}.weight"),
            &block.conv.velocity,
        ));
        if let Norm::Batch { velocity, .. } = &block.norm {
            all.push((format!("velocity.bn{number}"), velocity));
        }
    }
    all
}

/// Everything that the next step depends on.
pub fn file_of(network: &mut Network, training: &Training) -> anyhow::Result<StateFile> {
    let mut file = StateFile::new();
    for (name, buffer) in buffers(network) {
        let values = network.ops.gpu.read_f32(buffer.slice(..))?;
        file.insert(name, StoredTensor::from_f32([values.len()], &values)?)?;
    }
    for (norm, number) in network.norms().zip(1..) {
        file.save(&format!("bn{number}"), norm)?;
    }
    file.set_metadata("epochs", Some(training.epochs.to_string()))?;
    Ok(file)
}

/// Goes on from a file.
pub fn load(path: &Path, network: &mut Network, training: &mut Training) -> anyhow::Result<()> {
    restore(&StateFile::read(path)?, network, training)
}

pub fn restore(
    file: &StateFile,
    network: &mut Network,
    training: &mut Training,
) -> anyhow::Result<()> {
    let values = |name: &str| {
        let tensor = file.get(name).and_then(StoredTensor::to_f32);
        tensor.ok_or_else(|| anyhow::anyhow!("{name}: is not in the file"))
    };
    for (name, buffer) in buffers(network) {
        network
            .ops
            .gpu
            .write_f32(buffer.slice(..), &values(&name)?)?;
    }
    // Whatever else the file has stands beside other prefixes.
    let options = LoadOptions::new();
    let mut norms = network.norms();
    if let (Some(first), Some(second)) = (norms.next(), norms.next()) {
        let mut layers: [(&str, &mut dyn Stateful); 2] = [("bn1", first), ("bn2", second)];
        file.load(&mut layers, &options)?;
    }
    let epochs = file
        .metadata()
        .get("epochs")
        .and_then(|epochs| epochs.parse().ok());
    training.epochs = epochs.ok_or_else(|| anyhow::anyhow!("epochs: is not in the file"))?;
    Ok(())
}
