//! The norms without running statistics, as layers and as plans, against their references.

use crate::common::sample_norm::Tested;
use crate::common::{blank, download, gpu, gpu_with, noise, upload, wide};
use wgpu_norm::group_norm::{
    BackwardBuffers, BackwardOptions, BackwardPlan, Destination, Epilogue, ForwardBuffers,
    ForwardOptions, ForwardPlan, Gradients, Input, Layer, ParameterGradients, Saved, Strategy,
    Tile, Tuning, Wanted,
};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{
    BatchNormConfig, Dtype, Error, Gpu, GroupNormConfig, InstanceNormConfig, LayerNormConfig,
    PlanError, Problem, RmsNormConfig, Shape, Tensor, TensorError,
};

/// Runs each test for each norm.
macro_rules! for_each_norm {
    ($($test:ident)+) => {
        for_each_norm!(group GroupNormConfig: $($test)+);
        for_each_norm!(instance InstanceNormConfig: $($test)+);
        for_each_norm!(layer LayerNormConfig: $($test)+);
        for_each_norm!(rms RmsNormConfig: $($test)+);
    };
    ($module:ident $config:ident: $($test:ident)+) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    super::$test::<wgpu_norm::$config>();
                }
            )+
        }
    };
}

for_each_norm! {
    the_layer_follows_the_reference_in_every_rank_layout_and_storage_type
    the_layer_follows_the_reference_with_every_epilogue
    plans_follow_the_reference
    gradients_by_choice_are_the_same_gradients
    each_saved_is_of_its_own_forward_pass
    parameters_read_back
    a_refused_call_writes_nothing
    a_configuration_that_fits_no_tensor_is_refused
    the_saved_of_another_layer_is_refused_and_given_back
    an_empty_batch_is_empty_and_has_no_gradient
    a_large_mean_costs_no_digits
    a_nan_spoils_no_other_statistic
}

