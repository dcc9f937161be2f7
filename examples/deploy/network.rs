//! The network of `train_digits`, made of the library's layers: two blocks of convolution, BatchNorm with ReLU and pooling,
//! and a fully connected layer.

use wgpu::Buffer;
use wgpu_norm::batch_norm::{Epilogue, Saved};
use wgpu_norm::{BatchNorm, BatchNormConfig, Shape, Tensor};

use crate::data::{CLASSES, SIZE};
use crate::ops::Ops;
use crate::random::Random;

macro_rules! shader {
    ($name:literal) => {
        include_str!(concat!("../train_digits/shaders/", $name, ".wgsl"))
    };
}

/// Channels of the images, of what the first block makes of them, and the second.
const CHANNELS: [usize; 3] = [1, 16, 32];
/// Values that the fully connected layer reads of an image.
const FEATURES: usize = (SIZE / 4) * (SIZE / 4) * CHANNELS[2];
/// The share of one step of gradient descent that the next one repeats.
const MOMENTUM: f64 = 0.9;

/// Values to be learned, and what the descent remembers of its last steps.
#[derive(Clone)]
pub struct Parameter {
    pub value: Buffer,
    pub velocity: Buffer,
}

impl Parameter {
    fn new(ops: &Ops, initial: &[f32]) -> Self {
        Self {
            value: ops.upload(initial),
            velocity: ops.zeros(initial.len()),
        }
    }

    /// Weights for a ReLU behind a sum of `inputs` terms (He et al., 2015).
    fn he(ops: &Ops, random: &mut Random, len: usize, inputs: usize) -> Self {
        let deviation = (2.0 / inputs as f32).sqrt();
        let initial: Vec<f32> = (0..len).map(|_| deviation * random.normal()).collect();
        Self::new(ops, &initial)
    }

    fn descend(&self, ops: &Ops, gradient: &Buffer, learning_rate: f32) {
        ops.run(
            shader!("sgd"),
            &[
                ("learning_rate", learning_rate.into()),
                ("momentum", MOMENTUM),
            ],
            &[gradient, &self.velocity, &self.value],
            (self.value.size() / 4) as usize,
        );
    }
}

/// What normalizes the output of a block's convolution.
pub enum Norm {
    Batch {
        layer: Box<BatchNorm>,
        /// What the descent remembers of the layer's parameters.
        velocity: Buffer,
    },
    /// Nothing more: it is folded into the convolution, of which a bias is left.
    Folded(Buffer),
}

pub struct Block {
    /// `[3][3][inputs][outputs]`
    pub conv: Parameter,
    pub norm: Norm,
    pub inputs: usize,
    pub outputs: usize,
    size: usize,
}

/// What a forward pass through a block leaves for its backward pass.
struct Trace {
    x: Buffer,
    normalized: Tensor,
    saved: Saved,
    pooled: Buffer,
}

/// The gradients of a block.
struct Gradients {
    dconv: Tensor,
    dweight: Buffer,
    dnorm: Option<Buffer>,
}

impl Block {
    fn new(
        ops: &Ops,
        random: &mut Random,
        size: usize,
        inputs: usize,
        outputs: usize,
    ) -> anyhow::Result<Self> {
        let config = BatchNormConfig::new(outputs).epilogue(Epilogue::Relu);
        Ok(Self {
            conv: Parameter::he(ops, random, 9 * inputs * outputs, 9 * inputs),
            norm: Norm::Batch {
                layer: Box::new(config.build(&ops.gpu)?),
                velocity: ops.zeros(2 * outputs),
            },
            size,
            inputs,
            outputs,
        })
    }

