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
