# Builds the harness with its patch set.
#
#   make [run|rundebug|runfast|runomp] [GPU=amd|nvidia|host] [GPU_ARCH=gfx90a,gfx942] [OUT=run]
#
# The back end is amd if there are a KFD device and hipcc, nvidia if there are an NVIDIA device and nvcc, else host; the
# architectures are those of the machine's cards (tools/gpu.sh).
# The four builds write the same file, so each always compiles anew.

CXX = g++
OUT = run

have = $(shell command -v $(1) 2>/dev/null)
comma := ,
# $(call compiler,PROGRAM,GPU): that on PATH, or where its toolkit lies.
compiler = $(or $(if $(call have,$(1)),$(1)),$(wildcard $(addsuffix /bin/$(1),$(shell tools/gpu.sh toolkit $(2)))))
HIPCC = $(call compiler,hipcc,amd)
NVCC = $(call compiler,nvcc,nvidia)
ifndef GPU
GPU := $(if $(and $(wildcard /dev/kfd),$(HIPCC)),amd,$(if $(and $(wildcard /dev/nvidia0),$(NVCC)),nvidia,host))
endif
# Asked for once, where something is built.
ifeq ($(GPU_ARCH)$(filter host,$(GPU)),)
GPU_ARCH = $(eval GPU_ARCH := $(shell tools/gpu.sh architectures $(GPU)))$(if \
  $(filter 0,$(.SHELLSTATUS)),,$(error $(GPU_ARCH)))$(GPU_ARCH)
endif

# COMPILE is the compiler with its fixed flags, $(call host,FLAGS) hands flags to the compiler of the CPU's code.
ifeq ($(GPU),amd)
  # A list may name a card without a matrix tile beside another. All of them are not worth the build.
  ARCHITECTURES = $(subst $(comma), ,$(GPU_ARCH))
  HAVE_TILE = $(or $(filter native,$(ARCHITECTURES)),$(shell tools/gpu.sh with_tile $(ARCHITECTURES)))
  COMPILE = $(if $(HAVE_TILE),,$(error GPU_ARCH=$(GPU_ARCH): no matrix instructions that the kernels are written for; make \
    GPU=host builds for the CPU))$(or $(HIPCC),hipcc) --std=c++17 $(ARCHITECTURES:%=--offload-arch=%)
  host = $(1)
else ifeq ($(GPU),nvidia)
  COMPILE = $(or $(NVCC),nvcc) -x cu -std=c++17 $(NVIDIA_ARCH)
  host = $(patsubst %,-Xcompiler %,$(1))
  NVIDIA_ARCH = $(if $(filter native,$(GPU_ARCH)),-arch=native,$(foreach arch,$(subst $(comma), ,$(GPU_ARCH)),-gencode \
    arch=$(arch:sm_%=compute_%)$(comma)code=$(arch)))
else ifeq ($(GPU),host)
  COMPILE = $(CXX) --std=c++17
  host = $(1)
else
  $(error GPU=$(GPU): the back ends are amd, nvidia and host)
endif

SOURCES = run.cpp tokenizer.cpp

run: FLAGS = -g -O0
rundebug: FLAGS = -g
runfast: FLAGS = -O3
runomp: FLAGS = -O3 $(call host,-fopenmp -march=native)

# The shell is given OUT by the environment: a path may hold blanks and quotes, which words of make may not.
export OUT
.PHONY: run rundebug runfast runomp
run rundebug runfast runomp:
	@mkdir -p "$$(dirname "$$OUT")"
	$(COMPILE) $(strip $(FLAGS)) $(SOURCES) -o "$$OUT" -lm
	@if [ "$$OUT" = run ]; then mkdir -p build && echo '$(BACKEND)' > build/run.backend; fi

# What the programs are built for; a program built for something else is out of date.
BACKEND = $(strip $(GPU) $(GPU_ARCH))
.PHONY: backend FORCE
backend:
	@echo '$(BACKEND)'
