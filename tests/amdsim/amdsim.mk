# `make amdsim` builds build/amdsim/libamdhip64.so.5, a HIP runtime that executes AMD's machine code on the CPU:
#   LD_LIBRARY_PATH=build/amdsim AMDSIM=gfx90a ./run …

# Not named AMDSIM: make would hand that to the programs that it runs.
AMDSIM_DIR = build/amdsim
AMDSIM_LIBRARY = $(AMDSIM_DIR)/libamdhip64.so.5
AMDSIM_SOURCES = $(filter-out %_test.cpp tests/amdsim/faults.cpp,$(wildcard tests/amdsim/*.cpp)) $(wildcard tests/amdsim/isa/*.cpp)
AMDSIM_OBJECTS = $(patsubst tests/amdsim/%.cpp,$(AMDSIM_DIR)/%.o,$(AMDSIM_SOURCES))
LLVM = /usr/lib/llvm-19

.PHONY: amdsim
amdsim: $(AMDSIM_LIBRARY)

$(AMDSIM_LIBRARY): $(AMDSIM_OBJECTS) tests/amdsim/versions.map
	$(CXX) -shared -Wl,-soname,$(notdir $@) -Wl,--version-script=tests/amdsim/versions.map -Wl,--no-undefined \
	  $(AMDSIM_OBJECTS) -o $@ -L$(LLVM)/lib -lLLVM-19 -lpthread
	@ln -sf $(notdir $@) $(AMDSIM_DIR)/libamdhip64.so

$(AMDSIM_DIR)/%.o: tests/amdsim/%.cpp
	@mkdir -p $(dir $@)
	$(CXX) -std=c++20 -O3 -march=native -frounding-math -ffp-contract=off -fPIC -fvisibility=hidden -Wall -Wextra -isystem $(LLVM)/include -MMD -MP -c $< -o $@

-include $(AMDSIM_OBJECTS:.o=.d)

# What is built for the simulated device lies in build/amdsim/tests/COMPILER-ARCHITECTURES-LEVEL/, as in clang-gfx942+gfx1100-O3.
amdsim_in = $(foreach build,$(1),$(patsubst %,$(AMDSIM_DIR)/tests/$(build)/%,$(2)))
# A word of the name of a target's folder, and the compiler that this names.
amdsim_word = $(word $(1),$(subst -, ,$(notdir $(@D))))
AMDSIM_COMPILE = $(if $(filter hipcc,$(call amdsim_word,1)),hipcc --offload-arch=,tools/clang_hip.sh )$(subst +,$(comma),$(call amdsim_word,2)) \
  --std=c++17 -$(call amdsim_word,3)
comma := ,

# The simulator's own tests; programs_test is built by both compilers at three levels.
AMDSIM_CLANG = clang-gfx90a clang-gfx942 clang-gfx1100
AMDSIM_OWN_TESTS = $(foreach level,O0 O1 O3,$(call amdsim_in,$(patsubst %,%-$(level),hipcc-gfx90a $(AMDSIM_CLANG)),programs_test)) \
  $(call amdsim_in,$(patsubst %,%-O1,$(AMDSIM_CLANG)),$(filter-out programs_test,$(basename $(notdir $(wildcard tests/amdsim/*_test.cpp)))))

# The host's side of these is the reference, plain code: not optimised, which halves the time that they take to build.
.SECONDEXPANSION:
$(AMDSIM_OWN_TESTS): tests/amdsim/$$(@F).cpp
	@mkdir -p $(@D)
	$(AMDSIM_COMPILE) -Xarch_host -O0 -DAMDSIM_ARCH=$(patsubst gfx%,0x%,$(call amdsim_word,2)) -MMD -MP -MT $@ -MF $@.d $< -o $@ \
	  -lgtest -lgtest_main

-include $(addsuffix .d,$(AMDSIM_OWN_TESTS))
