//! What the oracles compute for a case.

use wgpu_norm::reference::{batch_norm, group_norm, instance_norm, layer_norm, rms_norm};

use super::case::{Case, Norm, Values};

pub fn compute(case: &Case) -> Values {
    match case.norm {
        Norm::Batch { training, momentum } => batch(case, training, momentum),
        Norm::Instance if case.running.is_some() => batch(case, false, None),
        Norm::Instance => {
            let (shape, x) = (case.shape, &case.x);
            let forward = instance_norm::forward(shape, x, case.weight(), case.bias(), case.eps);
            let mut values = Values::from([("y", forward.y)]);
            if let Some(dy) = &case.dy {
                let g = instance_norm::backward(shape, x, dy, case.weight(), case.eps);
                insert(&mut values, g.dx, g.dweight, g.dbias);
            }
            values
        }
        Norm::Group { groups } => {
            let (shape, x, eps) = (case.shape, &case.x, case.eps);
            let forward = group_norm::forward(shape, groups, x, case.weight(), case.bias(), eps);
            let mut values = Values::from([("y", forward.y)]);
            if let Some(dy) = &case.dy {
                let g = group_norm::backward(shape, groups, x, dy, case.weight(), eps);
                insert(&mut values, g.dx, g.dweight, g.dbias);
            }
            values
        }
        Norm::Layer => {
            let (size, x) = (case.shape.channels(), &case.x);
            let forward = layer_norm::forward(size, x, case.weight(), case.bias(), case.eps);
            let (mean, inv_std) = (forward.mean, forward.inv_std);
            let mut values = Values::from([("y", forward.y), ("mean", mean), ("inv_std", inv_std)]);
            if let Some(dy) = &case.dy {
                let g = layer_norm::backward(size, x, dy, case.weight(), case.eps);
                insert(&mut values, g.dx, g.dweight, g.dbias);
            }
            values
        }
        Norm::Rms => {
            let (size, x) = (case.shape.channels(), &case.x);
            let forward = rms_norm::forward(size, x, case.weight(), case.bias(), case.eps);
            let mut values = Values::from([("y", forward.y)]);
            if let Some(dy) = &case.dy {
                let g = rms_norm::backward(size, x, dy, case.weight(), case.eps);
                insert(&mut values, g.dx, g.dweight, g.dbias);
            }
            values
        }
    }
}

fn insert(values: &mut Values, dx: Vec<f64>, dweight: Vec<f64>, dbias: Vec<f64>) {
    values.extend([("dx", dx), ("dweight", dweight), ("dbias", dbias)]);
}

fn batch(case: &Case, training: bool, momentum: Option<f64>) -> Values {
    let (shape, x, eps) = (case.shape, &case.x, case.eps);
    let mut values = Values::new();
    let gradients = match (&case.running, training) {
        (Some(running), false) => {
            let y = batch_norm::eval(shape, x, running, case.weight(), case.bias(), eps);
            values.insert("y", y);
            let dy = case.dy.as_deref();
            dy.map(|dy| batch_norm::backward_frozen(shape, x, dy, running, case.weight(), eps))
        }
        (running, _) => {
            let forward = batch_norm::train(shape, x, case.weight(), case.bias(), eps);
            if let Some(mut running) = running.clone() {
                let count = shape.values_per_channel().expect("a small shape") as u64;
                running.update(&forward, count, momentum);
                values.extend([("running_mean", running.mean), ("running_var", running.var)]);
            }
            values.insert("y", forward.y);
            let dy = case.dy.as_deref();
            dy.map(|dy| batch_norm::backward(shape, x, dy, case.weight(), eps))
        }
    };
    if let Some(g) = gradients {
        insert(&mut values, g.dx, g.dweight, g.dbias);
    }
    values
}
