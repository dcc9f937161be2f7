//! The layer, as a training loop uses it.

use crate::common::{gpu, noise, wide};
use approx::assert_relative_eq;
use wgpu_norm::reference::batch_norm::{self as oracle, Running};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{BatchNormConfig, Gpu, Shape};

const F32: Bound = Bound::new(4e-6, 4e-6);

fn close(name: &str, actual: &[f32], expected: &[f64]) {
    within(name, actual, expected, F32).unwrap();
}

#[test]
fn the_worked_examples_of_textbooks() {
    let gpu = gpu();
    // As good as none.
    let config = BatchNormConfig::new(1).eps(1e-30);
    let x = gpu.tensor(Shape::nc(4, 1), &[2.0, 4.0, 6.0, 8.0]).unwrap();
    let about = |actual: &[f32], expected: &[f64]| {
        within("y", actual, expected, Bound::new(0.0, 1e-3)).unwrap();
    };
    let mut bn = config.build(&gpu).unwrap();
    let (y, _) = bn.train(&x).unwrap();
    about(&y.read().unwrap(), &[-1.342, -0.447, 0.447, 1.342]);
    let mut state = bn.state().unwrap();
    (state.weight, state.bias) = (Some(vec![2.0]), Some(vec![1.0]));
    bn.load_state(&state).unwrap();
    let (y, _) = bn.train(&x).unwrap();
    about(&y.read().unwrap(), &[-1.684, 0.106, 1.894, 3.684]);

    let pair = Shape::nc(2, 1);
    let mut bn = config.build(&gpu).unwrap();
    let (_, saved) = bn.train(&gpu.tensor(pair, &[1.0, 3.0]).unwrap()).unwrap();
    let gradients = bn
        .backward(saved, &gpu.tensor(pair, &[0.5, -0.5]).unwrap())
        .unwrap();
    assert_eq!(gradients.dx.read().unwrap(), [0.0, 0.0]);
}

#[test]
fn normalized_values_have_mean_0_and_square_1_whatever_bias_came_before() {
    let gpu = gpu();
    let shape = Shape::nhwc(4, 5, 6, 3);
    let x = noise(1, 360);
    let shifted: Vec<f32> = x
        .iter()
        .enumerate()
        .map(|(i, v)| v + [8.0, -4.0, 0.0][shape.channel_of(i)])
        .collect();
    let mut bn = BatchNormConfig::new(3).eps(1e-12).build(&gpu).unwrap();
    let mut normalized = |x: &[f32]| {
        let (y, _) = bn.train(&gpu.tensor(shape, x).unwrap()).unwrap();
        y.read().unwrap()
    };
    let y = normalized(&x);
    for c in 0..3 {
        let values = || {
            (0..360)
                .filter(|&i| shape.channel_of(i) == c)
                .map(|i| f64::from(y[i]))
        };
        assert!(values().sum::<f64>().abs() < 1e-4);
        assert_relative_eq!(
            values().map(|v| v * v).sum::<f64>(),
            120.0,
            max_relative = 1e-5
        );
    }
    // The shift costs the last bits of x.
    within("y", &normalized(&shifted), &wide(&y), Bound::new(0.0, 4e-6)).unwrap();
}

/// Two steps of training, evaluation and both backwards, against the oracle.
fn follow_the_oracle(gpu: &Gpu, shape: Shape, config: BatchNormConfig) {
    let (channels, count) = (shape.channels(), shape.elements().unwrap());
    let values = shape.values_per_channel().unwrap() as u64;
    let eps = f64::from(config.eps);
    let mut bn = config.build(gpu).unwrap();
    let weight: Vec<f32> = noise(7, channels).iter().map(|v| v + 1.5).collect();
    let mut state = bn.state().unwrap();
    state.weight = config.weight.then(|| weight.clone());
    state.bias = config.bias.then(|| noise(8, channels));
    bn.load_state(&state).unwrap();
    assert_eq!(bn.state().unwrap(), state);
    let (weight, bias) = (state.weight.map(|v| wide(&v)), state.bias.map(|v| wide(&v)));
    let (weight, bias) = (weight.as_deref(), bias.as_deref());

    let mut running = Running::new(channels);
    let dy = noise(9, count);
    let dy_tensor = gpu.tensor(shape, &dy).unwrap();
    for step in 0..2 {
        let x = noise(step, count);
        let tensor = gpu.tensor(shape, &x).unwrap();
        let (y, saved) = bn.train(&tensor).unwrap();
        let forward = oracle::train(shape, &wide(&x), weight, bias, eps);
        running.update(&forward, values, config.momentum.share().map(f64::from));
        close("y", &y.read().unwrap(), &forward.y);

        let gradients = bn.backward(saved, &dy_tensor).unwrap();
        let expected = oracle::backward(shape, &wide(&x), &wide(&dy), weight, eps);
        close("dx", &gradients.dx.read().unwrap(), &expected.dx);
        let parameter = |name, actual: Option<Vec<f32>>, expected: &[f64], present| {
            assert_eq!(actual.is_some(), present, "{name}");
            if let Some(actual) = actual {
                within(name, &actual, expected, Bound::new(1e-5, 1e-5)).unwrap();
            }
        };
        parameter(
            "dweight",
            gradients.weight().unwrap(),
            &expected.dweight,
            config.weight,
        );
        parameter(
            "dbias",
            gradients.bias().unwrap(),
            &expected.dbias,
            config.bias,
        );

        let state = bn.state().unwrap();
        if config.track_running_stats {
            close("running_mean", &state.running_mean.unwrap(), &running.mean);
            close("running_var", &state.running_var.unwrap(), &running.var);
            assert_eq!(state.num_batches_tracked, Some(running.num_batches_tracked));
            let y = oracle::eval(shape, &wide(&x), &running, weight, bias, eps);
            close("eval", &bn.eval(&tensor).unwrap().read().unwrap(), &y);
            let (frozen, saved) = bn.frozen(&tensor).unwrap();
            close("frozen", &frozen.read().unwrap(), &y);
            // Statistics that move in between are not those of this pass.
            let (_, _) = bn
                .train(&gpu.tensor(shape, &noise(77, count)).unwrap())
                .unwrap();
            let other = oracle::train(shape, &wide(&noise(77, count)), None, None, eps);
            let gradients = bn.backward(saved, &dy_tensor).unwrap();
            let expected =
                oracle::backward_frozen(shape, &wide(&x), &wide(&dy), &running, weight, eps);
            close("frozen dx", &gradients.dx.read().unwrap(), &expected.dx);
            running.update(&other, values, config.momentum.share().map(f64::from));
        } else {
            close(
                "eval",
                &bn.eval(&tensor).unwrap().read().unwrap(),
                &forward.y,
            );
            assert_eq!(state.running_mean, None);
            // Without running statistics, frozen is train.
            let (y, saved) = bn.frozen(&tensor).unwrap();
            close("frozen", &y.read().unwrap(), &forward.y);
            let again = bn.backward(saved, &dy_tensor).unwrap();
            assert_eq!(again.dx.read().unwrap(), gradients.dx.read().unwrap());
            assert_eq!(again.weight().unwrap(), gradients.weight().unwrap());
            assert_eq!(again.bias().unwrap(), gradients.bias().unwrap());
        }
    }
}

