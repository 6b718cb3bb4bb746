# `make tests` builds into build/tests/ every tests/*_test.cpp, the program itself, and the models they read (GPU=amd|nvidia:
# into build/tests-GPU/, what runs on a GPU). SANITIZE=address,undefined builds into build/tests-sanitized/.
# `make quick-tests [TIMEOUT=SECONDS]` and all else that runs tests is ./run.sh test.

CPU_TESTS = $(filter-out $(GPU_TESTS),$(patsubst tests/%_test.cpp,%,$(wildcard tests/*_test.cpp)))
GPU_TESTS = forward matmul attention elementwise matvec moe

TEST_DIR = build/tests$(if $(SANITIZE),-sanitized)$(if $(filter-out host,$(GPU)),-$(GPU))
TEST_PROGRAMS = $(patsubst %,$(TEST_DIR)/%_test,$(GPU_TESTS) $(if $(filter host,$(GPU)),$(CPU_TESTS)))
# On the host they take longer to build than to run: this is the quickest for both together.
TEST_FLAGS = $(if $(SANITIZE),-Og -g1 -fsanitize=$(SANITIZE) -fno-sanitize-recover=all,$(if $(filter host,$(GPU)),-O1,-O2)) \
  $(call host,-Wall -Wextra)
$(TEST_DIR)/forward_test: TEST_FLAGS += $(if $(SANITIZE),,-O2) # runs the longest
RUN_FLAGS = $(if $(SANITIZE),$(TEST_FLAGS),-O3 $(call host,$(OPENMP) -march=native))

MODELS = build/tests/models
TEST_MODELS = $(patsubst %,$(MODELS)/%.bin,tiny tiny_fp32 tiny_mxfp4 7m 7m_fp32)

.PHONY: tests
tests: $(TEST_PROGRAMS) $(TEST_DIR)/run $(TEST_MODELS)

.PHONY: quick-tests
quick-tests:
	./run.sh test --quick $(if $(TIMEOUT),-t $(TIMEOUT))

TOKENIZER_DIR = $(if $(SANITIZE),$(TEST_DIR),build)
$(TEST_DIR)/libtokenizer.a: TOKENIZER_FLAGS = $(TEST_FLAGS)
USE_TOKENIZER = $(patsubst %,$(TEST_DIR)/%,forward_test harness_test tokenizer_test run)
$(USE_TOKENIZER): $(TOKENIZER_DIR)/libtokenizer.a
$(USE_TOKENIZER): LIBRARIES = $(call with_tokenizer,$(TOKENIZER_DIR)) -lm

$(TEST_DIR)/%_test: tests/%_test.cpp
	@mkdir -p $(@D)
	$(COMPILE) $(TEST_FLAGS) $(DEPENDENCIES) $< -o $@ $(LIBRARIES) -lgtest -lgtest_main

$(TEST_DIR)/run: run.cpp
	@mkdir -p $(@D)
	$(COMPILE) $(RUN_FLAGS) $(DEPENDENCIES) $< -o $@ $(LIBRARIES)

# Fuzz targets, by libFuzzer.
FUZZ_CXX = clang++-19
.PHONY: fuzz
fuzz: $(patsubst tests/fuzz/%.cpp,build/fuzz/%,$(wildcard tests/fuzz/*_fuzz.cpp))
build/fuzz/%: tests/fuzz/%.cpp
	@mkdir -p build/fuzz
	$(FUZZ_CXX) --std=c++17 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all $(DEPENDENCIES) $< -o $@

$(MODELS)/%_fp32.bin: build/make_model
	@mkdir -p $(MODELS)
	build/make_model $* -o $@ --seed 2 --fp32

$(MODELS)/%_mxfp4.bin: build/make_model
	@mkdir -p $(MODELS)
	build/make_model $* -o $@ --seed 3 --mxfp4

$(MODELS)/%.bin: build/make_model
	@mkdir -p $(MODELS)
	build/make_model $* -o $@ -z $(MODELS)/$*_tokenizer.bin --seed 1

-include $(wildcard $(TEST_DIR)/*.d build/fuzz/*.d)

# What runs on the simulated device (tests/amdsim/amdsim.mk), into a folder for each compiler. The host's side of the tests is
# not optimised, which halves the time that they take to build; the program itself is as users build it.
AMDSIM_CLANG_ARCHS = gfx942+gfx1100
AMDSIM_GPU_TESTS = $(call amdsim_in,hipcc-gfx90a-O0 hipcc-gfx90a-O3 clang-$(AMDSIM_CLANG_ARCHS)-O3,$(GPU_TESTS:%=%_test))
AMDSIM_RUNS = $(call amdsim_in,hipcc-gfx90a-O3 clang-gfx90a+$(AMDSIM_CLANG_ARCHS)+gfx1151-O3,run)

$(AMDSIM_GPU_TESTS): tests/$$(@F).cpp
	@mkdir -p $(@D)
	$(AMDSIM_COMPILE) -Xarch_host -O0 $(DEPENDENCIES) $< -o $@ $(LIBRARIES) -lgtest -lgtest_main

$(AMDSIM_RUNS): run.cpp
	@mkdir -p $(@D)
	$(AMDSIM_COMPILE) -Wall -Wextra -Werror $(DEPENDENCIES) $< -o $@ $(LIBRARIES)

AMDSIM_WITH_TOKENIZER = $(filter %/forward_test,$(AMDSIM_GPU_TESTS)) $(AMDSIM_RUNS)
$(AMDSIM_WITH_TOKENIZER): build/libtokenizer.a
$(AMDSIM_WITH_TOKENIZER): LIBRARIES = $(call with_tokenizer,build) -lm

$(filter %/forward_test,$(TEST_PROGRAMS) $(AMDSIM_GPU_TESTS)): | $(TEST_MODELS)

.PHONY: amdsim-tests
amdsim-tests: amdsim $(AMDSIM_GPU_TESTS) $(AMDSIM_RUNS) $(AMDSIM_OWN_TESTS) $(TEST_MODELS)

-include $(addsuffix .d,$(AMDSIM_GPU_TESTS) $(AMDSIM_RUNS))

# What the fixtures of the pytest files build, for tests/suite.py to have it built on all cores, under no limit of time.
ready-test_amd_build: $(AMDSIM_RUNS)
ready-test_amdsim: amdsim $(AMDSIM_RUNS) build/tests/run build/make_model
ready-test_amdsim_faults: amdsim
ready-test_getp_cli ready-test_greedy_tokens ready-test_fuzz: build/tests/run build/make_model
ready-test_evaluate: build/tests/run decode
ready-test_one_parser: build/tests/run build/make_model decode
ready-test_parity_tool: build/parity build/make_model
ready-test_run_sh: build/tests/run build/make_model build/bench decode
ready-test_sanitizers: build/make_model
	$(MAKE) GPU=host SANITIZE=address,undefined build/tests-sanitized/run
ready-%: ;

# For tests/suite.py: the words of a variable.
print-%:
	@printf '%s\n' $($*)
