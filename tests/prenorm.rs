//! Blocks that add before they normalize: one pass gives what an addition and a norm give.

use wgpu_norm::group_norm::{Layer, Wanted};
use wgpu_norm::{
    Dtype, Error, Gpu, GroupNormConfig, InstanceNormConfig, LayerNormConfig, PlanError, Problem,
    RmsNormConfig, SampleNorm, Shape, Tensor, TensorError, group_norm::Epilogue,
};

use crate::common::{gpu, noise};

const SHAPE: Shape = Shape::nhwc(3, 5, 7, 12);

fn tensor(gpu: &Gpu, problem: Problem, seed: u64) -> Tensor {
    let values = noise(seed, problem.shape.elements().unwrap());
    gpu.tensor(problem, &values).unwrap()
}

/// The sum of two tensors, as their type stores it.
fn sum(a: &Tensor, b: &Tensor) -> Tensor {
    let (left, right) = (a.read().unwrap(), b.read().unwrap());
    let sums: Vec<f32> = left.iter().zip(&right).map(|(a, b)| a + b).collect();
    a.gpu().tensor(a.problem(), &sums).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.read().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn one_pass_is_two<C: SampleNorm>(norm: &Layer<C>, dtype: Dtype) {
    let problem = Problem::new(SHAPE, dtype);
    let gpu = norm.gpu();
    let [x, residual, dy, dadded] = [1, 2, 3, 4].map(|seed| tensor(gpu, problem, seed));

    let (y, added, saved) = norm.train_added((&x, &residual)).unwrap();
    let expected = sum(&x, &residual);
    let (expected_y, expected_saved) = norm.train(&expected).unwrap();
    assert_eq!(bits(&added), bits(&expected), "{dtype} sum");
    assert_eq!(bits(&y), bits(&expected_y), "{dtype} y");
    let (y, added) = norm.eval_added((&x, &residual)).unwrap();
    assert_eq!(bits(&added), bits(&expected), "{dtype} sum in evaluation");
    assert_eq!(bits(&y), bits(&expected_y), "{dtype} y in evaluation");

    let wanted = Wanted::default().dadded(&dadded);
    let gradients = norm.backward_with(saved, &dy, wanted).unwrap();
    let alone = norm.backward(expected_saved, &dy).unwrap();
    assert_eq!(gradients.weight().unwrap(), alone.weight().unwrap());
    let dx = gradients.dx.expect("it is wanted");
    if dtype == Dtype::F32 {
        // The norm's gradient is rounded only once here, and twice there, to the same f32.
        assert_eq!(bits(&dx), bits(&sum(&alone.dx, &dadded)), "dx");
    }
}

#[test]
fn one_pass_gives_what_an_addition_and_a_norm_give() {
    let gpu = gpu();
    for dtype in [Dtype::F32, Dtype::F16] {
        one_pass_is_two(&LayerNormConfig::new(12).build(&gpu).unwrap(), dtype);
        one_pass_is_two(&RmsNormConfig::new(12).build(&gpu).unwrap(), dtype);
        one_pass_is_two(&GroupNormConfig::new(4, 12).build(&gpu).unwrap(), dtype);
        let instance = InstanceNormConfig::new(12).affine(true);
        one_pass_is_two(&instance.build(&gpu).unwrap(), dtype);
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let gpu = gpu();
    let norm = LayerNormConfig::new(12).build(&gpu).unwrap();
    let [x, residual] = [1, 2].map(|seed| tensor(&gpu, SHAPE.into(), seed));
    let other = tensor(&gpu, Shape::nc(5, 12).into(), 3);
    let refused = norm.train_added((&x, &other)).unwrap_err();
    assert!(refused.to_string().starts_with("residual:"), "{refused}");

    let (_, _, saved) = norm.train_added((&x, &residual)).unwrap();
    let wanted = Wanted::default().dadded(&other);
    let refused = norm.backward_with(saved, &x, wanted).unwrap_err();
    assert!(
        matches!(&refused.error, Error::Tensor(TensorError::Shape { field, .. }) if *field == "dadded"),
        "{refused}"
    );
    // What was saved is given back, and serves.
    norm.backward(*refused.saved, &x).unwrap();

    let adds = LayerNormConfig::new(12).epilogue(Epilogue::AddRelu);
    let refused = adds.build(&gpu).unwrap().train_added((&x, &residual));
    let is_prenorm = matches!(
        refused,
        Err(Error::Plan(PlanError::Unsupported {
            field: "prenorm",
            ..
        }))
    );
    assert!(is_prenorm);
}