    fn conv_constants(&self) -> [(&'static str, f64); 3] {
        [
            ("size", self.size as f64),
            ("inputs", self.inputs as f64),
            ("outputs", (self.outputs / 4) as f64),
        ]
    }

    fn pool_constants(&self) -> [(&'static str, f64); 3] {
        let relu = matches!(self.norm, Norm::Folded(_));
        [
            ("size", (self.size / 2) as f64),
            ("channels", (self.outputs / 4) as f64),
            ("relu", f64::from(u8::from(relu))),
        ]
    }

    /// The convolution of `images` images, which the norm takes.
    fn convolve(&self, ops: &Ops, x: &Buffer, images: usize) -> anyhow::Result<Tensor> {
        let values = images * self.size * self.size * self.outputs;
        let y = ops.zeros(values);
        let buffers = [x, &self.conv.value, &y];
        ops.run(
            shader!("conv_forward"),
            &self.conv_constants(),
            &buffers,
            values / 4,
        );
        ops.tensor(Shape::nhwc(images, self.size, self.size, self.outputs), y)
    }

    fn pool(&self, ops: &Ops, x: &Buffer) -> Buffer {
        let values = (x.size() / 16) as usize;
        let y = ops.zeros(values);
        ops.run(
            shader!("pool_forward"),
            &self.pool_constants(),
            &[x, &y],
            values / 4,
        );
        y
    }

    fn train(&mut self, ops: &Ops, x: &Buffer, images: usize) -> anyhow::Result<Trace> {
        let conv = self.convolve(ops, x, images)?;
        let Norm::Batch { layer, .. } = &mut self.norm else {
            anyhow::bail!("a folded network only evaluates");
        };
        let (normalized, saved) = layer.train(&conv)?;
        Ok(Trace {
            x: x.clone(),
            pooled: self.pool(ops, normalized.buffer()),
            normalized,
            saved,
        })
    }

    fn eval(&self, ops: &Ops, x: &Buffer, images: usize) -> anyhow::Result<Buffer> {
        let conv = self.convolve(ops, x, images)?;
        Ok(match &self.norm {
            Norm::Batch { layer, .. } => self.pool(ops, layer.eval(&conv)?.buffer()),
            Norm::Folded(bias) => {
                let values = (conv.buffer().size() / 4) as usize;
                let biased = ops.zeros(values);
                let constants = [("channels", self.outputs as f64)];
                let buffers = [conv.buffer(), bias, &biased];
                ops.run(shader!("bias_forward"), &constants, &buffers, values);
                self.pool(ops, &biased)
            }
        })
    }

    fn backward(&self, ops: &Ops, trace: Trace, dy: &Buffer) -> anyhow::Result<Gradients> {
        let Norm::Batch { layer, .. } = &self.norm else {
            anyhow::bail!("a folded network only evaluates");
        };
        let normalized = trace.normalized.buffer();
        let dnormalized = ops.zeros((normalized.size() / 4) as usize);
        let windows = (trace.pooled.size() / 16) as usize;
        let buffers = [normalized, &trace.pooled, dy, &dnormalized];
        ops.run(
            shader!("pool_backward"),
            &self.pool_constants(),
            &buffers,
            windows,
        );
        let dnormalized = ops.tensor(trace.normalized.shape(), dnormalized)?;
        let gradients = layer.backward(trace.saved, &dnormalized)?;
        let dweight = ops.zeros(9 * self.inputs * self.outputs);
        let buffers = [&trace.x, gradients.dx.buffer(), &dweight];
        let vectors = 9 * self.inputs * self.outputs / 4;
        ops.run(
            shader!("conv_backward_weight"),
            &self.conv_constants(),
            &buffers,
            vectors,
        );
        Ok(Gradients {
            // None if they are frozen.
            dnorm: gradients.buffer().cloned(),
            dconv: gradients.dx,
            dweight,
        })
    }

    /// The gradient of the block's input.
    fn backward_input(&self, ops: &Ops, dconv: &Tensor) -> Buffer {
        let values = dconv.buffer().size() as usize / 4 / self.outputs * self.inputs;
        let dx = ops.zeros(values);
        let buffers = [dconv.buffer(), &self.conv.value, &dx];
        ops.run(
            shader!("conv_backward_input"),
            &self.conv_constants(),
            &buffers,
            values,
        );
        dx
    }

    fn descend(&self, ops: &Ops, gradients: &Gradients, learning_rate: f32) {
        self.conv.descend(ops, &gradients.dweight, learning_rate);
        let Norm::Batch { layer, velocity } = &self.norm else {
            return;
        };
        if let Some((affine, gradient)) = layer.affine_buffer().zip(gradients.dnorm.as_ref()) {
            let affine = Parameter {
                value: affine.clone(),
                velocity: velocity.clone(),
            };
            affine.descend(ops, gradient, learning_rate);
        }
    }
}

pub struct Network {
    pub ops: Ops,
    pub blocks: [Block; 2],
    /// `[classes][features]`
    pub weight: Parameter,
    pub bias: Parameter,
}

impl Network {
    pub fn new(ops: Ops, random: &mut Random) -> anyhow::Result<Self> {
        let [image, first, second] = CHANNELS;
        Ok(Self {
            blocks: [
                Block::new(&ops, random, SIZE, image, first)?,
                Block::new(&ops, random, SIZE / 2, first, second)?,
            ],
            weight: Parameter::he(&ops, random, FEATURES * CLASSES, FEATURES),
            bias: Parameter::new(&ops, &[0.0; CLASSES]),
            ops,
        })
    }

    /// The BatchNorm of each block that has not been folded.
    pub fn norms(&mut self) -> impl Iterator<Item = &mut BatchNorm> {
        self.blocks
            .iter_mut()
            .filter_map(|block| match &mut block.norm {
                Norm::Batch { layer, .. } => Some(&mut **layer),
                Norm::Folded(_) => None,
            })
    }

    fn linear_constants() -> [(&'static str, f64); 2] {
        [
            ("inputs", (FEATURES / 4) as f64),
            ("outputs", CLASSES as f64),
        ]
    }

    fn linear(&self, x: &Buffer, images: usize) -> Buffer {
        let logits = self.ops.zeros(images * CLASSES);
        let buffers = [x, &self.weight.value, &self.bias.value, &logits];
        let constants = Self::linear_constants();
        self.ops.run(
            shader!("linear_forward"),
            &constants,
            &buffers,
            images * CLASSES,
        );
        logits
    }

    /// Loss and hit of each image, and the gradient of the logits.
    fn judge(&self, logits: &Buffer, labels: &[u32]) -> [Buffer; 2] {
        let ops = &self.ops;
        let [scores, dlogits] = [2, CLASSES].map(|each| ops.zeros(each * labels.len()));
        // All labels are those of the batch.
        let order: Vec<u32> = (0..labels.len() as u32).collect();
        let [labels, order] = [labels, &order].map(|values| ops.upload(values));
        let buffers = [logits, &labels, &order, &scores, &dlogits];
        let images = (order.size() / 4) as usize;
        let constants = [("classes", CLASSES as f64), ("whole", images as f64)];
        ops.run(shader!("cross_entropy"), &constants, &buffers, images);
        [scores, dlogits]
    }

    /// One step of gradient descent on these images. Does not wait.
    pub fn step(
        &mut self,
        pixels: &[f32],
        labels: &[u32],
        learning_rate: f32,
    ) -> anyhow::Result<()> {
        let images = labels.len();
        let x = self.ops.upload(pixels);
        let [first, second] = &mut self.blocks;
        let first_trace = first.train(&self.ops, &x, images)?;
        let second_trace = second.train(&self.ops, &first_trace.pooled, images)?;
        let features = second_trace.pooled.clone();
        let logits = self.linear(&features, images);
        let [_, dlogits] = self.judge(&logits, labels);

        let ops = &self.ops;
        let constants = Self::linear_constants();
        let [dweight, dfeatures] = [FEATURES * CLASSES, images * FEATURES].map(|n| ops.zeros(n));
        let dbias = ops.zeros(CLASSES);
        let buffers = [&features, &dlogits, &dweight];
        ops.run(
            shader!("linear_backward_weight"),
            &constants,
            &buffers,
            FEATURES * CLASSES / 4,
        );
        ops.run(shader!("bias_backward"), &[], &[&dlogits, &dbias], CLASSES);
        let buffers = [&dlogits, &self.weight.value, &dfeatures];
        ops.run(
            shader!("linear_backward_input"),
            &constants,
            &buffers,
            images * FEATURES / 4,
        );
        let [first, second] = &self.blocks;
        let second_gradients = second.backward(ops, second_trace, &dfeatures)?;
        let dpooled = second.backward_input(ops, &second_gradients.dconv);
        let first_gradients = first.backward(ops, first_trace, &dpooled)?;

        first.descend(ops, &first_gradients, learning_rate);
        second.descend(ops, &second_gradients, learning_rate);
        self.weight.descend(ops, &dweight, learning_rate);
        self.bias.descend(ops, &dbias, learning_rate);
        Ok(())
    }

    /// The logits of images, `CLASSES` each.
    pub fn logits(&self, pixels: &[f32]) -> anyhow::Result<Vec<f32>> {
        let images = pixels.len() / (SIZE * SIZE);
        let mut x = self.ops.upload(pixels);
        for block in &self.blocks {
            x = block.eval(&self.ops, &x, images)?;
        }
        let logits = self.linear(&x, images);
        Ok(self.ops.gpu.read_f32(logits.slice(..))?)
    }

    /// The share of images that are named right, in percent.
    pub fn accuracy(&self, pixels: &[f32], labels: &[u32]) -> anyhow::Result<f64> {
        let logits = self.logits(pixels)?;
        let named = |logits: &[f32]| {
            let digits = 0..CLASSES;
            digits.max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        };
        let answers = logits.chunks(CLASSES).map(named).zip(labels);
        let right = answers.filter(|(digit, label)| *digit == Some(**label as usize));
        Ok(100.0 * right.count() as f64 / labels.len() as f64)
    }

    /// Puts the statistics of all these images in place of the running ones, batch by batch, each layer's with what training
    /// makes of the layers before it.
    pub fn recompute_statistics(&mut self, pixels: &[f32], batch: usize) -> anyhow::Result<()> {
        let [first, second] = &self.blocks;
        let (Norm::Batch { layer: one, .. }, Norm::Batch { layer: two, .. }) =
            (&first.norm, &second.norm)
        else {
            anyhow::bail!("a folded network has no statistics");
        };
        let [mut one, mut two] = [one.precise_statistics()?, two.precise_statistics()?];
        for pixels in pixels.chunks(batch * SIZE * SIZE) {
            let images = pixels.len() / (SIZE * SIZE);
            let x = self.ops.upload(pixels);
            let normalized = one.forward(&first.convolve(&self.ops, &x, images)?)?;
            let pooled = first.pool(&self.ops, normalized.buffer());
            two.add(&second.convolve(&self.ops, &pooled, images)?)?;
        }
        let states = [one.finish()?, two.finish()?];
        for (norm, state) in self.norms().zip(states) {
            norm.load_state(&state)?;
        }
        Ok(())
    }

    /// The farthest shift of a channel in the first block, in deviations: what the statistics do not expect of these images.
    pub fn drift(&self, pixels: &[f32]) -> anyhow::Result<f32> {
        let first = &self.blocks[0];
        let Norm::Batch { layer, .. } = &first.norm else {
            anyhow::bail!("a folded network has no statistics");
        };
        let x = self.ops.upload(pixels);
        let conv = first.convolve(&self.ops, &x, pixels.len() / (SIZE * SIZE))?;
        let drift = layer.drift(&conv)?;
        Ok(drift.worst().map_or(0.0, |(_, distance)| distance))
    }
}
