//! InstanceNorm, as a layer and as plans, against its reference.

use crate::common::{blank, download, gpu, gpu_with, noise, upload, wide};
use wgpu_norm::batch_norm::{Strategy, Tuning};
use wgpu_norm::instance_norm::{
    BackwardBuffers, BackwardOptions, BackwardPlan, Destination, Epilogue, ForwardBuffers,
    ForwardOptions, ForwardPlan, ParameterGradients, Wanted,
};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::reference::instance_norm as oracle;
use wgpu_norm::{
    BatchNormConfig, Dtype, Error, Gpu, InstanceNorm, InstanceNormConfig, PlanError, Problem,
    Shape, Tensor, TensorError,
};

const SHAPES: [Shape; 8] = [
    // Planes of an odd number of values, in both layouts.
    Shape::nchw(3, 5, 7, 7),
    Shape::nhwc(3, 7, 7, 5),
    Shape::ncl(4, 3, 17),
    Shape::nlc(2, 17, 6),
    Shape::nchw(2, 20, 8, 8),
    Shape::nhwc(2, 8, 8, 20),
    Shape::ncdhw(1, 3, 3, 5, 7),
    Shape::ndhwc(2, 3, 5, 7, 3),
];

/// Errors of one rounding to the storage type beyond those of f32.
fn bound(dtype: Dtype) -> Bound {
    match dtype {
        Dtype::F32 => Bound::new(1e-5, 1e-5),
        Dtype::F16 => Bound::new(1e-3, 1e-5),
        _ => Bound::new(8e-3, 1e-5),
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    wide(&tensor.read().unwrap())
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.read().unwrap().iter().map(|v| v.to_bits()).collect()
}

fn layer(gpu: &Gpu, config: InstanceNormConfig) -> InstanceNorm {
    let mut norm = config.build(gpu).unwrap();
    let channels = config.num_features;
    if config.weight {
        let weight: Vec<f32> = noise(7, channels).iter().map(|v| v + 1.5).collect();
        norm.set_weight(&weight).unwrap();
        assert_eq!(norm.weight().unwrap(), Some(weight));
    }
    if config.bias {
        norm.set_bias(&noise(8, channels)).unwrap();
        assert_eq!(norm.bias().unwrap(), Some(noise(8, channels)));
    }
    norm
}

/// Forward and backward of one layer over one batch.
fn follow_the_reference(gpu: &Gpu, problem: Problem, config: InstanceNormConfig) {
    let (shape, dtype) = (problem.shape, problem.dtype);
    let what = format!("{problem} {config:?}");
    let ok = |name: &str, actual: &[f64], expected: &[f64], bound: Bound| {
        within(name, actual, expected, bound).unwrap_or_else(|error| panic!("{what}: {error}"));
    };
    let tensor = |seed| {
        let values = noise(seed, shape.elements().unwrap());
        gpu.tensor(problem, &values).unwrap()
    };
    let (x, residual, dy) = (tensor(1), tensor(2), tensor(3));
    let norm = layer(gpu, config);
    let row = |row: Option<Vec<f32>>| row.map(|row| wide(&row));
    let (weight, bias) = (row(norm.weight().unwrap()), row(norm.bias().unwrap()));
    let (weight, bias) = (weight.as_deref(), bias.as_deref());
    let eps = f64::from(config.eps);

    let adds = config.epilogue.adds();
    let (y, saved) = if adds {
        norm.train((&x, &residual))
    } else {
        norm.train(&x)
    }
    .unwrap();
    let again = if adds {
        norm.eval((&x, &residual))
    } else {
        norm.eval(&x)
    }
    .unwrap();
    assert_eq!(bits(&again), bits(&y), "{what}");
    let mut expected = oracle::forward(shape, &values(&x), weight, bias, eps).y;
    if adds {
        let residual = values(&residual);
        expected
            .iter_mut()
            .zip(&residual)
            .for_each(|(y, residual)| *y += residual);
    }
    if config.epilogue != Epilogue::Identity {
        expected.iter_mut().for_each(|y| *y = y.max(0.0));
    }
    ok("y", &values(&y), &expected, bound(dtype));

    // What passes the epilogue is read from y, so that a value next to zero has one sign.
    let mut g = values(&dy);
    if config.epilogue != Epilogue::Identity {
        let masked = g.iter_mut().zip(values(&y));
        masked
            .filter(|(_, y)| *y <= 0.0)
            .for_each(|(g, _)| *g = 0.0);
    }
    let gradients = norm.backward(saved, &dy).unwrap();
    let expected = oracle::backward(shape, &values(&x), &g, weight, eps);
    ok("dx", &values(&gradients.dx), &expected.dx, bound(dtype));
    for (name, actual, expected, present) in [
        (
            "dweight",
            gradients.weight(),
            &expected.dweight,
            config.weight,
        ),
        ("dbias", gradients.bias(), &expected.dbias, config.bias),
    ] {
        let actual = actual.unwrap();
        assert_eq!(actual.is_some(), present, "{what}: {name}");
        if let Some(actual) = actual {
            ok(name, &wide(&actual), expected, Bound::new(1e-5, 1e-4));
        }
    }
    assert_eq!(gradients.dresidual.is_some(), adds);
    if let Some(dresidual) = &gradients.dresidual {
        assert_eq!(values(dresidual), g, "{what}");
    }

    // The same in place, and added to the gradients of the first.
    let saved = if adds {
        norm.train((&x, &residual))
    } else {
        norm.train(&x)
    }
    .unwrap()
    .1;
    let once = gradients.buffer().map(|buffer| {
        let values = gpu.read_f32(buffer.slice(..)).unwrap();
        values.into_iter().map(|v| 2.0 * v).collect::<Vec<_>>()
    });
    let wanted = Wanted::default()
        .dx(Some(Destination::InPlace))
        .accumulate(gradients.buffer());
    let second = norm.backward_with(saved, &dy, wanted).unwrap();
    assert_eq!(bits(&second.dx.unwrap()), bits(&gradients.dx), "{what}");
    assert_eq!(bits(&dy), bits(&gradients.dx), "{what}");
    let twice = gradients
        .buffer()
        .map(|buffer| gpu.read_f32(buffer.slice(..)).unwrap());
    assert_eq!(twice, once, "{what}");
}

#[test]
fn the_layer_follows_the_reference_in_every_rank_layout_and_storage_type() {
    let gpu = gpu();
    for (index, shape) in SHAPES.into_iter().enumerate() {
        let config = InstanceNormConfig::new(shape.channels());
        for affine in [true, false] {
            follow_the_reference(&gpu, shape.into(), config.affine(affine));
        }
        let dtype = Dtype::ALL[1 + index % 2];
        follow_the_reference(
            &gpu,
            Problem::new(shape, dtype),
            config.weight(true).eps(1e-3),
        );
    }
}

#[test]
fn the_layer_follows_the_reference_with_every_epilogue() {
    let gpu = gpu();
    for shape in [SHAPES[0], SHAPES[5]] {
        for &dtype in Dtype::ALL {
            for &epilogue in Epilogue::ALL {
                let config = InstanceNormConfig::new(shape.channels()).epilogue(epilogue);
                let config = config.affine(dtype != Dtype::F16).bias(true);
                follow_the_reference(&gpu, Problem::new(shape, dtype), config);
            }
        }
    }
}

/// Every strategy, into memory of the caller's own; windows where the device binds few bytes at once.
#[test]
fn plans_follow_the_reference() {
    let ours = gpu();
    let narrow = gpu_with(|limits| limits.max_storage_buffer_binding_size = 1 << 12);
    let long = Shape::ncl(2, 3, 800);
    let mut taken = [0; 3];
    for (gpu, shape) in [
        (&ours, SHAPES[4]),
        (&ours, SHAPES[5]),
        (&ours, SHAPES[1]),
        (&narrow, long),
    ] {
        for (index, &strategy) in Strategy::ALL.iter().enumerate() {
            let config = InstanceNormConfig::new(shape.channels()).affine(true);
            let tuning = Tuning::default().strategy(Some(strategy));
            let options = ForwardOptions::default().tuning(tuning);
            let forward = match ForwardPlan::with_options(gpu.kernels(), shape, &config, options) {
                Ok(plan) => plan,
                Err(error) => {
                    assert!(matches!(error, PlanError::Strategy { .. }), "{error}");
                    continue;
                }
            };
            taken[index] += 1;
            let (count, instances) = (shape.elements().unwrap(), shape.batch() * shape.channels());
            let mut x = noise(1, count);
            let mut dy = noise(2, count);
            let affine = noise(3, 2 * shape.channels());
            let (outputs, gradients) = {
                let (weight, bias) = affine.split_at(shape.channels());
                let (weight, bias) = (wide(weight), wide(bias));
                let eps = f64::from(config.eps);
                (
                    oracle::forward(shape, &wide(&x), Some(&weight), Some(&bias), eps),
                    oracle::backward(shape, &wide(&x), &wide(&dy), Some(&weight), eps),
                )
            };
            // What stands in the padding is nobody's value.
            x.resize(count.next_multiple_of(4), f32::NAN);
            dy.resize(count.next_multiple_of(4), f32::NAN);
            let [x, dy, affine] = [&x, &dy, &affine].map(|values| upload(gpu, values));
            let y = blank(gpu, forward.activation_bytes());
            let saved = blank(gpu, forward.saved_bytes());
            assert_eq!(
                forward.saved_bytes(),
                config.saved_rows(shape.batch()).bytes()
            );
            let scratch = blank(gpu, forward.scratch_bytes());
            let train = forward
                .bind(
                    &ForwardBuffers::new(x.slice(..), y.slice(..), saved.slice(..))
                        .affine(affine.slice(..))
                        .scratch(scratch.slice(..)),
                )
                .unwrap();
            let options = BackwardOptions::default()
                .dx(Some(Destination::InPlace))
                .parameters(ParameterGradients::Accumulate)
                .tuning(tuning);
            let plan = BackwardPlan::with_options(gpu.kernels(), shape, &config, options);
            let plan = match plan {
                Ok(plan) => plan,
                Err(error) => {
                    assert!(matches!(error, PlanError::Strategy { .. }), "{error}");
                    continue;
                }
            };
            let grads = upload(gpu, &vec![1f32; 2 * shape.channels()]);
            assert_eq!(plan.grads_bytes(), config.affine_rows().bytes());
            let scratch = blank(gpu, plan.scratch_bytes());
            let backward = plan
                .bind(
                    &BackwardBuffers::new(x.slice(..), dy.slice(..), saved.slice(..))
                        .affine(affine.slice(..))
                        .grads(grads.slice(..))
                        .scratch(scratch.slice(..)),
                )
                .unwrap();
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            train.encode(&mut encoder);
            backward.encode(&mut encoder);
            gpu.queue().submit([encoder.finish()]);
            let check = |name: &str, buffer: &wgpu::Buffer, expected: &[f64], bound| {
                let actual = download(gpu, buffer, expected.len());
                within(name, &actual, expected, bound)
                    .unwrap_or_else(|error| panic!("{shape} {strategy}: {error}"));
            };
            let close = Bound::new(1e-5, 1e-5);
            check("y", &y, &outputs.y, close);
            check("dx", &dy, &gradients.dx, close);
            let statistics = [&outputs.mean[..], &outputs.inv_std[..]].concat();
            assert_eq!(statistics.len(), 2 * instances);
            check("saved", &saved, &statistics, close);
            let sums = gradients.dweight.iter().chain(&gradients.dbias);
            let sums: Vec<f64> = sums.map(|sum| 1.0 + sum).collect();
            check("grads", &grads, &sums, Bound::new(1e-5, 1e-4));
        }
    }
    assert!(taken[1] > 1 && taken[2] == 4, "{taken:?}");
}

/// A mean of ten thousand deviations costs no digits that the input has.
#[test]
fn a_large_mean_costs_no_digits() {
    let gpu = gpu();
    for shape in [Shape::nchw(2, 3, 9, 9), Shape::nhwc(2, 9, 9, 4)] {
        let count = shape.elements().unwrap();
        let x: Vec<f32> = noise(1, count).iter().map(|v| 1e4 + v).collect();
        let norm = InstanceNormConfig::new(shape.channels())
            .build(&gpu)
            .unwrap();
        let y = norm.eval(&gpu.tensor(shape, &x).unwrap()).unwrap();
        let expected = oracle::forward(shape, &wide(&x), None, None, f64::from(1e-5f32)).y;
        within("y", &y.read().unwrap(), &expected, Bound::new(4e-6, 4e-6)).unwrap();
    }
}

#[test]
fn an_instance_of_one_value_has_no_variance() {
    let gpu = gpu();
    for shape in [
        Shape::nc(8, 3),
        Shape::nchw(8, 3, 1, 1),
        Shape::nlc(8, 1, 3),
    ] {
        let config = InstanceNormConfig::new(3);
        let expected = PlanError::TooFewSpatialValues { shape };
        let plan = ForwardPlan::new(gpu.kernels(), shape, &config).map(drop);
        assert_eq!(plan, Err(expected.clone()));
        let plan = BackwardPlan::new(gpu.kernels(), shape, &config).map(drop);
        assert_eq!(plan, Err(expected.clone()));
        let norm = config.build(&gpu).unwrap();
        let x = gpu.tensor(shape, &noise(1, 24)).unwrap();
        assert_eq!(norm.train(&x).map(drop), Err(expected.clone().into()));
        assert_eq!(norm.eval(&x).map(drop), Err(expected.into()));
    }
}

#[test]
fn what_cannot_be_normalized_is_refused() {
    let gpu = gpu();
    let shape = Shape::nchw(2, 3, 4, 4);
    let x = gpu.tensor(shape, &noise(1, 96)).unwrap();
    let config = InstanceNormConfig::new(3);
    for (config, start) in [
        (InstanceNormConfig::new(4), "x: expected 4 channels"),
        (config.eps(0.0), "eps: must be a positive number"),
        (config.eps(f32::NAN), "eps: "),
        (InstanceNormConfig::new(0), "num_features: "),
    ] {
        let error = ForwardPlan::new(gpu.kernels(), shape, &config).unwrap_err();
        assert!(error.to_string().starts_with(start), "{error}");
    }
    let mut norm = config.weight(true).build(&gpu).unwrap();
    for (result, field) in [
        (norm.set_weight(&[1.0; 4]), "weight: expected 3 values"),
        (norm.set_bias(&[1.0; 3]), "bias: is given"),
    ] {
        let error = result.unwrap_err();
        assert!(error.to_string().starts_with(field), "{error}");
    }
    assert_eq!(norm.weight().unwrap(), Some(vec![1.0; 3]));
    assert_eq!(norm.bias().unwrap(), None);
    let (_, saved) = norm.train(&x).unwrap();
    let wanted = Wanted::default().dx(None).parameters(false);
    let refused = norm.backward_with(saved, &x, wanted).unwrap_err();
    let unsupported = matches!(refused.error, Error::Plan(PlanError::Unsupported { .. }));
    assert!(unsupported, "{refused}");
    let narrow = gpu
        .tensor(Problem::new(shape, Dtype::F16), &noise(1, 96))
        .unwrap();
    let refused = norm.backward(*refused.saved, &narrow).unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("dy: expected n2c3h4w4 nchw f32"),
        "{refused}"
    );
    // The third try is none too many.
    norm.backward(*refused.saved, &x).unwrap();
}

