//! Norms whose samples have parameters of their own: AdaLN, AdaIN, FiLM.

use crate::common::fixtures::{Fixtures, draw};
use crate::common::sample_norm::Tested;
use crate::common::{blank, download, gpu, noise, upload, wide};
use wgpu_norm::group_norm::{
    BackwardBuffers, BackwardPlan, Epilogue, ForwardBuffers, ForwardPlan, Input, Layer, Wanted,
};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{
    BatchNormConfig, Dtype, Error, Gpu, GroupNormConfig, InstanceNormConfig, LayerNormConfig,
    PlanError, Problem, RmsNormConfig, SampleLine, SampleNorm, Shape, Tensor, TensorError,
};

const BOUND: Bound = Bound::new(1e-5, 1e-5);

/// A batch of one sample of the same extents.
fn sample_of(shape: Shape) -> Shape {
    let mut dims = shape.dims();
    dims[0] = 1;
    Shape::from_dims(&dims, shape.layout()).unwrap()
}

/// A tensor of noise.
fn tensor(gpu: &Gpu, problem: impl Into<Problem>, seed: u64) -> Tensor {
    let problem = problem.into();
    let values = noise(seed, problem.shape.elements().unwrap());
    gpu.tensor(problem, &values).unwrap()
}

/// Weights around 1.5, or around 0.5 where 1 is added, and biases, for each sample.
fn parameters(samples: usize, count: usize, unit_offset: bool) -> [Vec<f32>; 2] {
    let center = if unit_offset { 0.5 } else { 1.5 };
    let weight = noise(7, samples * count)
        .iter()
        .map(|v| v + center)
        .collect();
    [weight, noise(8, samples * count)]
}

/// Each sample by the reference, with its own parameters.
fn follows_the_reference<C: Tested>(gpu: &Gpu, problem: Problem, config: C, unit_offset: bool) {
    let config = config.per_sample_with(unit_offset);
    let what = format!("{problem} {config:?}");
    let ok = |name: &str, actual: &[f32], expected: &[f64], bound: Bound| {
        within(name, &wide(actual), expected, bound)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
    };
    let shape = problem.shape;
    let (samples, count) = (shape.batch(), config.parameter_count());
    let [x, dy] = [1, 3].map(|seed| tensor(gpu, problem, seed));
    let norm = config.make(gpu).unwrap();
    let rows = config.affine_rows_of(samples);
    let [weight, bias] = parameters(samples, count, unit_offset);
    let given = [(&rows.weight, &weight), (&rows.bias, &bias)];
    let given = given.into_iter().filter(|(row, _)| row.is_some());
    let values: Vec<f32> = given.flat_map(|(_, values)| values).copied().collect();
    let affine = gpu
        .tensor(Shape::nc(values.len() / count, count), &values)
        .unwrap();

    let (y, saved) = norm.train(Input::from(&x).affine(&affine)).unwrap();
    let gradients = norm.backward(saved, &dy).unwrap();

    // The reference knows nothing of batches with such parameters: it sees one sample at a time.
    let alone = sample_of(shape);
    let size = alone.elements().unwrap();
    let (read, dy) = (x.read().unwrap(), wide(&dy.read().unwrap()));
    let [mut expected_y, mut dx, mut dweight, mut dbias] = [const { Vec::new() }; 4];
    for sample in 0..samples {
        let own = sample * count..(sample + 1) * count;
        let x = &read[sample * size..(sample + 1) * size];
        let dy = &dy[sample * size..(sample + 1) * size];
        let weight = rows.weight.is_some().then_some(&weight[own.clone()]);
        let bias = rows.bias.is_some().then_some(&bias[own]);
        expected_y.extend(config.forward_of(alone, x, weight, bias).y);
        let gradients = config.gradients_of(alone, x, dy, weight);
        dx.extend(gradients.dx);
        dweight.extend(gradients.dweight);
        dbias.extend(gradients.dbias);
    }
    let stored = match problem.dtype {
        Dtype::F32 => BOUND,
        Dtype::F16 => Bound::new(1e-3, 1e-5),
        _ => Bound::new(8e-3, 1e-5),
    };
    ok("y", &y.read().unwrap(), &expected_y, stored);
    ok("dx", &gradients.dx.read().unwrap(), &dx, stored);
    let sums = Bound::new(1e-5, 1e-4);
    for (name, actual, expected, row) in [
        ("dweight", gradients.weight().unwrap(), dweight, rows.weight),
        ("dbias", gradients.bias().unwrap(), dbias, rows.bias),
    ] {
        assert_eq!(actual.is_some(), row.is_some(), "{what}: {name}");
        if let Some(actual) = actual {
            assert_eq!(actual.len(), samples * count);
            ok(name, &actual, &expected, sums);
        }
    }
}

