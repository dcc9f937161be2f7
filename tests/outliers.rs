//! Values far from all others, long sums, and variances beyond f32: held to the references in f64, by strategy.

use crate::common::{gpu, noise, wide};
use wgpu_norm::batch_norm::{LayerTuning, Strategy, Tile, Tuning};
use wgpu_norm::reference::batch_norm as oracle;
use wgpu_norm::{BatchNormConfig, Gpu, Shape};

const EPS: f64 = 1e-5f32 as f64;
const ULP: f64 = f32::EPSILON as f64;

/// The results of a pass forward and backward.
struct Results {
    y: Vec<f32>,
    dx: Vec<f32>,
    mean: Vec<f32>,
    /// Biased variances.
    var: Vec<f64>,
    dweight: Vec<f32>,
    dbias: Vec<f32>,
}

fn run(gpu: &Gpu, shape: Shape, tuning: Tuning, x: &[f32], dy: &[f32]) -> Results {
    // A momentum of 1 keeps the statistics of the batch.
    let config = BatchNormConfig::new(shape.channels()).momentum(Some(1.0));
    let mut bn = config.build(gpu).unwrap();
    let tuning = LayerTuning::default().train(tuning).backward(tuning);
    bn.set_tuning(shape, tuning);
    let (y, saved) = bn.train(&gpu.tensor(shape, x).unwrap()).unwrap();
    let gradients = bn.backward(saved, &gpu.tensor(shape, dy).unwrap()).unwrap();
    let state = bn.state().unwrap();
    let n = (x.len() / shape.channels()) as f64;
    let var = state.running_var.unwrap().into_iter();
    Results {
        y: y.read().unwrap(),
        dx: gradients.dx.read().unwrap(),
        mean: state.running_mean.unwrap(),
        var: var.map(|v| f64::from(v) * (n - 1.0) / n).collect(),
        dweight: gradients.weight().unwrap().unwrap(),
        dbias: gradients.bias().unwrap().unwrap(),
    }
}

/// Every strategy, on a tile for processors and one for GPUs.
fn tunings() -> Vec<Tuning> {
    let tiles = [Tile::new(8, 8), Tile::new(256, 32)];
    let tunings = tiles.into_iter().flat_map(|tile| {
        Strategy::ALL
            .iter()
            .map(move |&strategy| Tuning::default().strategy(Some(strategy)).tile(Some(tile)))
    });
    tunings.collect()
}

/// Whether the strategy can serve the shape with the tile. What cannot is left out.
fn serves(gpu: &Gpu, shape: Shape, tuning: Tuning) -> bool {
    use wgpu_norm::batch_norm::{BackwardOptions, BackwardPlan, TrainOptions, TrainPlan};
    let config = BatchNormConfig::new(shape.channels());
    let train = TrainOptions::default().tuning(tuning);
    let backward = BackwardOptions::default().tuning(tuning);
    TrainPlan::with_options(gpu.kernels(), shape, &config, train).is_ok()
        && BackwardPlan::with_options(gpu.kernels(), shape, &config, backward).is_ok()
}

/// The right results.
type Truth = (oracle::Forward, oracle::Gradients);

fn truth(shape: Shape, x: &[f32], dy: &[f32]) -> Truth {
    let (x, dy) = (wide(x), wide(dy));
    (
        oracle::train(shape, &x, None, None, EPS),
        oracle::backward(shape, &x, &dy, None, EPS),
    )
}

/// Largest errors in units of the last place of their scales.
#[derive(Debug, Default)]
struct Errors {
    mean: f64,
    var: f64,
    dweight: f64,
    dbias: f64,
}

