//! What the network repeats: convolution, a norm or a bias, ReLU and pooling.

use wgpu::Buffer;
use wgpu_norm::Gpu;

use crate::layers::{Bias, Conv, Pool};
use crate::norm::{Norm, norm};
use crate::parameter::Parameter;
use crate::program::Program;
use crate::random::Random;
use crate::settings::Settings;

/// What a forward pass is for.
#[derive(Clone, Copy)]
pub enum Mode {
    /// The norm leaves what its backward pass needs. BatchNorm normalizes with the batch's own statistics.
    Train,
    /// What becomes of an image does not depend on the batch it is in. BatchNorm normalizes with the
    /// running statistics.
    Eval,
}

pub struct Block {
    conv: Conv,
    shift: Shift,
    pool: Pool,
}

/// What follows the convolution. A norm has a bias of its own, but for RMSNorm.
enum Shift {
    Norm(Box<dyn Norm>),
    Bias(Bias),
}

/// The result of each part of a block. The last is the block's own; the backward pass needs all.
pub struct Activations {
    conv: Buffer,
    shifted: Buffer,
    pub pooled: Buffer,
}

impl Block {
    /// From images of `size` by `size` with `inputs` channels to images of half the size with
    /// `outputs` channels.
    pub fn new(
        gpu: &Gpu,
        settings: &Settings,
        random: &mut Random,
        size: usize,
        inputs: usize,
        outputs: usize,
    ) -> anyhow::Result<Self> {
        let norm = norm(gpu, settings, size, outputs)?;
        Ok(Self {
            conv: Conv::new(gpu, random, settings.dtype, size, inputs, outputs),
            pool: Pool {
                relu: norm.is_none(),
                dtype: settings.dtype,
                size: size / 2,
                channels: outputs,
            },
            shift: match norm {
                Some(norm) => Shift::Norm(norm),
                None => Shift::Bias(Bias::new(gpu, outputs)),
            },
        })
    }

    pub fn parameters(&self) -> [&Parameter; 2] {
        let shift = match &self.shift {
            Shift::Norm(norm) => norm.affine(),
            Shift::Bias(bias) => &bias.value,
        };
        [&self.conv.weight, shift]
    }

    pub fn forward(
        &self,
        program: &mut Program,
        mode: Mode,
        x: &Buffer,
    ) -> anyhow::Result<Activations> {
        let conv = self.conv.forward(program, x);
        let shifted = match (&self.shift, mode) {
            (Shift::Norm(norm), Mode::Train) => norm.train(program, &conv)?,
            (Shift::Norm(norm), Mode::Eval) => norm.eval(program, &conv)?,
            (Shift::Bias(bias), _) => bias.forward(program, &conv),
        };
        let pooled = self.pool.forward(program, &shifted);
        Ok(Activations {
            conv,
            shifted,
            pooled,
        })
    }

    /// Computes the gradients of the parameters. Returns the one with respect to the convolution's
    /// result, from which `backward_input` goes on.
    pub fn backward(
        &self,
        program: &mut Program,
        x: &Buffer,
        activations: &Activations,
        dy: &Buffer,
    ) -> anyhow::Result<Buffer> {
        let Activations {
            conv,
            shifted,
            pooled,
        } = activations;
        let dshifted = self.pool.backward(program, shifted, pooled, dy);
        let dconv = match &self.shift {
            Shift::Norm(norm) => norm.backward(program, conv, &dshifted)?,
            Shift::Bias(bias) => {
                bias.backward(program, &dshifted);
                dshifted
            }
        };
        self.conv.backward_weight(program, x, &dconv);
        Ok(dconv)
    }

    /// The gradient with respect to x, which the first block of a network need not compute.
    pub fn backward_input(&self, program: &mut Program, dconv: &Buffer) -> Buffer {
        self.conv.backward_input(program, dconv)
    }
}
