//! How the crate is built, and why. For those who work on it, or want to judge it.
//!
//! # The house
//!
//! ```text
//! batch_norm/   F3  config, plan (pure), a file for each kernel, plans on a device, the layer
//! shared/       F2  how tensors are walked; the twins of what every norm's kernels import
//! gpu/          F2  the only wgpu plumbing: devices, composed and compiled kernels, bound steps, tensors
//! reference/    F1  the f64 oracle, the comparer, moments; knows no GPU
//! shape, error  F0
//! ```
//!
//! Arrows point down; `tests/layering.rs` holds that. `gpu` does not know what a norm is, and configuration,
//! plans and walks do not name wgpu: everything up to a plan's dispatches is plain data and is tested without
//! a device. `shaders/` mirrors `src/`: a kernel's file stem is also its entry point, its label, its Rust
//! file, and its name in benchmarks.
//!
//! Another norm is a folder in `src`, one in `shaders`, an oracle, tests, and a `pub use`.
//!
//! # From a shape to a step
//!
//! A *plan* turns `(Shape, Caps, BatchNormConfig)` into dispatches: which kernel, with which files bound to its
//! imports, which override constants, which uniform, which bytes of which buffer, how many workgroups. *Binding*
//! checks the caller's buffers and makes bind groups and one immutable uniform buffer. (A queue write would reach
//! a step that is recorded but not yet submitted.) *Recording* sets pipelines and dispatches, nothing else.
//!
//! Kernels are compiled once a device, those of one plan side by side, through the driver's cache if the application
//! gives one. A plan whose kernels are there costs a microsecond or two, so that the layer keeps none.
//!
//! Shaders are composed by `#import name` lines. A name is a file, or is bound to one by the plan: `layout` to
//! one of two walks, `element` to a storage type, `epilogue` and `incoming` to what follows the normalization and what
//! comes back through it, `values` and `gradients` to where results go, `monoid` to what a reduction combines, `slot` to
//! how much of that lanes hand on, `columns` and `held` to how much each lane keeps, `parts` and `outcome` to what is
//! combined and what becomes of it. What a plan decides is an `override` constant, except for lengths of local arrays,
//! which WGSL wants to know when it compiles; the uniform holds numbers that no branch asks for. There are no
//! conditionals and no macros in the composer. Another storage type is an `element` file, another epilogue an
//! `epilogue` and an `incoming` file, each with a line in Rust.
//!
//! # Two walks for every layout
//!
//! | walk | for | a unit | an item |
//! |---|---|---|---|
//! | `layout_planes` | channels first | a channel | a vector of the aligned window around a plane |
//! | `layout_columns` | channels last, `(N, C)`, tiny planes, small planes of odd extent in large batches | a strip of vector columns | so many rows that the next is aligned again |
//!
//! All loads and stores are vectors of 16 bytes, whatever the extents. A plane of 49 values begins anywhere in a
//! vector: reductions mask the components that are not its own, and an elementwise pass writes the vectors that
//! *begin* in the plane, with the next channel's coefficients for the components beyond its end. So each vector
//! has one writer. Where rows are odd, four of them make a row of whole vectors, and a lane's components keep
//! their channels all the way down.
//!
//! Lanes that run together walk a contiguous tile. That is coalesced on a GPU, and in order on a software adapter,
//! which runs one group of lanes to its end before the next. There a lane takes up to sixteen columns side by side, so
//! that the group walks whole rows, or at least two kilobytes of each; of tensors that a cache holds four, which is
//! faster there, and takes a quarter of the time to compile.
//!
//! Where a unit is a channel, the four components of a lane's partial result are combined before lanes exchange them:
//! a quarter of the workgroup memory, and of the scratch memory. There each component that has a result is one entry
//! of four floats, or of two backward, so that it is read and written at once.
//!
//! Tensors above the device's largest binding are taken in windows of whole vectors; partial results of all
//! windows are combined by one kernel.
//!
//! # Three strategies
//!
//! *Resident* takes a channel, or a strip of them, in one workgroup, which keeps it in registers, as it is stored: one
//! dispatch that reads each tensor once. Up to 256 bytes a lane, which is 16 vectors of f32 forward and 8 backward,
//! of 16 bits twice as many; the kernels are written with arrays whose every index is known after unrolling.
//! *Reread* does the same without keeping, and reads its values again, from cache if they fit: one dispatch. *Split*
//! leaves partial results of many workgroups in scratch memory, combines them, and normalizes in a third dispatch.
//! Split serves everything; the others need channels that no vector shares. The
//! thresholds in `tuning.rs` are measured on llvmpipe only. Those for hardware are estimates from the bytes that
//! must move, and the `Tuner` replaces them by measurements on the device at hand. It compares what candidates leave
//! before it times them: a driver that drops work is fast.
//!
//! Split has a dispatch of its own for the combination. Each workgroup of the last pass could combine its channel's
//! partial results by itself and save that dispatch. On llvmpipe it is 1 % of a large pass; on hardware, where a
//! dispatch that waits for another costs some microseconds, that is worth a measurement.
//!
//! Backward by frozen statistics has no means to wait for, so that it writes dx in the pass that sums: one pass over
//! memory. Not so in place where vectors cross channels: a neighbour could read dx for dy. Then it takes two.
//!
//! # Epilogues
//!
//! What ReLU let pass is not kept as bits. A bit for each element would have to be gathered from lanes that own
//! vectors, not words; backward of ReLU computes the sign again from `x`, which it reads in any case. Add+ReLU would
//! have to read the residual for that, so it reads the output once, in the pass that sums, and leaves the residual's
//! gradient there, which is due in any case; the second pass reads that in place of `dy`.
//!
//! # Packed buffers
//!
//! Small arrays of one role share a buffer: weight and bias, their gradients, the saved statistics, the running
//! ones. WebGPU's default is 8 storage buffers a stage and Metal needs one itself; the largest kernel binds 7.
//!
//! `num_batches_tracked` is there once for each channel. One counter would have to be read by all workgroups and
//! written by one, and there is no order among the workgroups of a dispatch.
//!
//! # Numerics
//!
//! Partial moments are (mean, sum of squared deviations, count), combined by the formula of Chan, Golub and
//! LeVeque in a fixed tree, so that the bits are the same from run to run. The mean is held as `pivot + offset`
//! with a value of the data as pivot: near values subtract exactly in f32, so that a mean far from zero
//! costs nothing. What remains is that the *saved* mean must be one f32; the residual of that rounding is saved
//! beside it. At a mean of 1e4 deviations, `tests/large_mean.rs` measures a largest error of 3e-7 in `y`, where
//! torch's f32 on a processor has 7e-4.
//!
//! The residual needs care: a compiler may take `(pivot + offset) - pivot` for `offset`, and Mesa's does, which
//! makes the residual zero. The kernel hides the sum from it by an exclusive or with a zero in the uniform.
//!
//! Conversions from and to f16 and bf16 are integer arithmetic, but for `round`, which is defined: WGSL leaves
//! `pack2x16float`'s rounding to the driver, its result undefined where one of two values is out of range, and subnormals
//! to the driver's taste. All values, those
//! beside every middle of two, and bits at random are compared with IEEE 754.
//!
//! Masked components are selected away, not multiplied by zero: a NaN in the neighbouring channel stays there.
//!
//! # Trust
//!
//! torch's float64 holds the oracle (1e-12), the oracle holds the chained twins (f64, in each kernel's own
//! decomposition), each twin holds its kernel, and the oracle once more holds whole programs on the device. Only
//! the last two need a device, so a red test says where the fault is. The four passes in f32 run on every shape in both
//! layouts with every strategy, several tiles and what a plan chooses on a GPU, twice for equal bits, in slices between
//! guard words; of the product with storage types, epilogues, destinations, options and windows a sample does, and a
//! larger one without a device.
//! `sabotage.rs` mutates the shaders, and each mutant must be caught.
//!
//! # Learnt by measuring
//!
//! Of llvmpipe (Mesa 22.3, 2 cores), where a copy of 32x64x56x56 takes 4.2 to 5.5 ms if it is tuned:
//!
//! * It gives an invocation 65,535 loop rounds in all, and then ends its loops silently. Walks are cut
//!   so that no invocation comes near. Other libraries on the same driver return wrong sums there.
//! * A load from a storage buffer is a scalar loop over lanes and components: reading
//!   alone takes 60 % of a tuned copy, and reading with the arithmetic of the statistics 75 %. A contiguous channel is
//!   no faster than one in planes.
//! * So f32 is loaded and stored in words of 64 bits where the device has them: half the scalar accesses, a quarter
//!   less time for a copy, 10 to 20 % for the kernels. 16-bit types, of which a vector is two words already, gain nothing.
//! * A local array with an index that is not constant is gathered lane by lane, and a component of a vector by such an
//!   index is worse. The combination of partial results took 2 to 4 ms for it, and takes 0.1 without.
//! * Such an index also comes about where a loop is not unrolled, and Mesa unrolls loops of more than some 800
//!   instructions in all only for an array that is indexed by the loop's counter itself. naga's bounds check makes that
//!   `min(counter, 15)`: kernels of 16 columns, those of f16 with 8, stayed loops, and took two to three times as long.
//! * Memory must be walked in order, beyond what caches explain: strips of 128 bytes of each row take twice as long as
//!   whole rows, even in chunks that the first cache holds. A lane with several columns is the cure, if it goes row by
//!   row: four rows at a time took 1.5 times as long. Statistics of up to four columns are the exception, because blocks
//!   of four rows save divisions and a lane has the registers for them.
//! * A workgroup should be one group of lanes and there should be few of them: each costs about a microsecond if it
//!   has barriers. The combination of partial results therefore gives each lane a channel there, and takes half the time.
//! * A branch on the uniform alone is dear. The driver puts in the values that it meets, and if that makes the kernel
//!   half as long it does so again in every dispatch: clone, optimize, fetch from the cache, 1.2 ms. The width of a
//!   reduction and the flags of a configuration are constants for that reason.
//! * Backward's last pass over 32x64x56x56, channels last, takes 5.3 ms in most processes and 9.9 in some, with the
//!   same code, and copies beside it that do not change. Which it is seems to hang on where three tensors lie in
//!   memory; so measure a large difference in more than one process.
//! * Strips of 128 bytes in each of 32 rows wait for memory half of the time: a load is so many instructions that the
//!   processor cannot look far ahead, and every row is another page.
//!
//! | step | forward | backward | what moved it |
//! |---|---|---|---|
//! | interleaved lanes, 256 a workgroup | 4.0 | - | start |
//! | contiguous tiles of one group of lanes | 1.85 | 3.2 | memory in order |
//! | blocks of four where nothing is masked | 1.75 | 2.9 | a tenth of each pass |
//! | no loop guards, blocks of four backward | 1.65 | 2.4 | compilers see the loops |
//! | channels last: strips | 3.0 | 7.2 | |
//! | channels last: rows, constant indices | 1.9 | 2.7 | memory in order, no local arrays |
//! | the same, another processor | 1.95 | 3.0 | an AMD EPYC, whose copy is tuned more easily |
//! | words of 64 bits | 1.7 | 2.5 | half the loads; the copy with them: 2.3 and 3.4 |
//! | channels last: unclamped indices, the same words | 1.35 | 2.1 | unrolled loops; by that copy: 1.85 and 2.8 |
//!
//! (Ratios to the tuned copy in words of 32 bits, of 32x64x56x56 in f32.) What did not pay:
//!
//! * Blocks of eight vectors and fused multiply-adds: nothing. Sums shifted by a running centre: 3 to 4 %, too little for
//!   what they add.
//! * A reduction with one barrier, in which every lane combines all; partial results in words of 64 bits; neighbouring
//!   channels on one thread; lanes a cache line apart, for more misses at once: nothing that could be told from noise.
//! * The coefficients of a lane's columns in a loop that stays one: a quarter less to compile for, but an array in memory
//!   where there were registers, of which LLVM's coroutines compare all uses with all.
//! * Registers for channels of 14x14, in workgroups of 128: what the second read saves, the lanes cost.
//! * Several planes side by side in a lane, as columns are: 1.3 to 3 times as long for 7x7 to 28x28.
//! * Rows above two kilobytes in more chunks: 5 %. A row in two strips stays twice as slow as a whole one.
//!
//! What cannot be had there: PyTorch's backward on the same processor moves five tensors of 32x64x56x56 in 3.4 ms, the
//! fastest copy kernel two in 3.05. Three, the least that any backward moves, would take 4.6.
//!
//! naga's loop guards are left out, which takes 3 to 8 % off every pass and more than half where a loop over columns
//! is unrolled then; and on Vulkan its bounds checks, for the same reason. Both are the crate's one `unsafe` line. A
//! guard against endless loops is of no use to loops that count. Local arrays are indexed by loops over their length.
//! Buffers are what Vulkan drivers check themselves, where wgpu makes the device; kernels do without, because they
//! replace the index of what is not there by zero. Metal and DX12, where naga checks, keep the checks.
//!
//! Of hardware nothing has been measured yet.
