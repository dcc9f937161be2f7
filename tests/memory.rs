//! Memory that ends, and kernels that go.

use wgpu_norm::batch_norm::{EvalBuffers, EvalPlan};
use wgpu_norm::{BatchNormConfig, Error, Gpu, GpuError, Shape};

/// This test's part in a process of its own, with that much address space in KiB. What it prints.
#[cfg(target_os = "linux")]
fn in_a_process(test: &str, kibibytes: u64) -> String {
    let part = concat!(module_path!(), "::");
    let part = part.split_once("::").unwrap().1;
    let executable = std::env::current_exe().unwrap();
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -v {kibibytes}; exec \"$0\" \"$@\""))
        .arg(executable)
        .args([
            "--exact",
            &format!("{part}{test}"),
            "--ignored",
            "--nocapture",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A device without memory left says so and loses nothing. Once memory is free again, it goes on.
#[test]
#[ignore = "a part of the test of memory that ends"]
fn fills_the_memory() {
    let gpu = Gpu::open().unwrap();
    let config = BatchNormConfig::new(64);
    let mut bn = config.build(&gpu).unwrap();
    let shape = Shape::nchw(32, 64, 56, 56);
    let values = vec![1.0; shape.elements().unwrap()];
    let x = gpu.tensor(shape, &values).unwrap();
    let _ = bn.train(&x).unwrap();
    let mut tensors = Vec::new();
    let error = loop {
        match gpu.tensor(shape, &values) {
            Ok(tensor) => tensors.push(tensor),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            error,
            Error::Gpu(GpuError::OutOfMemory {
                label: "tensor",
                bytes: 25_690_112
            })
        ),
        "{error}"
    );
    // A step that fails has not moved the statistics.
    let mut kept = Vec::new();
    let refused = loop {
        match bn.train(&x) {
            Ok(results) => kept.push(results),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refused, Error::Gpu(GpuError::OutOfMemory { .. })),
        "{refused}"
    );
    let steps = 1 + kept.len() as u64;
    tensors.truncate(tensors.len() / 2);
    assert_eq!(bn.state().unwrap().num_batches_tracked, Some(steps));
    assert!(tensors.last().unwrap().read().unwrap() == values);
    let _ = bn.train(&x).unwrap();
    assert_eq!(bn.state().unwrap().num_batches_tracked, Some(steps + 1));
    println!("went on after {error}");
}

/// Steps keep their kernels, and later plans compile theirs again.
#[test]
fn trimmed_kernels_go_and_steps_stay() {
    let gpu = crate::common::gpu();
    let mut bn = BatchNormConfig::new(4).build(&gpu).unwrap();
    let shape = Shape::nc(2, 4);
    let x = gpu.tensor(shape, &[1.0; 8]).unwrap();
    let y = bn.eval(&x).unwrap().read().unwrap();
    let compiled =
        |count: usize| format!("{:?}", gpu.kernels()).contains(&format!("compiled: {count},"));
    assert!(!compiled(0), "{:?}", gpu.kernels());
    let plan = EvalPlan::new(gpu.kernels(), shape, bn.config()).unwrap();
    gpu.kernels().trim();
    assert!(compiled(0), "{:?}", gpu.kernels());
    let again = gpu.tensor(shape, &[0.0; 8]).unwrap();
    let buffers = EvalBuffers::new(x.buffer().slice(..)).y(again.buffer().slice(..));
    let [affine, running] = [bn.affine_buffer(), bn.running_buffer()].map(|b| b.unwrap().slice(..));
    let step = plan.bind(&buffers.affine(affine).running(running)).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    step.encode(&mut encoder);
    gpu.queue().submit([encoder.finish()]);
    assert_eq!(again.read().unwrap(), y);
    let _ = bn.train(&x).unwrap();
    assert!(!compiled(0), "{:?}", gpu.kernels());
}

/// What plans upload does not pile up where nothing is submitted.
#[test]
fn plans_that_are_dropped_leave_no_uploads() {
    let gpu = crate::common::gpu();
    let config = BatchNormConfig::new(4);
    let plan = || EvalPlan::new(gpu.kernels(), Shape::nc(2, 4), &config).unwrap();
    drop(plan());
    // Some drivers do not tell.
    let allocations = || Some(gpu.device().generate_allocator_report()?.allocations.len());
    let Some(before) = allocations() else { return };
    for _ in 0..1000 {
        drop(plan());
    }
    let after = allocations().unwrap();
    assert!(after < before + 300, "{before} allocations, then {after}");
}

#[test]
#[cfg(target_os = "linux")]
fn memory_that_ends_is_an_error_and_nothing_is_lost() {
    // Drivers of hardware reserve more address space than any limit leaves, and GL answers with a wait.
    let gpu = crate::common::gpu();
    let vulkan = gpu.device().adapter_info().backend == wgpu::Backend::Vulkan;
    if gpu.kernels().caps().cpu && vulkan {
        let printed = in_a_process("fills_the_memory", 2_500_000);
        assert!(
            printed.contains("went on after tensor: out of memory"),
            "{printed}"
        );
    }
}
