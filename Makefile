# Two commands do everything on a machine with Python, make and a C++ compiler:
#   make demo    trains on real data and writes a report
#   make test    lint, types, native tests, tests
#   make site    the documentation as a site: build/site/README.html
# and `make test-all` runs the tests that take long too, `make gpu-code` those of kernels for GPUs.
# Both build .venv here once and reuse it.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Of the files of all these packages few are ever loaded, and Python compiles those when they are.
INSTALL := $(PIP) install -q --no-compile
NATIVE := CMakeLists.txt $(wildcard native/*.cpp native/*.hpp native/pytorch/*)
NATIVE_TESTS := $(wildcard native/tests/*.cpp native/tests/*.hpp)

.PHONY: demo test test-all setup bench docs site wheel lint types native native-aarch64 tests tests-all gpu-code fuzz statistics zoo zoo-keras zoo-keras-cv audit-public trial clean

demo: .venv/.fit
	$(BIN)/thinned fit digits --out demo --overwrite
	@echo "Open demo/report.html in a browser."

# Each of the first three leaves a core idle for some time: two at once.
test: .venv/.dev
	$(MAKE) -j 2 lint types native
	$(MAKE) tests

test-all: .venv/.dev
	$(MAKE) -j 2 lint types native
	$(MAKE) tests-all

setup: .venv/.dev

bench: .venv/.dev
	@mkdir -p build
	for file in benchmarks/*.py; do name=$$(basename $$file .py); \
		$(BIN)/python -m benchmarks.$$name --json build/$$name.json || exit 1; done

# What is made from code: parts of pages, and the pages of the methods from their rows.
docs: .venv/.dev
	$(BIN)/python docs/build.py
	$(BIN)/python docs/methods/build.py

# Audits public packages, installed alone below build/, and compares with what is judged.
audit-public: .venv/.dev
	$(BIN)/python -m tests.audit.public

# Tries `thinned fit` on tables of packages that ship data, installed alone below build/, and writes
# what came of it into docs/fit.md. A run that was stopped goes on where it was.
trial: .venv/.dev
	$(BIN)/python -m tests.fit.trial --page docs/fit.md

# The documentation as a site that needs no server and no network. Warnings are errors; of a page that
# stayed as it is none is repeated, so that nothing is kept where there was one.
site: .venv/.dev
	$(BIN)/python -m sphinx -W --keep-going -q -j 2 -b html -c docs/site docs build/site \
		|| { rm -rf build/site; exit 1; }

# The wheel as it would be published, tried out where nothing else is.
wheel: .venv/.dev
	$(BIN)/python wheels/check_wheel.py --out build/wheel

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.dev
	$(BIN)/mypy

# The native tests three times: as the module is compiled, watched for errors of memory and for
# undefined behaviour, and watched for races. A function that the linker may share (nm: V, W, u) could
# reach a processor that lacks the instructions of the file it came from: none may stand in those.
native: build/native/plain/passed build/native/address/passed build/native/thread/passed
	@! nm -C build/native/plain/CMakeFiles/thinned_avx*.dir/native/kernel.cpp.o 2>/dev/null | grep ' [VWu] '

WATCHED := -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1 -fno-omit-frame-pointer"
build/native/plain/passed: FLAGS := -DTHINNED_WERROR=ON
build/native/address/passed: FLAGS := $(WATCHED) \
	-DCMAKE_CXX_FLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all"
build/native/thread/passed: FLAGS := $(WATCHED) -DCMAKE_CXX_FLAGS=-fsanitize=thread
build/native/thread/passed: CASES := thread
# Needs g++-aarch64-linux-gnu and qemu-user (Debian), and is no part of `make test`. Processes with
# several threads that fork are beyond qemu.
native-aarch64: build/native/aarch64/passed
build/native/aarch64/passed: FLAGS := -DTHINNED_WERROR=ON -DCMAKE_SYSTEM_NAME=Linux \
	-DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
build/native/aarch64/passed: UNDER := qemu-aarch64 -L /usr/aarch64-linux-gnu
build/native/aarch64/passed: CASES := -fork
# GCC's sanitizers before version 14 find no room where addresses are scattered over more than 28 bits.
build/native/%/passed: UNDER := $(shell \
	test "$$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 0)" -gt 28 && echo setarch -R)

build/native/%/passed: $(NATIVE) $(NATIVE_TESTS) | .venv/.fit
	$(BIN)/cmake -G Ninja -S . -B $(@D) -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
		-DTHINNED_MODULE=OFF -DTHINNED_NATIVE_TESTS=ON $(FLAGS) > /dev/null
	$(BIN)/cmake --build $(@D) -j 2
	$(UNDER) $(@D)/native_tests $(CASES)
	touch $@

# timm needs torchvision, which has no build beside this PyTorch: `make zoo` tries its models.
tests: .venv/.dev
	$(BIN)/python -m pytest -n 2 --may-lack timm,triton,tensorflow --short

tests-all: .venv/.dev
	$(BIN)/python -m pytest -n 2 --may-lack timm,triton,tensorflow

# The kernels for GPUs, without one: their bits by Triton's interpreter, and the machine code that
# they are compiled to. In an environment of its own, which has the packages of .venv and Triton.
TRITON := triton==3.7.1
PURELIB := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
gpu-code: build/gpu-code/ready
	TRITON_INTERPRET=1 THINNED_TORCH=python build/gpu-code/bin/python -m pytest -n 2 tests/gpu_code/bits
	TRITON_CACHE_DIR=build/gpu-code/cache build/gpu-code/bin/python -m pytest -n 2 tests/gpu_code/machine

build/gpu-code/ready: .venv/.dev
	test -x build/gpu-code/bin/python || $(BIN)/python -m venv build/gpu-code
	build/gpu-code/bin/pip --disable-pip-version-check install -q --no-compile --no-deps '$(TRITON)'
	echo "import site; site.addsitedir('$$($(BIN)/python $(PURELIB))')" \
		> $$(build/gpu-code/bin/python $(PURELIB))/packages.pth
	touch $@

# Generated calls of every public function, good and bad; then damage, threads, forks and signals.
# What went wrong is printed with its smallest input, which is kept for `make test`.
CALLS ?= 1000000
SEED ?= 0
fuzz: .venv/.dev
	$(BIN)/python -m tests.fuzz --calls $(CALLS) --seed $(SEED)
	FUZZ_MORE=20 $(BIN)/python -m pytest -n 2 tests/fuzz -k 'not calls_of_what'

# Whether the bits are random. RNG_TEST names PractRand's program, TESTU01 where TestU01 is installed.
BITS ?= 30
statistics: .venv/.dev
	RNG_TEST=$(RNG_TEST) TESTU01=$(TESTU01) $(BIN)/python -m tests.randomness --bits $(BITS)

# The tests for PyTorch with another release of it, in an environment of its own: make torch-2.6.0
# What it lacks is named at the start, and its tests are skipped.
torch-%:
	test -x build/$@/bin/python || $(PYTHON) -m venv build/$@
	build/$@/bin/pip --disable-pip-version-check install -q torch==$* \
		scikit-build-core nanobind cmake ninja ml_dtypes pytest pytest-xdist hypothesis
	build/$@/bin/pip --disable-pip-version-check install -q --no-build-isolation \
		-C build-dir=build/$@/build '.[fit]'
	build/$@/bin/python -m pytest -n 2 -o filterwarnings=default tests/torch

# Every test that needs no PyTorch, on another Python with the newest release of everything else:
# make python-3.13, or make python-3.13 INTERPRETER=/opt/python/bin/python3.13
python-%: INTERPRETER = python$*
python-%:
	test -x build/$@/bin/python || $(INTERPRETER) -m venv build/$@
	build/$@/bin/pip --disable-pip-version-check install -q --upgrade \
		scikit-build-core nanobind cmake ninja
	build/$@/bin/pip --disable-pip-version-check install -q --upgrade --upgrade-strategy eager \
		--no-build-isolation -C build-dir=build/$@/build '.[fit,jax,keras]' \
		flax equinox dm-haiku optax flatbuffers optuna ml_dtypes array-api-strict pyyaml \
		pytest pytest-xdist hypothesis
	build/$@/bin/python -m pytest -n 2 -o filterwarnings=default

# The models of other libraries under adoption, in an environment of their newest releases: some two
# hours, and docs/zoo.md at the end. A run that was stopped goes on where it stood. make zoo ONLY='timm:*'
# tries some, and make zoo ZOO_PART='--every 4 --quick' one in four, with one kind of attention. After
# a change all is tried again; ZOO_PART=--earlier makes the page of what was tried until now.
ONLY ?= *
ZOO_TORCH := torch==2.14.1 torchvision==0.29.1
zoo:
	test -x build/$@/bin/python || $(PYTHON) -m venv build/$@
	build/$@/bin/pip --disable-pip-version-check install -q $(ZOO_TORCH) \
		scikit-build-core nanobind cmake ninja
	build/$@/bin/pip --disable-pip-version-check install -q --upgrade \
		transformers accelerate timm peft torch_geometric
	build/$@/bin/pip --disable-pip-version-check install -q --no-build-isolation \
		-C build-dir=build/$@/build .
	TRANSFORMERS_VERBOSITY=error build/$@/bin/python -W ignore -m tests.zoo --only '$(ONLY)' $(ZOO_PART) \
		--results build/zoo-results --page docs/zoo.md

# The same for KerasHub's models under thinned.keras.adopt, on PyTorch and on JAX: some ten minutes,
# and docs/zoo-keras.md at the end.
zoo-keras: .venv/.dev
	test -x build/$@/bin/python || $(BIN)/python -m venv build/$@
	build/$@/bin/pip --disable-pip-version-check install -q --no-deps keras-hub
	echo "import site; site.addsitedir('$$($(BIN)/python $(PURELIB))')" \
		> $$(build/$@/bin/python $(PURELIB))/packages.pth
	build/$@/bin/python -W ignore -m tests.keras.zoo --only '$(ONLY)' \
		--results build/zoo-keras-results --page docs/zoo-keras.md

# The same of keras-cv, which imports beside TensorFlow alone.
zoo-keras-cv: .venv/.dev
	test -x build/$@/bin/python || $(BIN)/python -m venv build/$@
	build/$@/bin/pip --disable-pip-version-check install -q keras-cv tensorflow
	echo "import site; site.addsitedir('$$($(BIN)/python $(PURELIB))')" \
		> $$(build/$@/bin/python $(PURELIB))/packages.pth
	build/$@/bin/python -W ignore -m tests.keras.zoo --library keras-cv --only '$(ONLY)' \
		--results build/zoo-keras-cv-results --page docs/zoo-keras-cv.md

clean:
	rm -rf .venv build demo

# What the demo needs: the package, built with what the lines of pyproject.toml ask for.
.venv/.fit: pyproject.toml constraints.txt $(NATIVE)
	@command -v $(CXX) >/dev/null || { echo "A C++ compiler is needed (Debian: apt install g++)."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -c constraints.txt scikit-build-core nanobind cmake ninja
	$(INSTALL) -c constraints.txt --no-build-isolation -e '.[fit]'
	touch $@

# What development needs besides. torch goes first, by its exact version, so that no other package
# can ask for the newest one, and so that the part compiled for it is built. Of the two hundred that
# follow, uv loads several at once; pip takes twice the time.
.venv/.dev: .venv/.fit
	$(INSTALL) -c constraints.txt torch==2.13.0 uv
	$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $@