impl Errors {
    fn of(shape: Shape, results: &Results, truth: &Truth, x: &[f32], dy: &[f32]) -> Self {
        let (x, dy) = (wide(x), wide(dy));
        let (truth, gradients) = truth;
        let channels = shape.channels();
        let [mut size, mut terms, mut squares] = [(); 3].map(|()| vec![0.0; channels]);
        let n = (x.len() / channels) as f64;
        for i in 0..x.len() {
            let c = shape.channel_of(i);
            size[c] += x[i].abs() / n;
            terms[c] += (truth.y[i] * dy[i]).powi(2);
            squares[c] += dy[i].powi(2);
        }
        let mut errors = Self::default();
        for c in 0..channels {
            let worst = |worst: &mut f64, actual: f64, truth: f64, scale: f64| {
                let error = (actual - truth).abs() / (scale * ULP);
                // max drops NaN.
                *worst = worst.max(if error.is_nan() { f64::INFINITY } else { error });
            };
            let (dw, db) = (gradients.dweight[c], gradients.dbias[c]);
            worst(
                &mut errors.mean,
                results.mean[c].into(),
                truth.mean[c],
                size[c],
            );
            worst(&mut errors.var, results.var[c], truth.var[c], truth.var[c]);
            let scale = dw.abs() + terms[c].sqrt();
            worst(&mut errors.dweight, results.dweight[c].into(), dw, scale);
            let scale = db.abs() + squares[c].sqrt();
            worst(&mut errors.dbias, results.dbias[c].into(), db, scale);
        }
        errors
    }

    /// Whether all are within 4 ulp, and those of dweight within so many.
    fn within(&self, dweight: f64) -> bool {
        self.mean.max(self.var).max(self.dbias) <= 4.0 && self.dweight <= dweight
    }

    fn join(&mut self, other: &Self) {
        self.mean = self.mean.max(other.mean);
        self.var = self.var.max(other.var);
        self.dweight = self.dweight.max(other.dweight);
        self.dbias = self.dbias.max(other.dbias);
    }
}

/// The index in memory of value `i` of channel `c`, in the order of the layout.
fn index(shape: Shape, c: usize, i: usize) -> usize {
    let mut own = (0..shape.elements().unwrap()).filter(|&k| shape.channel_of(k) == c);
    own.nth(i).unwrap()
}

/// Checks all strategies and prints their errors; all that are above the bound at the end.
fn check(
    gpu: &Gpu,
    dweight: f64,
    shape: Shape,
    name: &str,
    cases: &[(String, Vec<f32>, Vec<f32>)],
    red: &mut Vec<String>,
) {
    let truths = cases.iter().map(|(_, x, dy)| truth(shape, x, dy));
    let truths: Vec<Truth> = truths.collect();
    for tuning in tunings() {
        if !serves(gpu, shape, tuning) {
            continue;
        }
        let mut all = Errors::default();
        for ((case, x, dy), truth) in cases.iter().zip(&truths) {
            let results = run(gpu, shape, tuning, x, dy);
            let errors = Errors::of(shape, &results, truth, x, dy);
            all.join(&errors);
            if !errors.within(dweight) {
                red.push(format!("{shape} {tuning:?} {name} {case}: {errors:?}"));
            }
        }
        println!("{shape} {tuning:?} {name}: {all:?}");
    }
}

#[test]
fn moments_are_as_good_in_any_order_channels_first() {
    moments_are_as_good_in_any_order(&[Shape::nchw(8, 4, 16, 16), Shape::nchw(16, 3, 7, 7)]);
}

#[test]
fn moments_are_as_good_in_any_order_channels_last() {
    moments_are_as_good_in_any_order(&[Shape::nhwc(8, 16, 16, 4), Shape::nhwc(32, 7, 7, 32)]);
}

fn moments_are_as_good_in_any_order(shapes: &[Shape]) {
    let gpu = gpu();
    let mut red = Vec::new();
    for &shape in shapes {
        let count = shape.elements().unwrap();
        let (ordinary, dy) = (noise(1, count), noise(2, count));
        let values = count / shape.channels();
        let mut cases = Vec::new();
        for outlier in [1e3f32, 1e6, 1e12] {
            for place in [0, values / 2, values - 1] {
                let mut x = ordinary.clone();
                for c in 0..shape.channels() {
                    x[index(shape, c, place)] = outlier * (1.0 + c as f32 / 7.0);
                }
                cases.push((format!("{outlier:e} at {place}"), x, dy.clone()));
            }
        }
        check(&gpu, 4.0, shape, "outliers", &cases, &mut red);
    }
    assert!(red.is_empty(), "{} above the bound: {red:#?}", red.len());
}

