//! Backward of a layer: which gradients, where they go, and what a refusal leaves as it was.

use crate::common::{blank, gpu, noise, upload, wide};
use wgpu_norm::batch_norm::{Destination, Epilogue, Gradients, Saved, Wanted};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{
    BatchNorm, BatchNormConfig, BindError, Dtype, Error, Gpu, PlanError, Problem, Shape, Tensor,
    TensorError,
};

const SHAPE: Shape = Shape::nchw(3, 6, 5, 5);

fn tensor(gpu: &Gpu, seed: u64) -> Tensor {
    gpu.tensor(SHAPE, &noise(seed, 450)).unwrap()
}

fn layer(gpu: &Gpu) -> BatchNorm {
    let mut bn = BatchNormConfig::new(6).build(gpu).unwrap();
    bn.set_weight(&[0.5, -1.0, 2.0, 0.0, 1.0, 3.0]).unwrap();
    bn
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.read().unwrap().iter().map(|v| v.to_bits()).collect()
}

/// What other gradients are wanted decides on the strategy, and so on the order of a sum.
fn alike(actual: &[f32], expected: &[f32]) {
    let bound = Bound::new(1e-6, 1e-6);
    within("gradients", &wide(actual), &wide(expected), bound).unwrap();
}

fn sums<Dx>(gpu: &Gpu, gradients: &Gradients<Dx>) -> Vec<f32> {
    gpu.read_f32(gradients.buffer().expect("parameters").slice(..))
        .unwrap()
}

/// Both forward passes that leave something for backward.
fn forwards(bn: &mut BatchNorm, x: &Tensor) -> [Saved; 2] {
    [bn.train(x).unwrap().1, bn.frozen(x).unwrap().1]
}

#[test]
fn a_refused_backward_gives_saved_back_and_the_next_try_succeeds() {
    let gpu = gpu();
    let (x, dy) = (tensor(&gpu, 1), tensor(&gpu, 2));
    let mut bn = layer(&gpu);
    let expected = forwards(&mut bn, &x).map(|saved| bn.backward(saved, &dy).unwrap());
    let mut bn = layer(&gpu);
    let other = layer(&gpu);
    let all = forwards(&mut bn, &x);
    let after_forward = bn.state().unwrap();
    assert_eq!(after_forward.num_batches_tracked, Some(1));

    let wide = gpu.tensor(Shape::nc(3, 6), &noise(3, 18)).unwrap();
    let narrow = Problem::new(SHAPE, Dtype::F16);
    let narrow = gpu.tensor(narrow, &noise(3, 450)).unwrap();
    let elsewhere = crate::common::gpu();
    let foreign = tensor(&elsewhere, 2);
    let short = blank(&gpu, 16);
    for (saved, expected) in all.into_iter().zip(expected) {
        let held = saved.held_bytes();
        let refused = bn.backward(saved, &wide).unwrap_err();
        let message = "dy: expected n3c6h5w5 nchw f32, got n3c6 nc f32";
        assert_eq!(refused.to_string(), message);
        assert_eq!(refused.error.to_string(), message);
        let refused = bn.backward(*refused.saved, &narrow).unwrap_err();
        assert!(matches!(
            refused.error,
            Error::Tensor(TensorError::Shape { .. })
        ));
        let refused = bn.backward(*refused.saved, &foreign).unwrap_err();
        assert_eq!(
            refused.error,
            TensorError::WrongDevice { field: "dy" }.into()
        );
        let refused = other.backward(*refused.saved, &dy).unwrap_err();
        assert_eq!(refused.error, TensorError::ForeignSaved.into());
        let nothing = Wanted::default().dx(None).parameters(false);
        let refused = bn.backward_with(*refused.saved, &dy, nothing).unwrap_err();
        assert!(matches!(
            refused.error,
            Error::Plan(PlanError::Unsupported { .. })
        ));
        let little = Wanted::default().accumulate(&short);
        let refused = bn.backward_with(*refused.saved, &dy, little).unwrap_err();
        let expected_error = BindError::TooSmall {
            field: "grads",
            needed: 48,
            got: 16,
        };
        assert_eq!(refused.error, expected_error.into());
        assert_eq!(refused.saved.held_bytes(), held);

        let gradients = bn.backward(*refused.saved, &dy).unwrap();
        assert_eq!(bits(&gradients.dx), bits(&expected.dx));
        assert_eq!(sums(&gpu, &gradients), sums(&gpu, &expected));
    }
    // Statistics moved in forward, once, whatever became of backward.
    assert_eq!(bn.state().unwrap(), after_forward);
}

