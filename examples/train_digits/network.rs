//! The network: two blocks and a fully connected layer.

use wgpu::Buffer;
use wgpu_norm::Gpu;

use crate::block::{self, Block, Mode};
use crate::data::{CLASSES, SIZE};
use crate::layers::Linear;
use crate::parameter::Parameter;
use crate::program::Program;
use crate::random::Random;
use crate::settings::{Ranks, Settings};
use crate::synchronized;

/// Channels of the images, of what the first block makes of them, and the second.
const CHANNELS: [usize; 3] = [1, 16, 32];

pub struct Network {
    first: Block,
    second: Block,
    linear: Linear,
    ranks: Option<Ranks>,
}

/// The results of the layers. The last is the network's own; the backward pass needs all.
pub struct Activations {
    first: block::Activations,
    second: block::Activations,
    pub logits: Buffer,
}

impl Network {
    pub fn new(gpu: &Gpu, settings: &Settings, random: &mut Random) -> anyhow::Result<Self> {
        let [image, first, second] = CHANNELS;
        let pooled = SIZE / 4;
        Ok(Self {
            first: Block::new(gpu, settings, random, SIZE, image, first)?,
            second: Block::new(gpu, settings, random, SIZE / 2, first, second)?,
            linear: Linear::new(gpu, random, pooled * pooled * second, CLASSES),
            ranks: settings.ranks.clone(),
        })
    }

    pub fn parameters(&self) -> Vec<&Parameter> {
        let linear = [&self.linear.weight, &self.linear.bias.value];
        [self.first.parameters(), self.second.parameters(), linear].concat()
    }

    /// Appends the sum of all ranks' gradients, if there are several.
    pub fn sum_gradients(&self, program: &mut Program) {
        if let Some(ranks) = &self.ranks {
            synchronized::sum(program, &ranks.group, &self.parameters());
        }
    }

    pub fn forward(
        &self,
        program: &mut Program,
        mode: Mode,
        images: &Buffer,
    ) -> anyhow::Result<Activations> {
        let first = self.first.forward(program, mode, images)?;
        let second = self.second.forward(program, mode, &first.pooled)?;
        let logits = self.linear.forward(program, &second.pooled);
        Ok(Activations {
            first,
            second,
            logits,
        })
    }

    /// Computes the gradients of all parameters.
    pub fn backward(
        &self,
        program: &mut Program,
        images: &Buffer,
        activations: &Activations,
        dlogits: &Buffer,
    ) -> anyhow::Result<()> {
        let Activations { first, second, .. } = activations;
        let dpooled = self.linear.backward(program, &second.pooled, dlogits);
        let dconv = self
            .second
            .backward(program, &first.pooled, second, &dpooled)?;
        let dpooled = self.second.backward_input(program, &dconv);
        self.first.backward(program, images, first, &dpooled)?;
        Ok(())
    }
}
