# The two commands of the README, and what they share.

.PHONY: help demo demo-sync test test-drivers check bench bench-sync driver driver-gl mpi

help:
	@echo "make demo          train a network on handwritten digits, on the GPU or in software"
	@echo "make demo-sync     the same network on 1, 2 and 4 ranks over MPI, with synchronized statistics"
	@echo "make test          formatting, lints, all tests and the documentation"
	@echo "make check         the part of the tests that needs no device"
	@echo "make test-drivers  all tests on Mesa's GL, and on the Vulkan driver that SWIFTSHADER_ICD names"
	@echo "make bench         verify the kernels, then time them beside a copy"
	@echo "make bench-sync    time a step of 1, 2 and 4 ranks beside the local step and the bare exchange"

demo: driver
	cargo run --locked --release --example train_digits -- --min-accuracy 97

# So that as many ranks run as are asked for, by root in a container too, and sleep where they wait.
MPIRUN = OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
	OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_mpi_yield_when_idle=1 $$(command -v timeout >/dev/null && echo timeout 300) mpirun
SYNC_DIGITS = $${CARGO_TARGET_DIR:-target}/release/examples/sync_digits

demo-sync: driver mpi
	cargo build --locked --release --features mpi --example sync_digits
	@for ranks in 1 2 4; do $(MPIRUN) -n $$ranks $(SYNC_DIGITS) --epochs 8 --min-accuracy 96 || exit 1; done
	@echo "Batches of 32 over 4 ranks, 5 seeds. With statistics of all ranks it does not matter who has which image."
	@for choice in "local --shards even" "local --shards by-digit" "sync --shards by-digit"; do \
		echo "--statistics $$choice"; \
		$(MPIRUN) -n 4 $(SYNC_DIGITS) --batch 32 --epochs 3 --seeds 5 --statistics $$choice || exit 1; \
	done

# The tests compile thousands of kernels, and run each a few times. So wgpu leaves out line numbers for debuggers, and Mesa's
# software driver compiles without optimizations, and for vectors of four. Other drivers ignore the last two. With
# RUST_BACKTRACE set, wgpu's debug build would take a backtrace at each of its locks: a third of the time.
COMPILE_FAST = WGPU_DEBUG=0 GALLIVM_PERF=nopt LP_NATIVE_VECTOR_WIDTH=128 RUST_LIB_BACKTRACE=0

# With the feature everywhere, so that nothing is built twice. The examples without tests are type-checked by clippy, and not
# built. The test `mpi` starts its ranks itself, and ends them in time.
test: driver mpi
	cargo fmt --check
	cargo clippy --locked --all-targets --features mpi -- -D warnings
	cargo test --locked --features mpi --lib --test '*' --example train_digits --no-run
	$(COMPILE_FAST) cargo test --locked --features mpi --lib --test '*'
	@# Runs few kernels many times, and is twice as fast with optimized ones.
	cargo test --locked --features mpi --example train_digits
	$(COMPILE_FAST) cargo test --locked --features mpi --doc
	@# With the examples, so that dependencies need not be built once more for features that only tests ask for.
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib --examples --features mpi

# Other drivers find other faults. wgpu-hal's EGL panics with devices on several threads, so GL gets one thread on one core.
# SwiftShader comes with Chromium, in Debian with the package chromium-common:
# SWIFTSHADER_ICD=/usr/lib/chromium/vk_swiftshader_icd.json
test-drivers: driver driver-gl
	cargo test --locked --features gles --lib --test public --no-run
	export $(COMPILE_FAST) WGPU_BACKEND=gl LIBGL_ALWAYS_SOFTWARE=1; \
	taskset -c 0 cargo test --locked --features gles --lib -- --test-threads=1 $(ON_A_DEVICE) && \
	taskset -c 0 cargo test --locked --features gles --test public -- --test-threads=1 --skip sync::
	if [ -n "$$SWIFTSHADER_ICD" ]; then \
		export $(COMPILE_FAST) WGPU_BACKEND=vulkan VK_DRIVER_FILES=$$SWIFTSHADER_ICD; \
		cargo test --locked --features gles --lib -- $(ON_A_DEVICE) && \
		cargo test --locked --features gles --test public; \
	fi

# The tests of the library that need a device, by parts of their names.
ON_A_DEVICE = gpu::open gpu::submit gpu::tensor gpu::transfer element mutants programs exact_answers same_bits