/// The lanes' sums for a constant dy cancel, and are added in single f32: therefore 8 ulp of dweight, not 4.
#[test]
fn long_sums_keep_their_digits() {
    let gpu = gpu();
    let mut red = Vec::new();
    for shape in [
        Shape::nhwc(32, 7, 7, 32),
        Shape::nchw(32, 3, 14, 14),
        Shape::nchw(16, 1, 64, 64),
    ] {
        let count = shape.elements().unwrap();
        let x = noise(1, count);
        let mut one_hot = vec![0.0; count];
        let values = count / shape.channels();
        for c in 0..shape.channels() {
            one_hot[index(shape, c, values * (c + 1) / (shape.channels() + 2))] = 1.0;
        }
        let cases = [
            ("noise", noise(2, count)),
            ("constant", vec![0.1; count]),
            ("one hot", one_hot),
            (
                "positive",
                noise(3, count).iter().map(|v| v + 1.1).collect(),
            ),
        ];
        let cases = cases.map(|(case, dy)| (case.to_owned(), x.clone(), dy));
        check(&gpu, 8.0, shape, "long sums", &cases, &mut red);
    }
    assert!(red.is_empty(), "{} above the bound: {red:#?}", red.len());
}

/// The variance does not fit f32, and 1 / sqrt(infinity) is zero: as torch, y is the bias, and nothing has a gradient.
#[test]
fn a_variance_beyond_f32_leaves_the_bias() {
    let gpu = gpu();
    for shape in [Shape::nchw(4, 2, 8, 8), Shape::nhwc(4, 8, 8, 8)] {
        let count = shape.elements().unwrap();
        let dy = noise(2, count);
        let mut sums = vec![0.0; shape.channels()];
        for (i, &dy) in dy.iter().enumerate() {
            sums[shape.channel_of(i)] += f64::from(dy);
        }
        for large in [1e20f32, 1e30] {
            let x: Vec<f32> = (0..count)
                .map(|i| [large, -large, 0.0, 1.0][(i / shape.channels() + i) % 4])
                .collect();
            for tuning in tunings() {
                if !serves(&gpu, shape, tuning) {
                    continue;
                }
                let results = run(&gpu, shape, tuning, &x, &dy);
                let name = format!("{shape} {tuning:?} {large:e}");
                assert!(results.y.iter().all(|&y| y == 0.0), "{name}: y");
                assert!(results.dx.iter().all(|&dx| dx == 0.0), "{name}: dx");
                assert!(
                    results.dweight.iter().all(|&dw| dw == 0.0),
                    "{name}: dweight"
                );
                assert!(
                    results.var.iter().all(|&var| var == f64::INFINITY),
                    "{name}: var"
                );
                for (actual, sum) in results.dbias.iter().zip(&sums) {
                    assert!((f64::from(*actual) - sum).abs() < 1e-4, "{name}: dbias");
                }
            }
        }
    }
}

#[test]
fn an_infinite_running_variance_leaves_the_bias() {
    let gpu = gpu();
    let shape = Shape::nchw(2, 3, 4, 4);
    let mut bn = BatchNormConfig::new(3).build(&gpu).unwrap();
    bn.set_bias(&[1.0, 2.0, 3.0]).unwrap();
    let mut state = bn.state().unwrap();
    state.running_var = Some(vec![f32::INFINITY, 1.0, f32::MAX]);
    bn.load_state(&state).unwrap();
    let x = gpu.tensor(shape, &noise(1, 96)).unwrap();
    let y = bn.eval(&x).unwrap().read().unwrap();
    for (i, y) in y.into_iter().enumerate() {
        match shape.channel_of(i) {
            0 => assert_eq!(y, 1.0),
            1 => assert!(y.is_finite() && y != 2.0),
            _ => assert!((y - 3.0).abs() < 1e-6),
        }
    }
    let (y, saved) = bn.frozen(&x).unwrap();
    assert!(y.read().unwrap().iter().all(|y| y.is_finite()));
    let gradients = bn.backward(saved, &x).unwrap();
    let dx = gradients.dx.read().unwrap();
    assert!(dx.iter().all(|dx| dx.is_finite()));
    assert_eq!(dx[..16], [0.0; 16]);
    assert_eq!(gradients.weight().unwrap().unwrap()[0], 0.0);
}