#[test]
fn training_follows_the_oracle_in_every_rank_and_layout() {
    let gpu = gpu();
    for shape in [
        Shape::nc(33, 10),
        Shape::ncl(3, 6, 17),
        Shape::nlc(3, 17, 6),
        Shape::nchw(2, 20, 8, 8),
        Shape::nhwc(2, 7, 7, 20),
        Shape::ncdhw(2, 3, 3, 5, 7),
        Shape::ndhwc(2, 3, 5, 7, 3),
    ] {
        let config = BatchNormConfig::new(shape.channels());
        follow_the_oracle(&gpu, shape, config);
        follow_the_oracle(&gpu, shape, config.affine(false).momentum(None));
        follow_the_oracle(&gpu, shape, config.bias(false).track_running_stats(false));
        follow_the_oracle(
            &gpu,
            shape,
            config.weight(false).momentum(Some(0.5)).eps(1e-3),
        );
    }
}

#[test]
fn an_empty_batch_is_empty_and_moves_nothing() {
    let gpu = gpu();
    for shape in [
        Shape::nchw(0, 3, 4, 4),
        Shape::nhwc(2, 0, 4, 3),
        Shape::nc(0, 3),
    ] {
        let mut bn = BatchNormConfig::new(3).momentum(None).build(&gpu).unwrap();
        let before = bn.state().unwrap();
        let x = gpu.tensor(shape, &[]).unwrap();
        let (y, saved) = bn.train(&x).unwrap();
        assert_eq!(y.shape(), shape);
        assert!(y.read().unwrap().is_empty());
        assert_eq!(bn.state().unwrap(), before);
        let gradients = bn.backward(saved, &y).unwrap();
        assert!(gradients.dx.read().unwrap().is_empty());
        assert_eq!(gradients.weight().unwrap(), Some(vec![0.0; 3]));
        assert_eq!(gradients.bias().unwrap(), Some(vec![0.0; 3]));
        assert!(bn.eval(&x).unwrap().read().unwrap().is_empty());
    }
}

#[test]
fn a_channel_with_a_nan_spoils_no_other() {
    let gpu = gpu();
    for shape in [Shape::nchw(2, 3, 7, 7), Shape::nhwc(2, 7, 7, 3)] {
        let mut x = noise(1, 294);
        let hit = (0..294)
            .filter(|&i| shape.channel_of(i) == 1)
            .nth(20)
            .unwrap();
        x[hit] = f32::NAN;
        let mut bn = BatchNormConfig::new(3).build(&gpu).unwrap();
        let (y, _) = bn.train(&gpu.tensor(shape, &x).unwrap()).unwrap();
        for (i, y) in y.read().unwrap().iter().enumerate() {
            assert_eq!(y.is_nan(), shape.channel_of(i) == 1, "{shape} [{i}]");
        }
    }
}

#[test]
fn values_can_be_awaited_on_any_executor() {
    let gpu = gpu();
    let x = gpu.tensor(Shape::nc(2, 2), &[1.0, 2.0, 3.0, 4.0]).unwrap();
    let read = pollster::block_on(x.read_async()).unwrap();
    assert_eq!(read, x.read().unwrap());
}

#[test]
fn running_statistics_can_be_reset() {
    let gpu = gpu();
    let mut bn = BatchNormConfig::new(2).build(&gpu).unwrap();
    let new = bn.state().unwrap();
    let (_, _) = bn
        .train(&gpu.tensor(Shape::nc(3, 2), &noise(1, 6)).unwrap())
        .unwrap();
    assert_ne!(bn.state().unwrap(), new);
    bn.reset_running_stats().unwrap();
    assert_eq!(bn.state().unwrap(), new);
}
