//! Workgroups of 512 lanes: their registers hold what those of 256 do not.

use wgpu_norm::batch_norm::{LayerTuning, Strategy, Tile, Tuning};
use wgpu_norm::reference::batch_norm as oracle;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{BatchNormConfig, Caps, Form, Launch, Shape, batch_norm, group_norm, layer_norm};

use crate::common::{gpu, noise, wide};

/// A device of WebGPU's default limits but for this one.
fn caps(max_workgroup: u32) -> Caps {
    let mut caps = Caps::webgpu();
    caps.max_workgroup = max_workgroup;
    caps
}

fn kernels(launches: &[Launch]) -> Vec<(&str, u32)> {
    let workgroup = |launch: &Launch| {
        let mut overrides = launch.overrides.iter();
        overrides.find(|(name, _)| *name == "WORKGROUP").unwrap().1
    };
    let kernels = launches.iter();
    kernels.map(|l| (l.entry_point, workgroup(l))).collect()
}

#[test]
fn a_plan_takes_512_lanes_where_only_they_hold_a_unit() {
    macro_rules! plan {
        ($norm:ident, $line:expr, $lanes:expr) => {
            $line
                .parse::<$norm::Line>()
                .unwrap()
                .launches(&caps($lanes), Form::default())
                .unwrap()
        };
    }
    for lanes in [256, 512] {
        let fits = plan!(layer_norm, "layer n1024c8192 nc f32 forward", lanes);
        assert_eq!(kernels(&fits), [("forward_resident", 256)]);
    }
    let forward = |lanes| plan!(layer_norm, "layer n1024c20000 nc f32 forward", lanes);
    assert_eq!(kernels(&forward(512)), [("forward_resident", 512)]);
    assert_eq!(forward(256).len(), 3);
    let rows = |lanes| plan!(layer_norm, "layer n1024c8192 nc f32 backward", lanes);
    assert_eq!(
        kernels(&rows(512)),
        [("backward_rows", 512), ("finalize", 512)]
    );
    assert!(rows(256).len() > 2);
    let channels = |lanes| plan!(batch_norm, "n32c128h28w28 nchw f32 train", lanes);
    assert_eq!(kernels(&channels(512)), [("forward_resident", 512)]);
    assert_eq!(channels(256).len(), 3);
    let groups = "group n8c256h56w56 nchw f32 groups=32 forward";
    let groups = plan!(group_norm, groups, 512);
    assert_eq!(kernels(&groups), [("forward_resident", 512)]);
    // Passes without a kernel that holds units gain nothing.
    for pass in [
        "backward",
        "silu backward",
        "add-relu backward",
        "backward no-dx",
        "frozen-backward",
    ] {
        let line = format!("n16c128h28w28 nchw f32 {pass}");
        let lanes = plan!(batch_norm, line, 512);
        let wide = kernels(&lanes).iter().any(|&(_, lanes)| lanes == 512);
        assert_eq!(wide, pass == "backward", "{line}");
    }
    // What the caller chooses stays chosen.
    let forced = plan!(layer_norm, "layer n1024c20000 nc f32 forward split", 512);
    assert!(kernels(&forced).iter().all(|&(_, lanes)| lanes == 256));
}

/// The other norms are in `sample_norms`.
#[test]
fn the_largest_workgroups_follow_the_reference() {
    let gpu = gpu();
    let lanes = gpu.kernels().caps().max_workgroup;
    println!("{lanes} lanes");
    for (shape, resident) in [
        (Shape::nchw(5, 6, 20, 20), true),
        (Shape::ncl(3, 5, 731), false),
        (Shape::nhwc(2, 7, 9, 40), true),
    ] {
        let count = shape.elements().unwrap();
        let (x, dy) = (noise(1, count), noise(2, count));
        let eps = f64::from(1e-5f32);
        let forward = oracle::train(shape, &wide(&x), None, None, eps);
        let backward = oracle::backward(shape, &wide(&x), &wide(&dy), None, eps);
        let mut taken = 0;
        for &strategy in Strategy::ALL {
            let tuning = Tuning::default()
                .strategy(Some(strategy))
                .tile(Some(Tile::new(lanes, 32)));
            let tuning = LayerTuning::default().train(tuning).backward(tuning);
            let mut norm = BatchNormConfig::new(shape.channels()).build(&gpu).unwrap();
            norm.set_tuning(shape, tuning);
            let [x, dy] = [&x, &dy].map(|values| gpu.tensor(shape, values).unwrap());
            let Ok((y, saved)) = norm.train(&x) else {
                assert!(!resident && strategy != Strategy::Split);
                continue;
            };
            let gradients = norm.backward(saved, &dy).unwrap();
            taken += 1;
            let bound = Bound::new(1e-5, 1e-5);
            let check = |name, actual: &[f32], expected: &[f64], bound| {
                within(name, actual, expected, bound)
                    .unwrap_or_else(|error| panic!("{shape} {strategy}: {error}"));
            };
            check("y", &y.read().unwrap(), &forward.y, bound);
            check("dx", &gradients.dx.read().unwrap(), &backward.dx, bound);
            let [dweight, dbias] = [gradients.weight(), gradients.bias()].map(|row| row.unwrap());
            let sums = Bound::new(1e-5, 1e-4);
            check("dweight", &dweight.unwrap(), &backward.dweight, sums);
            check("dbias", &dbias.unwrap(), &backward.dbias, sums);
        }
        assert_eq!(taken, if resident { 3 } else { 1 }, "{shape}");
    }
}