#[test]
fn an_empty_batch_is_empty_and_has_no_gradient() {
    let gpu = gpu();
    for shape in [
        Shape::nchw(0, 3, 4, 4),
        Shape::nhwc(2, 0, 4, 3),
        Shape::ncl(2, 3, 0),
    ] {
        let norm = InstanceNormConfig::new(3).affine(true).build(&gpu).unwrap();
        let x = gpu.tensor(shape, &[]).unwrap();
        let (y, saved) = norm.train(&x).unwrap();
        assert_eq!(y.shape(), shape);
        assert!(y.read().unwrap().is_empty());
        let gradients = norm.backward(saved, &y).unwrap();
        assert!(gradients.dx.read().unwrap().is_empty());
        assert_eq!(gradients.weight().unwrap(), Some(vec![0.0; 3]), "{shape}");
        assert_eq!(gradients.bias().unwrap(), Some(vec![0.0; 3]), "{shape}");
        assert!(norm.eval(&x).unwrap().read().unwrap().is_empty());
    }
}

/// A NaN stays with its channel of its sample.
#[test]
fn an_instance_with_a_nan_spoils_no_other() {
    let gpu = gpu();
    for shape in [Shape::nchw(2, 3, 7, 7), Shape::nhwc(2, 7, 7, 3)] {
        let mut x = noise(1, 294);
        let of = |i: usize| (shape.sample_of(i), shape.channel_of(i));
        let hit = (0..294).filter(|&i| of(i) == (1, 2)).nth(20).unwrap();
        x[hit] = f32::NAN;
        let norm = InstanceNormConfig::new(3).affine(true).build(&gpu).unwrap();
        let y = norm.eval(&gpu.tensor(shape, &x).unwrap()).unwrap();
        for (i, y) in y.read().unwrap().iter().enumerate() {
            assert_eq!(y.is_nan(), of(i) == (1, 2), "{shape} [{i}]");
        }
    }
}

