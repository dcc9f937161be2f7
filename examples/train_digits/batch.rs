//! A batch on the GPU: which images, what is done with them, and how that went.

use wgpu::Buffer;
use wgpu_norm::Gpu;

use crate::block::Mode;
use crate::data::{CLASSES, Digits, PIXELS};
use crate::network::Network;
use crate::program::{Program, download, upload};

/// The data set on the GPU.
pub struct DataSet {
    images: Buffer,
    labels: Buffer,
}

impl DataSet {
    pub fn new(gpu: &Gpu, digits: &Digits) -> Self {
        Self {
            images: upload(gpu, &digits.pixels),
            labels: upload(gpu, &digits.labels),
        }
    }
}

/// How well the network did on a number of images, on average.
#[derive(Clone, Copy, Debug)]
pub struct Score {
    pub loss: f64,
    /// The share of images that it named right, in percent.
    pub accuracy: f64,
}

pub struct Batch {
    gpu: Gpu,
    /// The numbers of the images in the data set.
    indices: Buffer,
    program: Program,
    /// Loss and hits, added up from submission to submission for each place in the batch.
    scores: Buffer,
}

impl Batch {
    /// A batch of `len` images on which the network computes its loss, and the gradients if it is
    /// to learn.
    pub fn new(
        gpu: &Gpu,
        data: &DataSet,
        network: &Network,
        mode: Mode,
        len: usize,
    ) -> anyhow::Result<Self> {
        Self::part(gpu, data, network, mode, len, len)
    }

    /// The same for `len` images of a batch of `whole`, over which the loss is a mean.
    pub fn part(
        gpu: &Gpu,
        data: &DataSet,
        network: &Network,
        mode: Mode,
        len: usize,
        whole: usize,
    ) -> anyhow::Result<Self> {
        let mut program = Program::new(gpu, len);
        let indices = program.buffer(len);
        let scores = program.buffer(2 * len);
        let images = program.buffer(len * PIXELS);
        let dlogits = program.buffer(len * CLASSES);
        program.dispatch(
            include_str!("shaders/gather.wgsl"),
            &[("pixels", PIXELS as f64)],
            &[&data.images, &indices, &images],
            len * PIXELS,
        );
        let activations = network.forward(&mut program, mode, &images)?;
        program.dispatch(
            include_str!("shaders/cross_entropy.wgsl"),
            &[("classes", CLASSES as f64), ("whole", whole as f64)],
            &[
                &activations.logits,
                &data.labels,
                &indices,
                &scores,
                &dlogits,
            ],
            len,
        );
        if let Mode::Train = mode {
            network.backward(&mut program, &images, &activations, &dlogits)?;
        }
        Ok(Self {
            gpu: gpu.clone(),
            indices,
            program,
            scores,
        })
    }

    /// Appends a step of gradient descent for all parameters of `network`, by the gradients of all ranks.
    pub fn descend(&mut self, network: &Network, learning_rate: f32) {
        network.sum_gradients(&mut self.program);
        for parameter in network.parameters() {
            parameter.update(&mut self.program, learning_rate);
        }
    }

    /// Submits the work on these images, as many as the batch was made for, and does not wait for it.
    pub fn submit(&self, images: &[u32]) -> anyhow::Result<()> {
        self.gpu
            .queue()
            .write_buffer(&self.indices, 0, bytemuck::cast_slice(images));
        self.program.submit()
    }

    /// Waits, and returns the mean score of the `submissions` there were since the last call.
    pub fn take_score(&self, submissions: usize) -> anyhow::Result<Score> {
        let scores: Vec<[f32; 2]> = download(&self.gpu, &self.scores)?;
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        encoder.clear_buffer(&self.scores, 0, None);
        self.gpu.queue().submit([encoder.finish()]);

        let images = (submissions * scores.len()) as f64;
        let mean =
            |of: usize| scores.iter().map(|score| f64::from(score[of])).sum::<f64>() / images;
        Ok(Score {
            loss: mean(0),
            accuracy: 100.0 * mean(1),
        })
    }
}
