//! What the layers compute for a case.

use wgpu_norm::batch_norm::Gradients;
use wgpu_norm::{BatchNormConfig, Gpu, InstanceNormConfig, Tensor};

use super::case::{Case, Norm, Values};
use crate::common::wide;

/// The norms that have a layer here.
pub const NORMS: &[&str] = &["BatchNorm", "InstanceNorm"];

pub fn compute(gpu: &Gpu, case: &Case) -> Values {
    match case.norm {
        Norm::Batch { training, .. } => batch(gpu, case, training),
        Norm::Instance => instance(gpu, case),
        norm => panic!("{} has no layer", norm.name()),
    }
}

fn dy(gpu: &Gpu, case: &Case) -> Option<Tensor> {
    let dy = case.dy.as_deref()?;
    Some(gpu.tensor(case.shape, &narrow(dy)).unwrap())
}

fn insert(values: &mut Values, gradients: &Gradients) {
    values.insert("dx", wide(&gradients.dx.read().unwrap()));
    let (weight, bias) = (gradients.weight().unwrap(), gradients.bias().unwrap());
    values.extend(weight.map(|row| ("dweight", wide(&row))));
    values.extend(bias.map(|row| ("dbias", wide(&row))));
}

/// Inputs of suites are f32 values.
fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

pub fn batch_norm_config(case: &Case) -> BatchNormConfig {
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

fn batch(gpu: &Gpu, case: &Case, training: bool) -> Values {
    let mut norm = batch_norm_config(case).build(gpu).unwrap();
    let mut state = norm.state().unwrap();
    state.weight = case.weight().map(narrow);
    state.bias = case.bias().map(narrow);
    if let Some(running) = &case.running {
        state.running_mean = Some(narrow(&running.mean));
        state.running_var = Some(narrow(&running.var));
    }
    norm.load_state(&state).unwrap();
    let x = gpu.tensor(case.shape, &narrow(&case.x)).unwrap();
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

fn instance(gpu: &Gpu, case: &Case) -> Values {
    let config = InstanceNormConfig::new(case.shape.channels())
        .eps(case.eps as f32)
        .weight(case.weight.is_some())
        .bias(case.bias.is_some());
    let mut norm = config.build(gpu).unwrap();
    if let Some(weight) = case.weight() {
        norm.set_weight(&narrow(weight)).unwrap();
    }
    if let Some(bias) = case.bias() {
        norm.set_bias(&narrow(bias)).unwrap();
    }
    let x = gpu.tensor(case.shape, &narrow(&case.x)).unwrap();
    let (y, saved) = norm.train(&x).unwrap();
    let mut values = Values::from([("y", wide(&y.read().unwrap()))]);
    if let Some(dy) = dy(gpu, case) {
        insert(&mut values, &norm.backward(saved, &dy).unwrap());
    }
    values
}
