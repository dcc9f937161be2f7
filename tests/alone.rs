//! In evaluation what becomes of a sample does not depend on the others: the same bits alone, in any batch, and in any place.

use crate::common::{gpu, noise};
use wgpu_norm::{BatchNormConfig, Dtype, Layout, Problem, Shape};

#[test]
fn a_sample_is_evaluated_alone_as_in_a_batch() {
    let gpu = gpu();
    // Planes and rows of whole vectors and others, small and large; the last has more than a workgroup's vectors.
    let extents = [
        (3, 1, 1),
        (8, 2, 2),
        (5, 3, 5),
        (4, 7, 7),
        (130, 1, 3),
        (2, 33, 40),
    ];
    for (index, (channels, height, width)) in extents.into_iter().enumerate() {
        let config = BatchNormConfig::new(channels);
        let mut bn = config.build(&gpu).unwrap();
        let warm = gpu
            .tensor(Shape::nc(9, channels), &noise(1, 9 * channels))
            .unwrap();
        bn.train(&warm).map(drop).unwrap();
        bn.set_weight(&noise(2, channels)).unwrap();
        bn.set_bias(&noise(3, channels)).unwrap();
        for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
            let shape = |samples| match layout {
                Layout::ChannelsFirst => Shape::nchw(samples, channels, height, width),
                _ => Shape::nhwc(samples, height, width, channels),
            };
            // Storage types take turns.
            let dtype = Dtype::ALL[index % Dtype::ALL.len()];
            let size = channels * height * width;
            let x = noise(4, 7 * size);
            let eval = |samples: usize, values: &[f32]| {
                let x = gpu
                    .tensor(Problem::new(shape(samples), dtype), values)
                    .unwrap();
                bn.eval(&x).unwrap().read().unwrap()
            };
            let together = eval(7, &x);
            for (sample, (x, together)) in x.chunks(size).zip(together.chunks(size)).enumerate() {
                let alone = eval(1, x);
                assert_eq!(alone, together, "sample {sample} of {} {dtype}", shape(7));
            }
            // Three samples in another order.
            let some = [5, 0, 3].map(|sample: usize| sample * size..(sample + 1) * size);
            let picked = some.clone().map(|range| &x[range]).concat();
            let expected = some.map(|range| &together[range]).concat();
            assert_eq!(eval(3, &picked), expected, "three of {} {dtype}", shape(7));
        }
    }
}