# (help and clean do not ask: they work where nothing can be built for the machine's cards.)
build/tools.backend: $(if $(filter-out help clean,$(or $(MAKECMDGOALS),run)),$(if \
  $(findstring |$(BACKEND)|,|$(shell cat build/tools.backend 2>/dev/null)|),,FORCE))
	@mkdir -p build
	@echo '$(BACKEND)' > $@

# What a program includes is written down as it is compiled (g++, clang and nvcc agree on how), for make to read the next time.
DEPENDENCIES = -MMD -MP -MT $@ -MF $(DEPENDENCY_FILE)
DEPENDENCY_FILE = $@.d

# tokenizer.cpp, for programs of one source file besides: $(call with_tokenizer,FOLDER) links the one of that folder.
TOKENIZER_FLAGS = -O3 -Wall -Wextra
%/libtokenizer.a: tokenizer.cpp
	@mkdir -p $(@D)
	$(CXX) --std=c++17 $(TOKENIZER_FLAGS) $(DEPENDENCIES) -c $< -o $(@D)/tokenizer.o
	$(AR) rcs $@ $(@D)/tokenizer.o
with_tokenizer = -L$(1) -ltokenizer

decode: private DEPENDENCY_FILE = build/decode.d
decode: decode.cpp build/libtokenizer.a
	$(CXX) --std=c++17 -O3 $(DEPENDENCIES) $< -o $@ $(call with_tokenizer,build)

.PHONY: tokenizer-bin
tokenizer-bin: tools/export_tokenizer.py
	python3 $< -o tokenizer.bin

.PHONY: tokenizer-test
tokenizer-test:
	$(CXX) --std=c++17 -O3 tests/tokenizer_test.cpp tokenizer.cpp -o test_tokenizer -lgtest -lgtest_main -lpthread
	./test_tokenizer

.PHONY: tools
tools: build/make_model build/parity build/bench build/summation_spread

# Programs that run the patch set as the harness does; OPENMP= builds them where the compiler has none.
OPENMP = -fopenmp
build/parity build/bench build/summation_spread: build/%: tools/%.cpp build/libtokenizer.a build/tools.backend
	$(COMPILE) -O3 $(call host,$(OPENMP) -march=native) $(DEPENDENCIES) $< -o $@ $(call with_tokenizer,build) -lm

.PHONY: bf16-exhaustive
bf16-exhaustive:
	@mkdir -p build
	$(CXX) --std=c++17 -O3 tools/bf16_exhaustive.cpp -o build/bf16_exhaustive

build/make_model: tools/make_model.cpp
	@mkdir -p build
	$(CXX) --std=c++17 -O3 -fopenmp $(DEPENDENCIES) $< -o $@

-include $(wildcard build/*.d)

.PHONY: clean
clean:
	rm -rf run decode test_tokenizer tokenizer.bin build

.PHONY: help
help:
	@echo 'run             debug build, no optimisation (default)   -> '"$$OUT"
	@echo 'rundebug        debug build, compiler default level      -> '"$$OUT"
	@echo 'runfast         -O3                                      -> '"$$OUT"
	@echo 'runomp          -O3 -fopenmp -march=native               -> '"$$OUT"
	@echo 'decode          token ids of an output file as text      -> decode'
	@echo 'tokenizer-bin   exports o200k_harmony                    -> tokenizer.bin'
	@echo 'tokenizer-test  builds and runs the tokenizer tests      -> test_tokenizer'
	@echo 'tools           make_model, parity, bench, summation_spread -> build/'
	@echo 'fuzz            libFuzzer targets (tests/fuzz)           -> build/fuzz'
	@echo 'amdsim          simulated AMD device (docs/AMDSIM.md)    -> build/amdsim'
	@echo 'clean           removes all of these'
	@echo 'back end now: GPU=$(GPU) (amd, nvidia, host) $(if $(filter-out host,$(GPU)),GPU_ARCH (comma list; default: this machine'"'"'s cards)); OUT='"$$OUT"
	@echo 'runomp with GPU=amd needs the OpenMP runtime of hipcc'"'"'s clang (Debian: libomp-15-dev)'

-include tests/amdsim/amdsim.mk tests/tests.mk