/// Planes and columns, odd extents, samples that begin within a vector, and samples of one row.
fn each_sample_follows_the_reference<C: Tested>() {
    let gpu = gpu();
    for (index, shape) in [
        Shape::nchw(3, 6, 7, 7),
        Shape::nhwc(3, 7, 7, 6),
        Shape::nlc(2, 17, 9),
        Shape::nhwc(2, 8, 8, 20),
        Shape::ncl(1, 4, 12),
        Shape::nlc(5, 2, 2),
    ]
    .into_iter()
    .enumerate()
    {
        let all = C::all(shape);
        let config = all[index % all.len()];
        follows_the_reference(&gpu, shape.into(), config, index % 2 == 0);
        let dtype = Dtype::ALL[1 + index % 2];
        let partly = all[0].parameters(index % 3 != 0, index % 3 != 1);
        follows_the_reference(&gpu, Problem::new(shape, dtype), partly, false);
    }
}

#[test]
fn each_sample_of_a_group_norm() {
    each_sample_follows_the_reference::<GroupNormConfig>();
}

#[test]
fn each_sample_of_an_instance_norm() {
    each_sample_follows_the_reference::<InstanceNormConfig>();
}

#[test]
fn each_sample_of_a_layer_norm() {
    each_sample_follows_the_reference::<LayerNormConfig>();
}

#[test]
fn each_sample_of_an_rms_norm() {
    each_sample_follows_the_reference::<RmsNormConfig>();
}