# No adapter has this name, so that a test which is missing above fails.
check:
	cargo fmt --check
	cargo clippy --locked --lib -- -D warnings
	WGPU_ADAPTER_NAME="no device" cargo test --locked --lib -- $(addprefix --skip ,$(ON_A_DEVICE))
	WGPU_ADAPTER_NAME="no device" cargo test --locked --test public -- layering modules oracle_against_torch words \
		suites::every_case suites::the_oracles fold:: state_files::bytes state_files::disk state_files::names state_files::values

bench: driver
	cargo bench --locked

bench-sync: driver mpi
	cargo bench --locked --features mpi -- --sync

# Installs Mesa's software Vulkan where Linux has no Vulkan driver. macOS and Windows bring what is needed.
driver:
	@if [ "$$(uname)" != Linux ]; then exit 0; fi; \
	loader=$$( (ldconfig -p || /sbin/ldconfig -p) 2>/dev/null | grep -c 'libvulkan\.so\.1'); \
	drivers=$$(ls /usr/share/vulkan/icd.d/*.json /usr/local/share/vulkan/icd.d/*.json \
		/etc/vulkan/icd.d/*.json 2>/dev/null | wc -l); \
	if [ -n "$$VK_DRIVER_FILES$$VK_ICD_FILENAMES" ]; then drivers=1; fi; \
	if [ "$$loader" -gt 0 ] && [ "$$drivers" -gt 0 ]; then exit 0; fi; \
	echo "No Vulkan driver found: installing Mesa's software driver."; \
	if [ "$$(id -u)" = 0 ]; then root=; else root=sudo; fi; \
	if command -v apt-get >/dev/null; then \
		$$root apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive $$root apt-get install -y -qq --no-install-recommends \
			mesa-vulkan-drivers libvulkan1; \
	elif command -v dnf >/dev/null; then \
		$$root dnf install -y mesa-vulkan-drivers vulkan-loader; \
	elif command -v pacman >/dev/null; then \
		$$root pacman -S --noconfirm vulkan-swrast vulkan-icd-loader; \
	else \
		echo "Install a Vulkan loader and driver (Mesa's lavapipe will do), then try again."; exit 1; \
	fi

# Installs Mesa's software GL where there is no EGL.
driver-gl:
	@if [ "$$(uname)" != Linux ]; then exit 0; fi; \
	if (ldconfig -p || /sbin/ldconfig -p) 2>/dev/null | grep -q 'libEGL_mesa\.so\.0'; then exit 0; fi; \
	echo "No EGL found: installing Mesa's."; \
	if [ "$$(id -u)" = 0 ]; then root=; else root=sudo; fi; \
	if command -v apt-get >/dev/null; then \
		$$root apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive $$root apt-get install -y -qq --no-install-recommends \
			libegl1 libegl-mesa0 libgl1-mesa-dri libgles2; \
	else \
		echo "Install Mesa's EGL and GL, then try again."; exit 1; \
	fi

# Installs MPI where there is none, and what the crate `mpi` needs to be built.
mpi:
	@clang=$$(ls /usr/lib/llvm*/lib/libclang*.so* /usr/lib*/libclang*.so* /usr/lib/*/libclang*.so* 2>/dev/null | wc -l); \
	if [ "$$(uname)" != Linux ]; then clang=1; fi; \
	if command -v mpirun >/dev/null && command -v mpicc >/dev/null && [ "$$clang" -gt 0 ]; then exit 0; fi; \
	echo "No MPI found: installing Open MPI."; \
	if [ "$$(id -u)" = 0 ]; then root=; else root=sudo; fi; \
	if command -v apt-get >/dev/null; then \
		$$root apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive $$root apt-get install -y -qq --no-install-recommends \
			openmpi-bin libopenmpi-dev libclang-dev; \
	elif command -v dnf >/dev/null; then \
		$$root dnf install -y openmpi openmpi-devel clang-devel && \
		echo "Put /usr/lib64/openmpi/bin into PATH (module load mpi), then try again." && exit 1; \
	elif command -v pacman >/dev/null; then \
		$$root pacman -S --noconfirm openmpi clang; \
	elif command -v brew >/dev/null; then \
		brew install open-mpi; \
	else \
		echo "Install MPI (Open MPI, with mpicc) and libclang, then try again."; exit 1; \
	fi
