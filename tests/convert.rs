//! Layers frozen in part, and other norms in place of BatchNorm.

use crate::common::{gpu, noise, wide};
use wgpu_norm::batch_norm::{Epilogue, Freeze, Wanted};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::reference::{group_norm, instance_norm, layer_norm};
use wgpu_norm::{BatchNorm, BatchNormConfig, Error, Gpu, PlanError, Shape};

fn trained(gpu: &Gpu, config: BatchNormConfig) -> BatchNorm {
    let channels = config.num_features;
    let mut bn = config.build(gpu).unwrap();
    if config.weight {
        bn.set_weight(&noise(21, channels)).unwrap();
    }
    if config.bias {
        bn.set_bias(&noise(22, channels)).unwrap();
    }
    if config.track_running_stats {
        let x = gpu.tensor(Shape::nc(9, channels), &noise(23, 9 * channels));
        bn.train(&x.unwrap()).map(drop).unwrap();
    }
    bn
}

#[test]
fn each_part_is_frozen_by_itself() {
    let gpu = gpu();
    let mut bn = trained(&gpu, BatchNormConfig::new(4));
    let shape = Shape::nhwc(2, 3, 3, 4);
    let [x, dy] = [1, 2].map(|seed| gpu.tensor(shape, &noise(seed, 72)).unwrap());
    assert_eq!(bn.frozen_parts(), Freeze::default());
    for (statistics, parameters) in [(false, false), (false, true), (true, false), (true, true)] {
        let freeze = Freeze::default()
            .statistics(statistics)
            .parameters(parameters);
        bn.freeze(freeze).unwrap();
        assert_eq!(bn.frozen_parts(), freeze);
        let before = bn.state().unwrap();
        let evaluated = bn.eval(&x).unwrap().read().unwrap();
        let (y, saved) = bn.train(&x).unwrap();
        let y = y.read().unwrap();
        let gradients = bn.backward(saved, &dy).unwrap();
        assert_eq!(gradients.buffer().is_none(), parameters, "{freeze:?}");
        assert_eq!(gradients.weight().unwrap().is_none(), parameters);
        assert_eq!(y == evaluated, statistics, "{freeze:?}");
        assert_eq!(bn.state().unwrap() == before, statistics, "{freeze:?}");
        let dx = gradients.dx.read().unwrap();
        // Frozen statistics do not couple the gradients.
        let sum: f32 = (0..18).map(|pixel| dx[4 * pixel]).sum();
        assert_eq!(sum.abs() > 1e-3, statistics, "{freeze:?}: {sum}");
    }
    assert_eq!(
        Freeze::ALL,
        Freeze::default().statistics(true).parameters(true)
    );
    // Neither gradient is left.
    let (_, saved) = bn.train(&x).unwrap();
    let refused = bn.backward_with(saved, &dy, Wanted::default().dx(None));
    assert!(matches!(
        refused.unwrap_err().error,
        Error::Plan(PlanError::Unsupported { .. })
    ));

    let untracked = BatchNormConfig::new(4).track_running_stats(false);
    let mut untracked = trained(&gpu, untracked);
    let error = untracked.freeze(Freeze::ALL).unwrap_err();
    assert_eq!(error, Error::Plan(PlanError::NoRunningStatistics));
    assert_eq!(untracked.frozen_parts(), Freeze::default());
}

#[test]
fn other_norms_take_over_the_parameters() {
    let gpu = gpu();
    let shape = Shape::nhwc(2, 3, 3, 8);
    let values = noise(1, 144);
    let x = gpu.tensor(shape, &values).unwrap();
    let close = Bound::new(1e-5, 1e-5);
    for (weight, bias) in [(true, true), (true, false), (false, true), (false, false)] {
        let config = BatchNormConfig::new(8).weight(weight).bias(bias).eps(0.1);
        let bn = trained(&gpu, config);
        let state = bn.state().unwrap();
        let [weight, bias] = [&state.weight, &state.bias].map(|row| row.as_deref().map(wide));
        let (weight, bias) = (weight.as_deref(), bias.as_deref());
        let eps = f64::from(config.eps);
        let x64 = wide(&values);
        let group = bn.to_group_norm(2).unwrap().eval(&x).unwrap();
        let expected = group_norm::forward(shape, 2, &x64, weight, bias, eps).y;
        within("group", &group.read().unwrap(), &expected, close).unwrap();
        let instance = bn.to_instance_norm().unwrap().eval(&x).unwrap();
        let expected = instance_norm::forward(shape, &x64, weight, bias, eps).y;
        within("instance", &instance.read().unwrap(), &expected, close).unwrap();
        let layer = bn.to_layer_norm().unwrap().eval(&x).unwrap();
        let expected = layer_norm::forward(8, &x64, weight, bias, eps).y;
        within("layer", &layer.read().unwrap(), &expected, close).unwrap();
    }
    let relu = trained(&gpu, BatchNormConfig::new(8).epilogue(Epilogue::Relu));
    let group = relu.to_group_norm(4).unwrap();
    assert_eq!(group.config().epilogue, Epilogue::Relu);
    let error = relu.to_group_norm(3).unwrap_err();
    assert!(matches!(error, Error::Plan(_)), "{error}");
    let zero = trained(&gpu, BatchNormConfig::new(8).eps(0.5));
    assert_eq!(zero.to_layer_norm().unwrap().config().eps, 0.5);
}