#[test]
fn a_refused_forward_moves_no_statistics() {
    let gpu = gpu();
    let mut bn = BatchNormConfig::new(6)
        .epilogue(Epilogue::AddRelu)
        .build(&gpu)
        .unwrap();
    let before = bn.state().unwrap();
    let x = tensor(&gpu, 1);
    let narrow = Problem::new(SHAPE, Dtype::Bf16);
    let narrow = gpu.tensor(narrow, &noise(3, 450)).unwrap();
    let single = gpu.tensor(Shape::nc(1, 6), &noise(1, 6)).unwrap();
    assert!(bn.train(&x).is_err());
    assert!(bn.train((&x, &narrow)).is_err());
    assert!(bn.train((&single, &single)).is_err());
    assert_eq!(bn.state().unwrap(), before);
    bn.train((&x, &x)).map(drop).unwrap();
    assert_eq!(bn.state().unwrap().num_batches_tracked, Some(1));
}

#[test]
fn gradients_are_those_that_are_wanted() {
    let gpu = gpu();
    let (x, dy) = (tensor(&gpu, 1), tensor(&gpu, 2));
    let mut bn = layer(&gpu);
    let all = forwards(&mut bn, &x).map(|saved| bn.backward(saved, &dy).unwrap());
    let again = |bn: &mut BatchNorm, frozen: bool| {
        let [train, held] = forwards(bn, &x);
        if frozen { held } else { train }
    };
    for (frozen, all) in [false, true].into_iter().zip(&all) {
        // A new layer each time, so that the running statistics are those of `all`.
        let mut bn = layer(&gpu);
        let saved = again(&mut bn, frozen);
        let no_dx = bn
            .backward_with(saved, &dy, Wanted::default().dx(None))
            .unwrap();
        assert!(no_dx.dx.is_none());
        alike(&sums(&gpu, &no_dx), &sums(&gpu, all));

        let mut bn = layer(&gpu);
        let saved = again(&mut bn, frozen);
        let no_parameters = Wanted::default().parameters(false);
        let no_parameters = bn.backward_with(saved, &dy, no_parameters).unwrap();
        assert!(no_parameters.buffer().is_none());
        assert_eq!(no_parameters.weight().unwrap(), None);
        assert_eq!(no_parameters.bias().unwrap(), None);
        let dx = no_parameters.dx.unwrap().read().unwrap();
        alike(&dx, &all.dx.read().unwrap());

        let mut bn = layer(&gpu);
        let saved = again(&mut bn, frozen);
        let own = tensor(&gpu, 2);
        let in_place = Wanted::default().dx(Some(Destination::InPlace));
        let in_place = bn.backward_with(saved, &own, in_place).unwrap();
        let dx = in_place.dx.as_ref().unwrap();
        assert_eq!(dx.buffer(), own.buffer());
        alike(&dx.read().unwrap(), &all.dx.read().unwrap());
        alike(&sums(&gpu, &in_place), &sums(&gpu, all));

        // Added to a buffer of the caller's, which is what comes back.
        let mut bn = layer(&gpu);
        let saved = again(&mut bn, frozen);
        let before: Vec<f32> = noise(5, 12);
        let buffer = upload(&gpu, &before);
        let added = Wanted::default().dx(None).accumulate(&buffer);
        let added = bn.backward_with(saved, &dy, added).unwrap();
        assert_eq!(added.buffer(), Some(&buffer));
        let expected = before.iter().zip(sums(&gpu, all)).map(|(a, b)| a + b);
        alike(&sums(&gpu, &added), &expected.collect::<Vec<_>>());
    }
}

#[test]
fn a_residual_has_its_gradient_whatever_else_is_wanted() {
    let gpu = gpu();
    let (x, residual, dy) = (tensor(&gpu, 1), tensor(&gpu, 2), tensor(&gpu, 3));
    let config = BatchNormConfig::new(6).epilogue(Epilogue::AddRelu);
    let mut bn = config.build(&gpu).unwrap();
    let (_, saved) = bn.train((&x, &residual)).unwrap();
    let all = bn.backward(saved, &dy).unwrap();
    let nothing_more = Wanted::default().dx(None).parameters(false);
    let (_, saved) = bn.train((&x, &residual)).unwrap();
    let alone = bn.backward_with(saved, &dy, nothing_more).unwrap();
    let expected = bits(all.dresidual.as_ref().unwrap());
    assert_eq!(bits(alone.dresidual.as_ref().unwrap()), expected);
    assert!(alone.dx.is_none() && alone.buffer().is_none());
}

#[test]
fn a_layer_without_parameters_adds_to_no_buffer() {
    let gpu = gpu();
    let (x, dy) = (tensor(&gpu, 1), tensor(&gpu, 2));
    let mut bn = BatchNormConfig::new(6).affine(false).build(&gpu).unwrap();
    assert!(bn.affine_buffer().is_none());
    let buffer = upload(&gpu, &[7f32; 12]);
    let (_, saved) = bn.train(&x).unwrap();
    let gradients = bn.backward_with(saved, &dy, Wanted::default().accumulate(&buffer));
    let gradients = gradients.unwrap();
    assert!(gradients.buffer().is_none());
    assert_eq!(gpu.read_f32(buffer.slice(..)).unwrap(), [7.0; 12]);
    let (_, saved) = bn.train(&x).unwrap();
    let plain = bn.backward(saved, &dy).unwrap();
    assert_eq!(bits(&gradients.dx.unwrap()), bits(&plain.dx));
}