/// Of the layer that the line names, with the scales and shifts of the fixtures.
fn follows_torch<C: Tested>(gpu: &Gpu, fixtures: &Fixtures, index: usize, line: &SampleLine<C>) {
    let shape = line.common.problem.shape;
    let narrow = |seed, count| -> Vec<f32> {
        let values = draw(8 * index as u64 + seed, count).into_iter();
        values.map(|v| v as f32).collect()
    };
    let count = shape.elements().unwrap();
    let [x, dy] = [1, 2].map(|seed| gpu.tensor(shape, &narrow(seed, count)).unwrap());
    let rows = line.config.affine_rows_of(shape.batch());
    let each = shape.batch() * line.config.parameter_count();
    let mut values = narrow(3, each);
    if rows.bias.is_some() {
        values.extend(narrow(4, each));
    }
    let affine = gpu.tensor(Shape::nc(1, values.len()), &values).unwrap();

    let norm = line.config.make(gpu).unwrap();
    let (y, saved) = norm.train(Input::from(&x).affine(&affine)).unwrap();
    let gradients = norm.backward(saved, &dy).unwrap();
    for (name, actual) in [
        ("y", Some(y.read().unwrap())),
        ("dx", Some(gradients.dx.read().unwrap())),
        ("dscale", gradients.weight().unwrap()),
        ("dshift", gradients.bias().unwrap()),
    ] {
        let expected = fixtures.values(&format!("{index}.{name}"));
        assert_eq!(actual.is_some(), expected.is_some(), "{line} {name}");
        if let Some((actual, expected)) = actual.zip(expected) {
            within(name, &wide(&actual), &expected, Bound::new(1e-5, 2e-5))
                .unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}

#[test]
fn formulas_of_networks_are_as_in_torch() {
    let fixtures = Fixtures::new(
        include_bytes!("fixtures/per_sample.safetensors"),
        include_bytes!("fixtures/per_sample.py"),
    );
    let gpu = gpu();
    let lines: Vec<String> = fixtures.json("cases");
    assert_eq!(lines.len(), 8);
    for (index, line) in lines.iter().enumerate() {
        let (gpu, all) = (&gpu, &fixtures);
        match line.split(' ').next() {
            Some("group") => {
                follows_torch::<GroupNormConfig>(gpu, all, index, &line.parse().unwrap())
            }
            Some("instance") => {
                follows_torch::<InstanceNormConfig>(gpu, all, index, &line.parse().unwrap());
            }
            Some("layer") => {
                follows_torch::<LayerNormConfig>(gpu, all, index, &line.parse().unwrap())
            }
            _ => follows_torch::<RmsNormConfig>(gpu, all, index, &line.parse().unwrap()),
        }
    }
    fixtures.check_all_used();
}

/// Of one sample, the parameters are those of a layer: the bits are the same.
#[test]
fn one_sample_is_a_layer() {
    let gpu = gpu();
    let shape = Shape::nlc(1, 12, 20);
    let config = LayerNormConfig::new(20);
    let mut own = config.build(&gpu).unwrap();
    let [weight, bias] = parameters(1, 20, false);
    own.set_weight(&weight).unwrap();
    own.set_bias(&bias).unwrap();
    let affine = gpu
        .tensor(Shape::nc(2, 20), &[weight, bias].concat())
        .unwrap();
    let given = config.per_sample(true).build(&gpu).unwrap();
    let [x, dy] = [1, 3].map(|seed| tensor(&gpu, shape, seed));

    let (y, saved) = own.train(&x).unwrap();
    let (other, given_saved) = given.train(Input::from(&x).affine(&affine)).unwrap();
    assert_eq!(y.read().unwrap(), other.read().unwrap());
    assert_eq!(given_saved.held_bytes(), saved.held_bytes() + 4 * 40);
    let gradients = own.backward(saved, &dy).unwrap();
    let others = given.backward(given_saved, &dy).unwrap();
    assert_eq!(gradients.dx.read().unwrap(), others.dx.read().unwrap());
    assert_eq!(gradients.weight().unwrap(), others.weight().unwrap());
    assert_eq!(gradients.bias().unwrap(), others.bias().unwrap());
}

/// A transformer's block: the residual is added, and what follows is modulated.
#[test]
fn a_prenorm_block_takes_the_parameters_of_its_samples() {
    let gpu = gpu();
    let shape = Shape::nlc(3, 8, 24);
    let norm = LayerNormConfig::new(24).per_sample(true).unit_offset(true);
    let norm = norm.build(&gpu).unwrap();
    let [x, residual, dy, dadded] = [1, 2, 3, 4].map(|seed| tensor(&gpu, shape, seed));
    let [weight, bias] = parameters(3, 24, true);
    let affine = gpu
        .tensor(Shape::nc(6, 24), &[weight, bias].concat())
        .unwrap();

    let input = Input::from((&x, &residual)).affine(&affine);
    let (y, added, saved) = norm.train_added(input).unwrap();
    let (expected, plain) = norm.train(Input::from(&added).affine(&affine)).unwrap();
    assert_eq!(y.read().unwrap(), expected.read().unwrap());
    assert_eq!(
        norm.eval_added(input).unwrap().0.read().unwrap(),
        y.read().unwrap()
    );
    let wanted = Wanted::default().dadded(&dadded);
    let gradients = norm.backward_with(saved, &dy, wanted).unwrap();
    let plain = norm.backward(plain, &dy).unwrap();
    assert_eq!(gradients.weight().unwrap(), plain.weight().unwrap());
    assert_eq!(gradients.bias().unwrap(), plain.bias().unwrap());
}

/// Buffers of the caller's own, of the sizes that the configuration tells.
#[test]
fn plans_take_the_rows_of_all_samples() {
    let gpu = gpu();
    let shape = Shape::nhwc(3, 5, 5, 8);
    let config = GroupNormConfig::new(2, 8).per_sample(true);
    let rows = config.affine_rows_of(3);
    assert_eq!(
        (rows.weight.clone(), rows.bias.clone()),
        (Some(0..96), Some(96..192))
    );
    assert_eq!(config.affine_rows().bytes(), 0, "the layer has none");
    let forward = ForwardPlan::new(gpu.kernels(), shape, &config).unwrap();
    let backward = BackwardPlan::new(gpu.kernels(), shape, &config).unwrap();
    assert_eq!(
        (forward.affine_bytes(), backward.grads_bytes()),
        (rows.bytes(), rows.bytes())
    );

    let values = noise(1, 600);
    let [x, dy] = [&values, &noise(2, 600)].map(|values| upload(&gpu, values));
    let [weight, bias] = parameters(3, 8, false);
    let affine = upload(&gpu, &[weight, bias].concat());
    let [y, dx] = [forward.activation_bytes(); 2].map(|bytes| blank(&gpu, bytes));
    let saved = blank(&gpu, forward.saved_bytes());
    let scratch = blank(&gpu, forward.scratch_bytes().max(backward.scratch_bytes()));
    let grads = blank(&gpu, rows.bytes());
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let step = forward.bind(
        &ForwardBuffers::new(x.slice(..), y.slice(..), saved.slice(..))
            .affine(affine.slice(..))
            .scratch(scratch.slice(..)),
    );
    step.unwrap().encode(&mut encoder);
    let step = backward.bind(
        &BackwardBuffers::new(x.slice(..), dy.slice(..), saved.slice(..))
            .dx(dx.slice(..))
            .affine(affine.slice(..))
            .grads(grads.slice(..))
            .scratch(scratch.slice(..)),
    );
    step.unwrap().encode(&mut encoder);
    gpu.queue().submit([encoder.finish()]);

    let norm = config.build(&gpu).unwrap();
    let [x, dy] = [1, 2].map(|seed| tensor(&gpu, shape, seed));
    let affine = gpu.tensor_from_buffer(Shape::nc(6, 8), affine).unwrap();
    let (expected, expected_saved) = norm.train(Input::from(&x).affine(&affine)).unwrap();
    let gradients = norm.backward(expected_saved, &dy).unwrap();
    assert_eq!(download(&gpu, &y, 600), expected.read().unwrap());
    assert_eq!(download(&gpu, &dx, 600), gradients.dx.read().unwrap());
    let [dweight, dbias] = [gradients.weight(), gradients.bias()].map(|row| row.unwrap().unwrap());
    assert_eq!(download(&gpu, &grads, 48), [dweight, dbias].concat());
}

/// What `train` answers.
fn refused(norm: &Layer<LayerNormConfig>, input: Input<'_>) -> String {
    norm.train(input).unwrap_err().to_string()
}

#[test]
fn parameters_that_do_not_fit_are_refused() {
    let gpu = gpu();
    let shape = Shape::nlc(3, 5, 8);
    let x = tensor(&gpu, shape, 1);
    let norm = LayerNormConfig::new(8)
        .per_sample(true)
        .build(&gpu)
        .unwrap();
    assert_eq!(
        refused(&norm, Input::from(&x)),
        "affine: is missing; give the samples' parameters with Input::affine"
    );
    let short = tensor(&gpu, Shape::nc(2, 8), 2);
    assert_eq!(
        refused(&norm, Input::from(&x).affine(&short)),
        "affine: expected 48 values of f32, got n2c8 nc f32"
    );
    let half = tensor(&gpu, Problem::new(Shape::nc(6, 8), Dtype::F16), 2);
    assert!(
        refused(&norm, Input::from(&x).affine(&half)).contains("values of f32, got n6c8 nc f16")
    );
    let fits = tensor(&gpu, Shape::nc(6, 8), 2);
    let elsewhere = tensor(&crate::common::gpu(), Shape::nc(6, 8), 2);
    let error = norm.train(Input::from(&x).affine(&elsewhere)).unwrap_err();
    assert!(matches!(
        error,
        Error::Tensor(TensorError::WrongDevice { field: "affine" })
    ));

    let own = LayerNormConfig::new(8).build(&gpu).unwrap();
    let none = "affine: is given, but the samples have no parameters of their own in this layer";
    assert_eq!(refused(&own, Input::from(&x).affine(&fits)), none);
    let mut batch = BatchNormConfig::new(8).build(&gpu).unwrap();
    let error = batch.train(Input::from(&x).affine(&fits)).unwrap_err();
    assert_eq!(error.to_string(), none);

    // A layer without parameters of its own has none to set, and a row is not longer than a sample.
    let mut norm = norm;
    assert!(norm.affine_buffer().is_none());
    assert!(norm.set_weight(&[1.0; 8]).is_err());
    assert_eq!(norm.weight().unwrap(), None);
    let long = LayerNormConfig::new(120)
        .per_sample(true)
        .build(&gpu)
        .unwrap();
    let error = long.train(Input::from(&x).affine(&fits)).unwrap_err();
    assert!(matches!(
        error,
        Error::Tensor(TensorError::Shape {
            field: "affine",
            ..
        })
    ));
    let plan = ForwardPlan::new(gpu.kernels(), shape, long.config());
    assert!(matches!(
        plan,
        Err(PlanError::Unsupported {
            field: "normalized_size",
            ..
        })
    ));
}

#[test]
fn a_batch_without_samples_or_values_has_no_gradients_to_speak_of() {
    let gpu = gpu();
    let norm = GroupNormConfig::new(2, 8)
        .per_sample(true)
        .epilogue(Epilogue::Relu);
    let norm = norm.build(&gpu).unwrap();
    let empty = gpu.tensor(Shape::nchw(0, 8, 2, 2), &[]).unwrap();
    let (y, saved) = norm.train(&empty).unwrap();
    assert!(y.read().unwrap().is_empty());
    let gradients = norm.backward(saved, &empty).unwrap();
    assert_eq!(gradients.buffer().map(wgpu::Buffer::size), None);

    // Samples without values have parameters, whose gradients are zero.
    let hollow = gpu.tensor(Shape::nchw(2, 8, 0, 2), &[]).unwrap();
    let affine = tensor(&gpu, Shape::nc(4, 8), 2);
    let (_, saved) = norm.train(Input::from(&hollow).affine(&affine)).unwrap();
    let gradients = norm.backward(saved, &hollow).unwrap();
    assert_eq!(gradients.weight().unwrap(), Some(vec![0.0; 16]));
    assert_eq!(gradients.bias().unwrap(), Some(vec![0.0; 16]));
}

/// A shape whose parameters no device could count, though it has no values.
#[test]
fn parameters_beyond_all_counts_are_refused() {
    let gpu = gpu();
    let many = 1 << 20;
    let config = GroupNormConfig::new(1, many).per_sample(true);
    let plan = ForwardPlan::new(gpu.kernels(), Shape::nchw(many, many, 0, 1), &config);
    assert!(matches!(plan, Err(PlanError::TooManyElements { .. })));
}

/// Rows of samples without values: a plan overwrites the gradients of all parameters with zeros.
#[test]
fn samples_without_values_have_gradients_of_zero() {
    let gpu = gpu();
    let shape = Shape::nlc(2, 0, 3);
    let config = LayerNormConfig::new(3).per_sample(true);
    let plan = BackwardPlan::new(gpu.kernels(), shape, &config).unwrap();
    assert_eq!(plan.grads_bytes(), 2 * 2 * 3 * 4);
    let grads = upload(&gpu, &[3.0f32; 12]);
    let [nothing, affine, scratch] = [16, 48, plan.scratch_bytes()].map(|bytes| blank(&gpu, bytes));
    let dx = blank(&gpu, 16);
    let step = plan.bind(
        &BackwardBuffers::new(nothing.slice(..), nothing.slice(..), nothing.slice(..))
            .dx(dx.slice(..))
            .affine(affine.slice(..))
            .grads(grads.slice(..))
            .scratch(scratch.slice(..)),
    );
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    step.unwrap().encode(&mut encoder);
    gpu.queue().submit([encoder.finish()]);
    assert_eq!(download(&gpu, &grads, 12), [0.0; 12]);
}
