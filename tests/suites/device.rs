//! What the layers compute for a case.

use wgpu_norm::group_norm::{ForwardBuffers, ForwardPlan, Gradients, Layer};
use wgpu_norm::{
    BatchNorm, BatchNormConfig, Error, Gpu, GroupNormConfig, InstanceNormConfig, LayerNormConfig,
    Layout, Problem, RmsNormConfig, SampleNorm, Shape, Tensor, TrackedInstanceNorm,
};

use super::case::{Case, Norm, Values};
use super::torch::ErrorInput;
use crate::common::{blank, download, noise, wide};

/// The results of a case; an error if its layer cannot be made.
pub fn compute(gpu: &Gpu, case: &Case) -> Result<Values, Error> {
    let (channels, eps) = (case.shape.channels(), case.eps as f32);
    let (weight, bias) = (case.weight.is_some(), case.bias.is_some());
    Ok(match case.norm {
        Norm::Batch { training, .. } => {
            let norm = batch_norm_config(case).build(gpu)?;
            batch(gpu, case, training, norm)
        }
        Norm::Instance if case.running.is_some() => {
            let norm = batch_norm_config(case).build(gpu)?;
            by_running(gpu, case, TrackedInstanceNorm::new(norm)?)
        }
        Norm::Instance => {
            let config = InstanceNormConfig::new(channels).eps(eps);
            let config = config.weight(weight).bias(bias);
            sample(gpu, case, &config, config.build(gpu)?)
        }
        Norm::Group { groups } => {
            let config = GroupNormConfig::new(groups, channels).eps(eps);
            let config = config.weight(weight).bias(bias);
            sample(gpu, case, &config, config.build(gpu)?)
        }
        Norm::Layer => {
            let config = LayerNormConfig::new(channels).eps(eps);
            let config = config.weight(weight).bias(bias);
            sample(gpu, case, &config, config.build(gpu)?)
        }
        Norm::Rms => {
            let config = RmsNormConfig::new(channels).eps(eps).weight(weight);
            sample(gpu, case, &config, config.build(gpu)?)
        }
    })
}

fn tensor(gpu: &Gpu, case: &Case, values: &[f64]) -> Tensor {
    let problem = Problem::new(case.shape, case.dtype);
    gpu.tensor(problem, &narrow(values)).unwrap()
}

fn dy(gpu: &Gpu, case: &Case) -> Option<Tensor> {
    let dy = case.dy.as_deref()?;
    Some(tensor(gpu, case, dy))
}

fn insert(values: &mut Values, gradients: &Gradients) {
    values.insert("dx", wide(&gradients.dx.read().unwrap()));
    let (weight, bias) = (gradients.weight().unwrap(), gradients.bias().unwrap());
    values.extend(weight.map(|row| ("dweight", wide(&row))));
    values.extend(bias.map(|row| ("dbias", wide(&row))));
}

/// Inputs of suites are f32 values, or f16.
fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

fn batch_norm_config(case: &Case) -> BatchNormConfig {
    let config = BatchNormConfig::new(case.shape.channels())
        .eps(case.eps as f32)
        .weight(case.weight.is_some())
        .bias(case.bias.is_some())
        .track_running_stats(case.running.is_some());
    match case.norm {
        Norm::Batch {
            training: true,
            momentum,
        } => config.momentum(momentum.map(|momentum| momentum as f32)),
        _ => config,
    }
}

/// Gives a layer the parameters and running statistics of a case.
fn load(case: &Case, norm: &mut BatchNorm) {
    let mut state = norm.state().unwrap();
    state.weight = case.weight().map(narrow);
    state.bias = case.bias().map(narrow);
    if let Some(running) = &case.running {
        state.running_mean = Some(narrow(&running.mean));
        state.running_var = Some(narrow(&running.var));
    }
    norm.load_state(&state).unwrap();
}

fn batch(gpu: &Gpu, case: &Case, training: bool, mut norm: BatchNorm) -> Values {
    load(case, &mut norm);
    let x = tensor(gpu, case, &case.x);
    let (y, saved) = if training {
        norm.train(&x).unwrap()
    } else {
        let (y, saved) = norm.frozen(&x).unwrap();
        let eval = norm.eval(&x).unwrap().read().unwrap();
        assert_eq!(eval, y.read().unwrap(), "{}: eval and frozen", case.name);
        (y, saved)
    };
    let mut values = Values::from([("y", wide(&y.read().unwrap()))]);
    if let Some(dy) = dy(gpu, case) {
        insert(&mut values, &norm.backward(saved, &dy).unwrap());
    }
    let state = norm.state().unwrap();
    values.extend(state.running_mean.map(|row| ("running_mean", wide(&row))));
    values.extend(state.running_var.map(|row| ("running_var", wide(&row))));
    values
}