/// What one norm's forward pass left is not another norm's, even over the same tensor.
#[test]
fn the_saved_of_another_norm_is_refused_and_given_back() {
    let gpu = gpu();
    let shape = Shape::nchw(4, 3, 5, 5);
    let x = gpu.tensor(shape, &noise(1, 300)).unwrap();
    let dy = gpu.tensor(shape, &noise(2, 300)).unwrap();
    let mut batch = BatchNormConfig::new(3).build(&gpu).unwrap();
    let instance = InstanceNormConfig::new(3).affine(true).build(&gpu).unwrap();
    let other = InstanceNormConfig::new(3).affine(true).build(&gpu).unwrap();
    let expected = batch.train(&x).unwrap().1;
    let expected = batch.backward(expected, &dy).unwrap();

    let (_, saved) = batch.train(&x).unwrap();
    let refused = instance.backward(saved, &dy).unwrap_err();
    assert_eq!(refused.error, TensorError::ForeignSaved.into());
    let gradients = batch.backward(*refused.saved, &dy).unwrap();
    assert_eq!(bits(&gradients.dx), bits(&expected.dx));
    assert_eq!(gradients.weight().unwrap(), expected.weight().unwrap());

    let (_, saved) = instance.train(&x).unwrap();
    let refused = batch.backward(saved, &dy).unwrap_err();
    assert_eq!(refused.error, TensorError::ForeignSaved.into());
    let refused = other.backward(*refused.saved, &dy).unwrap_err();
    assert_eq!(Error::from(refused), TensorError::ForeignSaved.into());
}