const SHAPES: [Shape; 8] = [
    // Planes of an odd number of values, in both layouts.
    Shape::nchw(3, 6, 7, 7),
    Shape::nhwc(3, 7, 7, 6),
    Shape::ncl(4, 9, 17),
    Shape::nlc(2, 17, 9),
    Shape::nchw(2, 20, 8, 8),
    Shape::nhwc(2, 8, 8, 20),
    Shape::ncdhw(1, 4, 3, 5, 7),
    Shape::ndhwc(2, 3, 5, 7, 15),
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

/// A tensor of noise.
fn tensor(gpu: &Gpu, problem: impl Into<Problem>, seed: u64) -> Tensor {
    let problem = problem.into();
    let values = noise(seed, problem.shape.elements().unwrap());
    gpu.tensor(problem, &values).unwrap()
}

/// A layer with weights and biases unlike each other.
fn layer<C: Tested>(gpu: &Gpu, config: C) -> Layer<C> {
    let mut norm = config.make(gpu).unwrap();
    let rows = config.affine_rows();
    let count = config.parameter_count();
    if rows.weight.is_some() {
        let weight: Vec<f32> = noise(7, count).iter().map(|v| v + 1.5).collect();
        norm.set_weight(&weight).unwrap();
    }
    if rows.bias.is_some() {
        norm.set_bias(&noise(8, count)).unwrap();
    }
    norm
}

/// The values before the epilogue, those that it makes of them, and its slope for each.
fn finished(epilogue: Epilogue, y: &[f64], residual: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let values = y.iter().zip(residual);
    let both = values.map(|(&y, &residual)| {
        let sigmoid = 1.0 / (1.0 + (-y).exp());
        match epilogue {
            Epilogue::Identity => (y, 1.0),
            Epilogue::Relu => (y.max(0.0), f64::from(u8::from(y > 0.0))),
            Epilogue::AddRelu => {
                let sum = y + residual;
                (sum.max(0.0), f64::from(u8::from(sum > 0.0)))
            }
            Epilogue::Silu => (y * sigmoid, sigmoid * (1.0 + y * (1.0 - sigmoid))),
            other => unimplemented!("{other}"),
        }
    });
    both.unzip()
}

/// Forward and backward of one layer over one batch.
fn follow_the_reference<C: Tested>(gpu: &Gpu, problem: Problem, config: C) {
    let (shape, dtype) = (problem.shape, problem.dtype);
    let what = format!("{problem} {config:?}");
    let ok = |name: &str, actual: &[f64], expected: &[f64], bound: Bound| {
        within(name, actual, expected, bound).unwrap_or_else(|error| panic!("{what}: {error}"));
    };
    let [x, residual, dy] = [1, 2, 3].map(|seed| tensor(gpu, problem, seed));
    let norm = layer(gpu, config);
    let (weight, bias) = (norm.weight().unwrap(), norm.bias().unwrap());
    let (weight, bias) = (weight.as_deref(), bias.as_deref());

    let epilogue = config.finished_by();
    let adds = epilogue.adds();
    let input = || match adds {
        true => Input::from((&x, &residual)),
        false => Input::from(&x),
    };
    let (y, saved) = norm.train(input()).unwrap();
    assert_eq!(bits(&norm.eval(input()).unwrap()), bits(&y), "{what}");
    let read = x.read().unwrap();
    let normalized = config.forward_of(shape, &read, weight, bias).y;
    let (expected, mut slopes) = finished(epilogue, &normalized, &values(&residual));
    ok("y", &values(&y), &expected, bound(dtype));

    if matches!(epilogue, Epilogue::Relu | Epilogue::AddRelu) {
        // What passes is read from y, so that a value next to zero has one sign.
        let passes = values(&y).into_iter().map(|y| f64::from(u8::from(y > 0.0)));
        slopes = passes.collect();
    }
    let g: Vec<f64> = values(&dy)
        .iter()
        .zip(&slopes)
        .map(|(dy, slope)| dy * slope)
        .collect();
    let gradients = norm.backward(saved, &dy).unwrap();
    let expected = config.gradients_of(shape, &read, &g, weight);
    ok("dx", &values(&gradients.dx), &expected.dx, bound(dtype));
    for (name, actual, expected, present) in [
        (
            "dweight",
            gradients.weight(),
            &expected.dweight,
            weight.is_some(),
        ),
        ("dbias", gradients.bias(), &expected.dbias, bias.is_some()),
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
}

fn the_layer_follows_the_reference_in_every_rank_layout_and_storage_type<C: Tested>() {
    let gpu = gpu();
    for (index, shape) in SHAPES.into_iter().enumerate() {
        let all = C::all(shape);
        // Shapes of one layout take turns.
        let turn = index / 2;
        follow_the_reference(&gpu, shape.into(), all[turn % all.len()]);
        let other = all[(turn + 1) % all.len()];
        let plain = match turn % 2 {
            0 => other.parameters(false, false),
            _ => other.parameters(true, false).set_eps(1e-3),
        };
        let dtype = Dtype::ALL[1 + index % 2];
        follow_the_reference(&gpu, Problem::new(shape, dtype), plain);
    }
}

/// Rows of a long context's features and of a vocabulary, one of them alone.
#[test]
fn long_rows_follow_the_reference() {
    let gpu = gpu();
    for (rows, size, dtype) in [
        (3, 16_384, Dtype::F32),
        (1, 16_384, Dtype::Bf16),
        (2, 50_257, Dtype::F32),
        (1, 50_257, Dtype::F16),
    ] {
        let shape = Shape::nc(rows, size);
        let problem = Problem::new(shape, dtype);
        follow_the_reference(&gpu, problem, LayerNormConfig::usual(shape));
        follow_the_reference(&gpu, problem, RmsNormConfig::usual(shape));
    }
}

fn the_layer_follows_the_reference_with_every_epilogue<C: Tested>() {
    let gpu = gpu();
    for (index, &epilogue) in Epilogue::ALL.iter().enumerate() {
        let config = |shape| C::usual(shape).finish(epilogue);
        follow_the_reference(&gpu, SHAPES[0].into(), config(SHAPES[0]));
        let dtype = Dtype::ALL[index % 3];
        let config = config(SHAPES[5]).parameters(dtype != Dtype::F16, true);
        follow_the_reference(&gpu, Problem::new(SHAPES[5], dtype), config);
    }
}

/// Every strategy, into memory of the caller's own; windows where the device binds few bytes at once.
fn plans_follow_the_reference<C: Tested>() {
    let ours = gpu();
    let narrow = gpu_with(|limits| limits.max_storage_buffer_binding_size = 1 << 13);
    let cut = Shape::ncl(2, 12, 200);
    let mut taken = [0; 3];
    let largest = Tile::new(ours.kernels().caps().max_workgroup, 32);
    for (gpu, shape, config, tile) in [
        (&ours, SHAPES[4], C::usual(SHAPES[4]), None),
        (&ours, SHAPES[5], C::usual(SHAPES[5]), None),
        (&ours, SHAPES[1], C::usual(SHAPES[1]), None),
        (&ours, SHAPES[5], C::usual(SHAPES[5]), Some(largest)),
        // Its rows of parameters fit a binding.
        (
            &narrow,
            cut,
            C::all(cut)[C::all(cut).len().min(2) - 1],
            None,
        ),
    ] {
        for (index, &strategy) in Strategy::ALL.iter().enumerate() {
            let tuning = Tuning::default().strategy(Some(strategy)).tile(tile);
            let options = ForwardOptions::default().tuning(tuning);
            let forward = match ForwardPlan::with_options(gpu.kernels(), shape, &config, options) {
                Ok(plan) => plan,
                Err(error) => {
                    assert!(matches!(error, PlanError::Strategy { .. }), "{error}");
                    continue;
                }
            };
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
            taken[index] += 1;
            let count = shape.elements().unwrap();
            let mut x = noise(1, count);
            let mut dy = noise(2, count);
            let rows = config.affine_rows();
            let affine = noise(3, rows.bytes() as usize / 4);
            let (weight, bias) = affine.split_at(config.parameter_count());
            let bias = rows.bias.is_some().then_some(bias);
            let outputs = config.forward_of(shape, &x, Some(weight), bias);
            let gradients = config.gradients_of(shape, &x, &wide(&dy), Some(weight));
            // What stands in the padding is nobody's value.
            x.resize(count.next_multiple_of(4), f32::NAN);
            dy.resize(count.next_multiple_of(4), f32::NAN);
            let [x, dy, affine] = [&x, &dy, &affine].map(|values| upload(gpu, values));
            let y = blank(gpu, forward.activation_bytes());
            let saved = blank(gpu, forward.saved_bytes());
            assert_eq!(forward.saved_bytes(), config.saved(shape).bytes());
            let scratch = blank(gpu, forward.scratch_bytes());
            let train = forward
                .bind(
                    &ForwardBuffers::new(x.slice(..), y.slice(..), saved.slice(..))
                        .affine(affine.slice(..))
                        .scratch(scratch.slice(..)),
                )
                .unwrap();
            let grads = upload(gpu, &vec![1f32; rows.bytes() as usize / 4]);
            assert_eq!(plan.grads_bytes(), rows.bytes());
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
                    .unwrap_or_else(|error| panic!("{shape} {config:?} {strategy}: {error}"));
            };
            let close = Bound::new(1e-5, 1e-5);
            check("y", &y, &outputs.y, close);
            check("dx", &dy, &gradients.dx, close);
            let statistics = [&outputs.mean[..], &outputs.inv_std[..]].concat();
            check("saved", &saved, &statistics, close);
            let sums = gradients.dweight.iter().chain(&gradients.dbias);
            let sums: Vec<f64> = sums.map(|sum| 1.0 + sum).collect();
            check("grads", &grads, &sums, Bound::new(1e-5, 1e-4));
        }
    }
    println!("{}: strategies {taken:?}", C::WORD);
    assert_eq!(taken[2], 5, "{taken:?}");
}

/// What one layer leaves for backward.
fn forward<C: Tested>(norm: &Layer<C>, x: &Tensor) -> Saved {
    norm.train(x).unwrap().1
}

fn dx_bits(gradients: &Gradients<Option<Tensor>>) -> Option<Vec<u32>> {
    gradients.dx.as_ref().map(bits)
}

/// Whatever else is wanted, each gradient that is has the same value.
fn gradients_by_choice_are_the_same_gradients<C: Tested>() {
    let gpu = gpu();
    let close = |name: &str, actual: &[f32], expected: &[f32], shape| {
        within(name, actual, &wide(expected), Bound::new(1e-5, 1e-4))
            .unwrap_or_else(|error| panic!("{shape}: {error}"));
    };
    for shape in [SHAPES[0], SHAPES[5]] {
        let norm = layer(&gpu, C::usual(shape));
        let (x, dy) = (tensor(&gpu, shape, 1), tensor(&gpu, shape, 2));
        let read = |gradients: &Gradients<Option<Tensor>>| {
            let buffer = gradients.buffer().unwrap();
            gpu.read_f32(buffer.slice(..)).unwrap()
        };
        let run = |wanted| norm.backward_with(forward(&norm, &x), &dy, wanted).unwrap();
        let all = run(Wanted::default());
        let (dx, parameters) = (dx_bits(&all), read(&all));
        assert_eq!(
            all.buffer().unwrap().size(),
            norm.config().affine_rows().bytes()
        );

        let only_dx = run(Wanted::default().parameters(false));
        assert!(only_dx.buffer().is_none() && only_dx.weight().unwrap().is_none());
        within(
            "dx alone",
            &only_dx.dx.unwrap().read().unwrap(),
            &values(all.dx.as_ref().unwrap()),
            Bound::new(1e-5, 1e-5),
        )
        .unwrap();

        let only_parameters = run(Wanted::default().dx(None));
        assert!(only_parameters.dx.is_none());
        close(
            "parameters alone",
            &read(&only_parameters),
            &parameters,
            shape,
        );

        let sum = run(Wanted::default().accumulate(all.buffer()));
        assert_eq!(dx_bits(&sum), dx, "{shape}");
        let twice: Vec<f32> = parameters.iter().map(|v| 2.0 * v).collect();
        assert_eq!(read(&all), twice, "{shape}");

        // Last, for it overwrites dy.
        let in_place = run(Wanted::default().dx(Some(Destination::InPlace)));
        assert_eq!(dx_bits(&in_place), dx, "{shape}");
        assert_eq!(Some(bits(&dy)), dx, "{shape}");
        close("parameters in place", &read(&in_place), &parameters, shape);
    }
}

fn each_saved_is_of_its_own_forward_pass<C: Tested>() {
    let gpu = gpu();
    let shape = SHAPES[0];
    let norm = layer(&gpu, C::usual(shape));
    let dy = tensor(&gpu, shape, 9);
    let x = [1, 2].map(|seed| tensor(&gpu, shape, seed));
    let alone = |x| norm.backward(forward(&norm, x), &dy).unwrap();
    let expected = x.each_ref().map(alone);
    for turned in [false, true] {
        let mut order = [0, 1];
        if turned {
            order.reverse();
        }
        let mut saved = x.each_ref().map(|x| Some(forward(&norm, x)));
        for at in order {
            let gradients = norm.backward(saved[at].take().unwrap(), &dy).unwrap();
            assert_eq!(bits(&gradients.dx), bits(&expected[at].dx));
            assert_eq!(gradients.weight().unwrap(), expected[at].weight().unwrap());
        }
    }
}

fn parameters_read_back<C: Tested>() {
    let gpu = gpu();
    let shape = SHAPES[0];
    for config in C::all(shape) {
        let mut norm = config.make(&gpu).unwrap();
        let rows = config.affine_rows();
        let count = config.parameter_count();
        let initial = config.initial_weight();
        assert_eq!(config.factor(initial.into()), 1.0);
        assert_eq!(norm.weight().unwrap(), Some(vec![initial; count]));
        let bias = rows.bias.is_some();
        assert_eq!(norm.bias().unwrap(), bias.then(|| vec![0.0; count]));
        norm.set_weight(&noise(1, count)).unwrap();
        assert_eq!(norm.bias().unwrap(), bias.then(|| vec![0.0; count]));
        if bias {
            norm.set_bias(&noise(2, count)).unwrap();
            assert_eq!(norm.bias().unwrap(), Some(noise(2, count)));
        }
        assert_eq!(norm.weight().unwrap(), Some(noise(1, count)));
        assert_eq!(norm.affine_buffer().unwrap().size(), rows.bytes());
    }
    let none = C::usual(shape).parameters(false, false).make(&gpu).unwrap();
    assert!(none.affine_buffer().is_none());
    assert_eq!((none.weight().unwrap(), none.bias().unwrap()), (None, None));
}

/// The call failed, and its message begins so.
fn fails<T>(result: Result<T, impl Into<Error>>, start: &str) {
    let message = match result {
        Ok(_) => panic!("no error that begins with {start:?}"),
        Err(error) => error.into().to_string(),
    };
    assert!(message.starts_with(start), "{message:?}, not {start:?}");
}

fn a_refused_call_writes_nothing<C: Tested>() {
    let gpu = gpu();
    let shape = SHAPES[0];
    let config = C::usual(shape).parameters(true, false);
    let count = config.parameter_count();
    let mut norm = layer(&gpu, config);
    let weight = norm.weight().unwrap();
    let long = vec![1.0; count + 1];
    let start = format!("weight: expected {count} values, got {}", count + 1);
    fails(norm.set_weight(&long), &start);
    fails(
        norm.set_bias(&long[1..]),
        "bias: is given, but the layer has none",
    );
    assert_eq!(norm.weight().unwrap(), weight);
    assert_eq!(norm.bias().unwrap(), None);

    let (x, dy) = (tensor(&gpu, shape, 1), tensor(&gpu, shape, 2));
    let foreign = tensor(&crate::common::gpu(), shape, 1);
    let wrong_device = |field| Err(Error::from(TensorError::WrongDevice { field }));
    assert_eq!(norm.train(&foreign).map(drop), wrong_device("x"));
    assert_eq!(norm.eval(&foreign).map(drop), wrong_device("x"));
    fails(norm.train((&x, &dy)), "residual: is given");
    let adds = config.finish(Epilogue::AddRelu).make(&gpu).unwrap();
    fails(adds.train(&x), "residual: is missing");
    let turned = tensor(&gpu, Shape::nchw(6, 3, 7, 7), 1);
    fails(adds.train((&x, &turned)), "residual: expected n3c6h7w7");

    // Backward gives what it was given back, until something fits.
    let grads = upload(&gpu, &vec![7f32; count]);
    let short = upload(&gpu, &[7f32; 2]);
    let narrow = tensor(&gpu, Problem::new(shape, Dtype::F16), 2);
    let in_place = Wanted::default().dx(Some(Destination::InPlace));
    let before = bits(&dy);
    let mut saved = forward(&norm, &x);
    for (dy, wanted, start) in [
        (
            &dy,
            in_place.dx(None).parameters(false),
            "dx and parameters: ",
        ),
        (
            &narrow,
            in_place.accumulate(&grads),
            "dy: expected n3c6h7w7 nchw f32, got n3c6h7w7 nchw f16",
        ),
        (
            &turned,
            in_place.accumulate(&grads),
            "dy: expected n3c6h7w7",
        ),
        (&foreign, in_place.accumulate(&grads), "dy: "),
        (&dy, in_place.accumulate(&short), "grads: needs"),
    ] {
        let refused = norm.backward_with(saved, dy, wanted).unwrap_err();
        assert!(refused.to_string().starts_with(start), "{refused}");
        saved = *refused.saved;
    }
    assert_eq!(bits(&dy), before);
    assert_eq!(download(&gpu, &grads, count), vec![7.0; count]);
    assert_eq!(download(&gpu, &short, 2), [7.0; 2]);
    norm.backward(saved, &dy).unwrap();
}

fn a_configuration_that_fits_no_tensor_is_refused<C: Tested>() {
    let gpu = gpu();
    let shape = SHAPES[0];
    for eps in [0.0, -1e-5, f32::NAN, f32::INFINITY] {
        let config = C::usual(shape).set_eps(eps);
        refused(&gpu, shape, config, "eps: must be a positive number");
        fails(config.make(&gpu), "eps: must be a positive number");
    }
    for parameters in [usize::MAX, 1 << 40, 1 << 31] {
        let layer = C::huge(parameters).make(&gpu).map(drop);
        let limit = matches!(layer, Err(Error::Plan(PlanError::Limit { .. })));
        assert!(limit, "{parameters}: {layer:?}");
    }
}

/// No plan and no call of a layer for this configuration and shape.
fn refused<C: Tested>(gpu: &Gpu, shape: Shape, config: C, start: &str) {
    fails(ForwardPlan::new(gpu.kernels(), shape, &config), start);
    fails(BackwardPlan::new(gpu.kernels(), shape, &config), start);
    if let Ok(norm) = config.make(gpu) {
        let x = tensor(gpu, shape, 1);
        fails(norm.train(&x), start);
        fails(norm.eval(&x), start);
    }
}

/// What a configuration says of itself, layers refuse when they are made, and plans too.
#[test]
fn sizes_that_do_not_fit_are_named() {
    let gpu = gpu();
    let shape = Shape::nchw(2, 6, 4, 4);
    for (config, start) in [
        (InstanceNormConfig::new(0), "num_features: "),
        (InstanceNormConfig::new(4), "x: expected 4 channels, got 6 "),
    ] {
        refused(&gpu, shape, config, start);
    }
    for (config, start) in [
        (GroupNormConfig::new(0, 6), "num_groups: "),
        (GroupNormConfig::new(4, 6), "num_groups: "),
        (GroupNormConfig::new(12, 6), "num_groups: "),
        (GroupNormConfig::new(1, 0), "num_channels: "),
        (GroupNormConfig::new(2, 8), "x: expected 8 channels, got 6 "),
    ] {
        refused(&gpu, shape, config, start);
    }
    // Half of a row of four, a row and a half, channels that are not innermost, and more than there is.
    for size in [2, 6, 24, 384] {
        refused(&gpu, shape, LayerNormConfig::new(size), "normalized_size");
        refused(&gpu, shape, RmsNormConfig::new(size), "normalized_size");
    }
    refused(&gpu, shape, LayerNormConfig::new(0), "normalized_size: ");
    refused(&gpu, shape, RmsNormConfig::new(0), "normalized_size: ");
    fails(InstanceNormConfig::new(0).build(&gpu), "num_features: ");
    fails(GroupNormConfig::new(0, 6).build(&gpu), "num_groups: ");
    fails(GroupNormConfig::new(4, 6).build(&gpu), "num_groups: ");
    fails(GroupNormConfig::new(1, 0).build(&gpu), "num_channels: ");
    fails(LayerNormConfig::new(0).build(&gpu), "normalized_size: ");
    fails(RmsNormConfig::new(0).build(&gpu), "normalized_size: ");
    // The layout decides what is innermost.
    for size in [6, 24, 96, 192] {
        let shape = Shape::nhwc(2, 4, 4, 6);
        LayerNormConfig::new(size)
            .build(&gpu)
            .unwrap()
            .eval(&tensor(&gpu, shape, 1))
            .unwrap();
    }
}

/// What one norm's forward pass left is not another's, even over the same tensor.
fn the_saved_of_another_layer_is_refused_and_given_back<C: Tested>() {
    let gpu = gpu();
    let shape = SHAPES[0];
    let (x, dy) = (tensor(&gpu, shape, 1), tensor(&gpu, shape, 2));
    let mut batch = BatchNormConfig::new(shape.channels()).build(&gpu).unwrap();
    let [norm, other] = [0, 1].map(|_| C::usual(shape).make(&gpu).unwrap());
    let expected = batch.train(&x).unwrap().1;
    let expected = batch.backward(expected, &dy).unwrap();

    let (_, saved) = batch.train(&x).unwrap();
    let refused = norm.backward(saved, &dy).unwrap_err();
    assert_eq!(refused.error, TensorError::ForeignSaved.into());
    let gradients = batch.backward(*refused.saved, &dy).unwrap();
    assert_eq!(bits(&gradients.dx), bits(&expected.dx));
    assert_eq!(gradients.weight().unwrap(), expected.weight().unwrap());

    let refused = batch.backward(forward(&norm, &x), &dy).unwrap_err();
    assert_eq!(refused.error, TensorError::ForeignSaved.into());
    let refused = other.backward(*refused.saved, &dy).unwrap_err();
    assert_eq!(refused.error, TensorError::ForeignSaved.into());
    norm.backward(*refused.saved, &dy).unwrap();
}

fn an_empty_batch_is_empty_and_has_no_gradient<C: Tested>() {
    let gpu = gpu();
    for shape in [
        Shape::nchw(0, 3, 4, 4),
        Shape::nhwc(0, 4, 4, 3),
        Shape::nlc(0, 5, 3),
    ] {
        // The configuration of a batch of one.
        let mut dims = shape.dims();
        dims[0] = 1;
        let config = C::usual(Shape::from_dims(&dims, shape.layout()).unwrap());
        let norm = layer(&gpu, config);
        let x = gpu.tensor(shape, &[]).unwrap();
        let (y, saved) = norm.train(&x).unwrap();
        assert_eq!(y.shape(), shape);
        assert!(y.read().unwrap().is_empty());
        let gradients = norm.backward(saved, &y).unwrap();
        assert!(gradients.dx.read().unwrap().is_empty());
        let zeros = vec![0.0; config.parameter_count()];
        assert_eq!(gradients.weight().unwrap(), Some(zeros.clone()), "{shape}");
        let bias = config.affine_rows().bias.map(|_| zeros.clone());
        assert_eq!(gradients.bias().unwrap(), bias, "{shape}");
        assert!(norm.eval(&x).unwrap().read().unwrap().is_empty());

        // Nothing is added to what was there.
        let (_, saved) = norm.train(&x).unwrap();
        let rows = config.affine_rows().bytes() as usize / 4;
        let grads = upload(&gpu, &vec![3f32; rows]);
        let wanted = Wanted::default().accumulate(&grads);
        norm.backward_with(saved, &y, wanted).unwrap();
        assert_eq!(download(&gpu, &grads, rows), vec![3.0; rows], "{shape}");
    }
}

/// Empty in another extent than the batch.
#[test]
fn samples_without_values_have_no_gradient() {
    let gpu = gpu();
    for shape in [Shape::nhwc(2, 0, 4, 3), Shape::ncl(2, 3, 0)] {
        let x = gpu.tensor(shape, &[]).unwrap();
        let norm = InstanceNormConfig::new(3).affine(true).build(&gpu).unwrap();
        let gradients = norm.backward(forward(&norm, &x), &x).unwrap();
        assert_eq!(gradients.weight().unwrap(), Some(vec![0.0; 3]), "{shape}");
        let norm = GroupNormConfig::new(1, 3).build(&gpu).unwrap();
        let gradients = norm.backward(forward(&norm, &x), &x).unwrap();
        assert_eq!(gradients.bias().unwrap(), Some(vec![0.0; 3]), "{shape}");
    }
    let x = gpu.tensor(Shape::nhwc(2, 0, 4, 3), &[]).unwrap();
    let norm = LayerNormConfig::new(3).build(&gpu).unwrap();
    let gradients = norm.backward(forward(&norm, &x), &x).unwrap();
    assert_eq!(gradients.weight().unwrap(), Some(vec![0.0; 3]));
}

/// Deviations of a constant are zero, whatever the constant.
fn constants_become_the_bias<C: Tested>(gpu: &Gpu, shape: Shape, config: C) {
    let constants = [0.0, 1.0, -0.1, 1e4, 3.3e7, -7e-30];
    let count = shape.elements().unwrap();
    let statistic = |i| config.statistic_of(shape, i);
    let x: Vec<f32> = (0..count)
        .map(|i| constants[statistic(i) % constants.len()])
        .collect();
    let norm = layer(gpu, config);
    let bias = norm.bias().unwrap().unwrap();
    let y = norm.eval(&gpu.tensor(shape, &x).unwrap()).unwrap();
    let expected: Vec<f32> = (0..count)
        .map(|i| bias[config.parameter_of(shape, i)])
        .collect();
    assert_eq!(y.read().unwrap(), expected, "{shape} {config:?}");
}

#[test]
fn constants_become_exactly_the_bias() {
    let gpu = gpu();
    for shape in SHAPES {
        constants_become_the_bias(&gpu, shape, InstanceNormConfig::usual(shape));
        for config in GroupNormConfig::all(shape) {
            constants_become_the_bias(&gpu, shape, config);
        }
        for config in LayerNormConfig::all(shape) {
            constants_become_the_bias(&gpu, shape, config);
        }
        // Without a mean only zeros stay what they are.
        let norm = layer(&gpu, RmsNormConfig::usual(shape));
        let zeros = vec![0f32; shape.elements().unwrap()];
        let y = norm.eval(&gpu.tensor(shape, &zeros).unwrap()).unwrap();
        assert_eq!(y.read().unwrap(), zeros, "{shape}");
    }
}

/// As in torch: one value is its own mean.
#[test]
fn a_group_or_row_of_one_value_becomes_the_bias_and_has_no_gradient() {
    let gpu = gpu();
    let shape = Shape::nc(8, 3);
    let (x, dy) = (tensor(&gpu, shape, 1), tensor(&gpu, shape, 2));
    let norm = layer(&gpu, GroupNormConfig::new(3, 3));
    let (y, saved) = norm.train(&x).unwrap();
    let bias = norm.bias().unwrap().unwrap();
    assert_eq!(y.read().unwrap(), bias.repeat(8));
    let gradients = norm.backward(saved, &dy).unwrap();
    assert_eq!(gradients.dx.read().unwrap(), [0.0; 24]);
    assert_eq!(gradients.weight().unwrap(), Some(vec![0.0; 3]));

    for shape in [Shape::nc(24, 1), Shape::nlc(4, 6, 1)] {
        let (x, dy) = (tensor(&gpu, shape, 1), tensor(&gpu, shape, 2));
        let norm = layer(&gpu, LayerNormConfig::new(1));
        let (y, saved) = norm.train(&x).unwrap();
        let bias = norm.bias().unwrap().unwrap();
        assert_eq!(y.read().unwrap(), bias.repeat(24), "{shape}");
        let gradients = norm.backward(saved, &dy).unwrap();
        assert_eq!(gradients.dx.read().unwrap(), [0.0; 24], "{shape}");
        assert_eq!(gradients.weight().unwrap(), Some(vec![0.0]), "{shape}");
        // A value over its own magnitude is its sign.
        let y = RmsNormConfig::new(1).build(&gpu).unwrap().eval(&x).unwrap();
        let signs: Vec<f64> = values(&x).iter().map(|x| x.signum()).collect();
        within("sign", &values(&y), &signs, Bound::new(1e-3, 0.0)).unwrap();
    }

    // One value in all of a channel's: torch refuses it, too.
    let one = Shape::nc(1, 3);
    let error = PlanError::TooFewSpatialValues { shape: one };
    let plan = ForwardPlan::new(gpu.kernels(), one, &GroupNormConfig::new(3, 3)).map(drop);
    assert_eq!(plan, Err(error));
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
        refused(&gpu, shape, config, &expected.to_string());
    }
}