/// An InstanceNorm in evaluation.
fn by_running(gpu: &Gpu, case: &Case, mut norm: TrackedInstanceNorm) -> Values {
    load(case, norm.batch_norm_mut());
    let x = tensor(gpu, case, &case.x);
    let (y, saved) = norm.frozen(&x).unwrap();
    let y = y.read().unwrap();
    let eval = norm.eval(&x).unwrap().read().unwrap();
    assert_eq!(eval, y, "{}: eval and frozen", case.name);
    let mut values = Values::from([("y", wide(&y))]);
    if let Some(dy) = dy(gpu, case) {
        insert(&mut values, &norm.backward(saved, &dy).unwrap());
    }
    values
}

/// A norm whose statistics come from each sample alone.
fn sample<C: SampleNorm>(gpu: &Gpu, case: &Case, config: &C, mut norm: Layer<C>) -> Values {
    if let Some(weight) = case.weight() {
        norm.set_weight(&narrow(weight)).unwrap();
    }
    if let Some(bias) = case.bias() {
        norm.set_bias(&narrow(bias)).unwrap();
    }
    let x = tensor(gpu, case, &case.x);
    let (y, saved) = norm.train(&x).unwrap();
    let mut values = Values::from([("y", wide(&y.read().unwrap()))]);
    if let Some(dy) = dy(gpu, case) {
        insert(&mut values, &norm.backward(saved, &dy).unwrap());
    }
    if case.expected.contains_key("mean") || case.expected.contains_key("inv_std") {
        values.extend(statistics(gpu, config, &norm, &x));
    }
    values
}

/// The statistics that a plan saves.
fn statistics<C: SampleNorm>(gpu: &Gpu, config: &C, norm: &Layer<C>, x: &Tensor) -> Values {
    let plan = ForwardPlan::new(gpu.kernels(), x.shape(), config).unwrap();
    let [y, saved, scratch] = [
        plan.activation_bytes(),
        plan.saved_bytes(),
        plan.scratch_bytes(),
    ]
    .map(|bytes| blank(gpu, bytes));
    let buffers = ForwardBuffers::new(x.buffer().slice(..), y.slice(..), saved.slice(..))
        .affine(norm.affine_buffer().map(|buffer| buffer.slice(..)))
        .scratch(scratch.slice(..));
    let step = plan.bind(&buffers).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    step.encode(&mut encoder);
    gpu.queue().submit([encoder.finish()]);
    let count = plan.saved_bytes() as usize / 12;
    let rows = wide(&download(gpu, &saved, 3 * count));
    let mean = rows[..count].iter().zip(&rows[2 * count..]);
    Values::from([
        ("mean", mean.map(|(mean, low)| mean + low).collect()),
        ("inv_std", rows[count..2 * count].to_vec()),
    ])
}

/// A call that torch refuses.
pub fn attempt(gpu: &Gpu, error: &ErrorInput) -> Result<(), Error> {
    let number = |name: &str| error.arguments[name].as_u64().map(|n| n as usize);
    let parameter = |name: &str| {
        let dims = error.arguments[name]["tensor"].as_array()?;
        let extents = dims.iter().map(|n| n.as_u64().expect("an extent") as usize);
        Some(vec![1.0; extents.product()])
    };
    let size = || -> usize {
        let dims = error.arguments["normalized_shape"].as_array();
        let dims = dims.expect("a shape").iter();
        dims.map(|n| n.as_u64().expect("an extent") as usize)
            .product()
    };
    let x = || -> Result<Tensor, Error> {
        let dims = error.shape.as_deref().expect("a shape");
        let shape = Shape::from_dims(dims, Layout::ChannelsFirst)?;
        let count = shape.elements().expect("a small shape");
        gpu.tensor(shape, &noise(1, count))
    };
    match error.norm.as_str() {
        "batch_norm" => {
            let eps = error.arguments["eps"].as_f64().expect("an eps") as f32;
            let config = BatchNormConfig::new(number("num_features").expect("a number"));
            config.eps(eps).build(gpu)?.train(&x()?).map(drop)
        }
        "group_norm" => {
            let groups = number("num_groups").expect("a number");
            let x = error.shape.is_some().then(x).transpose()?;
            let channels = x.as_ref().map(|x| x.shape().channels());
            let channels = channels.or_else(|| number("num_channels"));
            let norm = GroupNormConfig::new(groups, channels.expect("a number")).build(gpu)?;
            x.map_or(Ok(()), |x| norm.train(&x).map(drop))
        }
        "layer_norm" => {
            let mut norm = LayerNormConfig::new(size()).build(gpu)?;
            parameter("weight").map_or(Ok(()), |values| norm.set_weight(&values))?;
            parameter("bias").map_or(Ok(()), |values| norm.set_bias(&values))?;
            norm.train(&x()?).map(drop)
        }
        "rms_norm" => {
            let mut norm = RmsNormConfig::new(size()).build(gpu)?;
            parameter("weight").map_or(Ok(()), |values| norm.set_weight(&values))?;
            norm.train(&x()?).map(drop)
        }
        norm => panic!("{norm}"),
    }
}
