# `make tests` builds every tests/*_test.cpp into build/tests/ (GPU=amd|nvidia: those that run on a GPU, into
# build/tests-GPU/), and the models they read. SANITIZE=address,undefined builds into build/tests-sanitized/.

CPU_TESTS = bf16 harness host_backend product_plan stop tokenizer
GPU_TESTS = elementwise matvec matmul attention moe forward

TEST_DIR = build/tests$(if $(SANITIZE),-sanitized)$(if $(filter-out host,$(GPU)),-$(GPU))
TEST_PROGRAMS = $(patsubst %,$(TEST_DIR)/%_test,$(if $(filter host,$(GPU)),$(CPU_TESTS)) $(GPU_TESTS))
TEST_FLAGS = -O2 -g $(call host,-Wall -Wextra) $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all)

MODELS = build/tests/models
TEST_MODELS = $(patsubst %,$(MODELS)/%.bin,tiny tiny_fp32 7m 7m_fp32)

.PHONY: tests
tests: $(TEST_PROGRAMS) $(TEST_MODELS)

$(TEST_DIR)/%_test: tests/%_test.cpp tests/kernel_testing.hpp tools/summation_orders.hpp $(SOURCES) $(HEADERS)
	@mkdir -p $(TEST_DIR)
	$(COMPILE) $(TEST_FLAGS) $< $(if $(filter forward harness tokenizer,$*),tokenizer.cpp) -o $@ -lgtest -lgtest_main

# Fuzz targets, by libFuzzer.
FUZZ_CXX = clang++-19
.PHONY: fuzz
fuzz: $(patsubst tests/fuzz/%.cpp,build/fuzz/%,$(wildcard tests/fuzz/*_fuzz.cpp))
build/fuzz/%: tests/fuzz/%.cpp tests/fuzz/fuzzing.hpp $(SOURCES) $(HEADERS)
	@mkdir -p build/fuzz
	$(FUZZ_CXX) --std=c++17 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all $< -o $@

$(MODELS)/%_fp32.bin: build/make_model
	@mkdir -p $(MODELS)
	build/make_model $* -o $@ --seed 2 --fp32

$(MODELS)/%.bin: build/make_model
	@mkdir -p $(MODELS)
	build/make_model $* -o $@ -z $(MODELS)/$*_tokenizer.bin --seed 1

# `make amdsim-tests` builds what runs on the simulated device, into build/amdsim/tests/COMPILER-ARCH-LEVEL/: GPU_TESTS and the
# program itself, and the simulator's own tests, of which programs_test is built by both compilers at three levels.
amdsim_in = $(foreach build,$(1),$(patsubst %,$(AMDSIM_DIR)/tests/$(build)/%,$(2)))
AMDSIM_GPU_TESTS = $(call amdsim_in,hipcc-gfx90a-O0 hipcc-gfx90a-O3 clang-gfx942-O3 clang-gfx1100-O3,$(GPU_TESTS:%=%_test))
AMDSIM_RUNS = $(call amdsim_in,hipcc-gfx90a-O3 clang-gfx942-O3 clang-gfx1100-O3,run)
AMDSIM_OWN_TESTS = $(foreach level,O0 O1 O3,$(call amdsim_in,$(patsubst %,%-$(level),hipcc-gfx90a $(AMDSIM_CLANG)),programs_test)) \
  $(call amdsim_in,$(patsubst %,%-O1,$(AMDSIM_CLANG)),$(filter-out programs_test,$(basename $(notdir $(wildcard tests/amdsim/*_test.cpp)))))
AMDSIM_CLANG = clang-gfx90a clang-gfx942 clang-gfx1100

# The compiler that a target's directory names; amdsim_word is a word of that name.
amdsim_word = $(word $(1),$(subst -, ,$(notdir $(@D))))
AMDSIM_COMPILE = $(if $(filter hipcc,$(call amdsim_word,1)),hipcc --offload-arch=,tools/clang_hip.sh )$(call amdsim_word,2) \
  --std=c++17 -$(call amdsim_word,3)

.PHONY: amdsim-tests
amdsim-tests: amdsim $(AMDSIM_GPU_TESTS) $(AMDSIM_RUNS) $(AMDSIM_OWN_TESTS) $(TEST_MODELS)

.SECONDEXPANSION:
$(AMDSIM_GPU_TESTS): tests/$$(@F).cpp tests/kernel_testing.hpp tools/summation_orders.hpp $(SOURCES) $(HEADERS)
	@mkdir -p $(@D)
	$(AMDSIM_COMPILE) $< $(if $(filter forward_test,$(@F)),tokenizer.cpp) -o $@ -lgtest -lgtest_main

$(AMDSIM_RUNS): $(SOURCES) $(HEADERS)
	@mkdir -p $(@D)
	$(AMDSIM_COMPILE) $(SOURCES) -o $@ -lm

# The host's side of these is the reference, plain code: not optimised, which halves the time that they take to build.
$(AMDSIM_OWN_TESTS): tests/amdsim/$$(@F).cpp tests/amdsim/matrix_layouts.inc
	@mkdir -p $(@D)
	$(AMDSIM_COMPILE) -Xarch_host -O0 -DAMDSIM_ARCH=$(patsubst gfx%,0x%,$(call amdsim_word,2)) $< -o $@ -lgtest -lgtest_main
