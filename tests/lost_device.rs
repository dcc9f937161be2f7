//! A device that is lost: every call says so, at once or at the next wait, and none panics, not even inside.

use crate::common::blank;
use std::cell::Cell;
use std::sync::Once;

use pollster::block_on;
use wgpu_norm::batch_norm::{BatchNorm, EvalPlan, Saved, State, TrainBuffers, TrainPlan, Tuner};
use wgpu_norm::{
    BatchNormConfig, Error, Gpu, GpuError, InstanceNormConfig, Kernels, PlanError, Shape, Tensor,
};

thread_local! {
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the panics of each thread, also those that are caught.
fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            hook(info);
        }));
    });
    PANICS.with(|panics| panics.set(0));
}

const SHAPE: Shape = Shape::nc(8, 4);

struct Setting {
    gpu: Gpu,
    bn: BatchNorm,
    x: Tensor,
    y: Tensor,
    saved: Saved,
    plan: TrainPlan,
    /// For `saved` and `scratch`.
    spare: [wgpu_norm::wgpu::Buffer; 2],
    state: State,
}

/// A layer in the middle of training, whose device is then lost.
fn lost() -> Setting {
    count_panics();
    let gpu = Gpu::open().unwrap();
    let config = BatchNormConfig::new(4);
    let mut bn = config.build(&gpu).unwrap();
    let x = gpu.tensor(SHAPE, &[1.0; 32]).unwrap();
    let (y, saved) = bn.train(&x).unwrap();
    let plan = TrainPlan::new(gpu.kernels(), SHAPE, &config).unwrap();
    let state = bn.state().unwrap();
    let spare = [48, plan.scratch_bytes()].map(|bytes| blank(&gpu, bytes));
    gpu.device().destroy();
    Setting {
        gpu,
        bn,
        x,
        y,
        saved,
        plan,
        spare,
        state,
    }
}

fn says_so<T>(call: &str, result: Result<T, impl Into<Error>>) {
    let error = result.map(drop).map_err(Into::into);
    assert!(
        matches!(error, Err(Error::Gpu(GpuError::DeviceLost { .. }))),
        "{call}: {error:?}"
    );
    assert_eq!(PANICS.with(Cell::get), 0, "{call} panicked inside");
}

#[test]
fn what_waits_says_so() {
    let Setting { gpu, bn, y, .. } = lost();
    says_so("read", y.read());
    says_so("read_async", block_on(y.read_async()));
    says_so("read_as", y.read_as::<f32>());
    says_so("state", bn.state());
    says_so("state_async", block_on(bn.state_async()));
    let running = bn.running_buffer().unwrap();
    says_so("read_f32", gpu.read_f32(running.slice(..)));
}

#[test]
fn what_uploads_says_so() {
    let Setting {
        gpu, mut bn, state, ..
    } = lost();
    says_so("tensor", gpu.tensor(SHAPE, &[1.0; 32]));
    says_so("build", BatchNormConfig::new(4).build(&gpu));
    says_so(
        "build of instances",
        InstanceNormConfig::new(4).affine(true).build(&gpu),
    );
    says_so("load_state", bn.load_state(&state));
    says_so("reset_running_stats", bn.reset_running_stats());
    says_so("set_weight", bn.set_weight(&[1.0; 4]));
    says_so(
        "write_f32",
        gpu.write_f32(bn.running_buffer().unwrap().slice(..4), &[1.0]),
    );
}

#[test]
fn what_computes_says_so_and_backward_gives_saved_back() {
    let Setting {
        mut bn,
        x,
        y,
        saved,
        ..
    } = lost();
    says_so("train", bn.train(&x));
    says_so("eval", bn.eval(&x));
    says_so("frozen", bn.frozen(&x));
    let refused = bn.backward(saved, &y).unwrap_err();
    says_so("backward", Err::<(), _>(refused.error));
    says_so("backward again", bn.backward(*refused.saved, &y));
}

#[test]
fn what_is_made_anew_says_so() {
    let Setting { gpu, .. } = lost();
    let config = BatchNormConfig::new(4);
    says_so("Kernels::new", Kernels::new(gpu.device()));
    let (device, queue) = (gpu.device().clone(), gpu.queue().clone());
    says_so("Gpu::from_wgpu", Gpu::from_wgpu(device, queue));
    says_so(
        "TrainPlan::new",
        TrainPlan::new(gpu.kernels(), SHAPE, &config),
    );
    says_so(
        "EvalPlan::new",
        EvalPlan::new(gpu.kernels(), SHAPE, &config),
    );
    says_so("tune", Tuner::new(&gpu).train(SHAPE, &config));
    let error = TrainPlan::new(gpu.kernels(), SHAPE, &config).unwrap_err();
    assert!(matches!(error, PlanError::Gpu(GpuError::DeviceLost { .. })));
}

/// Binding and recording ask nothing of the device. The next wait tells.
#[test]
fn what_is_bound_and_submitted_is_found_out_by_the_next_wait() {
    let Setting {
        gpu,
        bn,
        x,
        y,
        plan,
        spare,
        ..
    } = lost();
    let buffers = TrainBuffers::new(
        x.buffer().slice(..),
        y.buffer().slice(..),
        spare[0].slice(..),
    );
    let affine = bn.affine_buffer().map(|buffer| buffer.slice(..));
    let running = bn.running_buffer().map(|buffer| buffer.slice(..));
    match plan.bind(
        &buffers
            .affine(affine)
            .running(running)
            .scratch(spare[1].slice(..)),
    ) {
        Ok(step) => {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            step.encode(&mut encoder);
            gpu.queue().submit([encoder.finish()]);
        }
        refused => says_so("bind", refused),
    }
    says_so("read", y.read());
}

/// Training goes on on another device, from the state on the host.
#[test]
fn the_state_goes_on_on_another_device() {
    let state = lost().state;
    let gpu = Gpu::open().unwrap();
    let mut bn = BatchNormConfig::new(4).build(&gpu).unwrap();
    bn.load_state(&state).unwrap();
    let x = gpu.tensor(SHAPE, &[1.0; 32]).unwrap();
    drop(bn.train(&x).unwrap());
    assert_eq!(bn.state().unwrap().num_batches_tracked, Some(2));
}