/// A mean of ten thousand deviations costs no digits that the input has.
fn a_large_mean_costs_no_digits<C: Tested>() {
    let gpu = gpu();
    for shape in [
        Shape::nchw(2, 3, 9, 9),
        Shape::nhwc(2, 9, 9, 24),
        Shape::nc(4, 300),
    ] {
        if C::WORD == "instance" && shape.spatial().is_empty() {
            continue;
        }
        // The values deviate by one.
        let noise = noise(1, shape.elements().unwrap());
        let x: Vec<f32> = noise.iter().map(|v| 1e4 + 3f32.sqrt() * v).collect();
        for config in C::all(shape) {
            let config = config.parameters(false, false);
            let norm = config.make(&gpu).unwrap();
            let y = norm.eval(&gpu.tensor(shape, &x).unwrap()).unwrap();
            let expected = config.forward_of(shape, &x, None, None).y;
            // Of few values the deviation may be any.
            let largest = expected.iter().fold(1f64, |a, y| a.max(y.abs()));
            let bound = Bound::new(0.0, 4e-7 * largest);
            let worst = within("y", &y.read().unwrap(), &expected, bound);
            let worst = worst.unwrap_or_else(|error| panic!("{shape} {config:?}: {error}"));
            println!("{shape} {config:?}: {:.1e}", worst.error);
        }
    }
}

fn a_nan_spoils_no_other_statistic<C: Tested>() {
    let gpu = gpu();
    for shape in [SHAPES[0], SHAPES[1], SHAPES[5]] {
        for config in C::all(shape) {
            let mut x = noise(1, shape.elements().unwrap());
            let hit = x.len() / 2 + 3;
            x[hit] = f32::NAN;
            let spoiled = config.statistic_of(shape, hit);
            let norm = layer(&gpu, config);
            let x = gpu.tensor(shape, &x).unwrap();
            let (y, saved) = norm.train(&x).unwrap();
            let dx = norm.backward(saved, &tensor(&gpu, shape, 2)).unwrap().dx;
            for (name, tensor) in [("y", y), ("dx", dx)] {
                for (i, value) in tensor.read().unwrap().iter().enumerate() {
                    let expected = config.statistic_of(shape, i) == spoiled;
                    assert_eq!(value.is_nan(), expected, "{shape} {config:?} {name}[{i}]");
                }
            }
        }
    }
}
