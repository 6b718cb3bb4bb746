# `make tests` builds every tests/*_test.cpp into build/tests/ (GPU=amd|nvidia: those that run on a GPU, into
# build/tests-GPU/), and the models they read. SANITIZE=address,undefined builds into build/tests-sanitized/.

CPU_TESTS = bf16 harness host_backend tokenizer
GPU_TESTS = elementwise matvec attention moe forward

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

$(MODELS)/%_fp32.bin: build/make_model
	@mkdir -p $(MODELS)
	build/make_model $* -o $@ --seed 2 --fp32

$(MODELS)/%.bin: build/make_model
	@mkdir -p $(MODELS)
	build/make_model $* -o $@ -z $(MODELS)/$*_tokenizer.bin --seed 1
