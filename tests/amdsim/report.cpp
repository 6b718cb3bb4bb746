#include "report.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "fault.hpp"

namespace amdsim {

const bool counting = std::getenv("AMDSIM_REPORT") != nullptr;

namespace {

// Seconds that each resource is busy at least, were it never idle and the others free.
struct Bounds {
  double memory = 0, valu = 0, matrix = 0, lds = 0, salu = 0;
  void add(const Bounds &b) {
    memory += b.memory;
    valu += b.valu;
    matrix += b.matrix;
    lds += b.lds;
    salu += b.salu;
  }
  std::pair<const char *, double> limit() const {
    std::pair<const char *, double> worst = {"memory", memory};
    for (const std::pair<const char *, double> &each :
         {std::pair{"valu", valu}, std::pair{"matrix", matrix}, std::pair{"lds", lds}, std::pair{"salu", salu}})
      if (each.second > worst.second) worst = each;
    return worst;
  }
};

struct Entry {
  uint64_t launches = 0, groups = 0, waves = 0;
  Counts counts;
  Bounds bounds;
  double seconds = 0;  // of the limiting resource of each launch, summed
};

std::mutex mutex;
double simulation_seconds = 0;  // that launches took here
std::map<std::pair<std::string, std::string>, Entry> &entries =
    *new std::map<std::pair<std::string, std::string>, Entry>;

// How many cycles a SIMD is busy with one instruction of a wave, and how many SIMDs a compute unit has. gfx9: 16 lanes,
// transcendentals at a quarter of the rate; gfx11: 32 lanes, likewise. (ISA documents; docs/AMDSIM.md.)
Bounds bounds_of(const DeviceModel &model, uint64_t groups, const Counts &c) {
  const auto count = [&](Class kind) { return double(c.instructions[int(kind)]); };
  const double per_valu = model.wave_size == 64 ? 4 : 1, simds = model.wave_size == 64 ? 4 : 2;
  const double units = double(std::min<uint64_t>(groups, uint64_t(model.compute_units)));
  const double cycle = 1 / (model.clock_hz * units);
  Bounds b;
  b.memory = double(c.footprint) / model.bandwidth;
  b.valu = (per_valu * (count(Class::valu) + count(Class::packed)) + 4 * per_valu * count(Class::transcendental)) *
           cycle / simds;
  b.matrix = double(c.matrix_cycles) * cycle / simds;
  b.lds = double(c.lds_cycles) * cycle;
  b.salu = std::max(count(Class::salu) + count(Class::scalar_memory), count(Class::branch)) * cycle /
           (model.wave_size == 64 ? 1 : simds);
  return b;
}

nlohmann::ordered_json to_json(const std::string &name, const std::string &architecture, const Entry &e) {
  nlohmann::ordered_json j;
  j["kernel"] = name;
  j["architecture"] = architecture;
  j["launches"] = e.launches;
  j["groups"] = e.groups;
  j["waves"] = e.waves;
  for (int i = 0; i < kClasses; i++) {
    j["instructions"][kClassNames[i]] = e.counts.instructions[i];
    j["active_lanes"][kClassNames[i]] = e.counts.lanes[i];
  }
  j["matrix_cycles"] = e.counts.matrix_cycles;
  j["matrix_flops"] = e.counts.matrix_flops;
  j["global_bytes_read"] = e.counts.global_bytes_read;
  j["global_bytes_written"] = e.counts.global_bytes_written;
  j["segments_64"] = e.counts.segments64;
  j["segments_128"] = e.counts.segments128;
  j["footprint_bytes"] = e.counts.footprint;
  j["lds_cycles"] = e.counts.lds_cycles;
  j["lds_conflict_cycles"] = e.counts.lds_conflict_cycles;
  j["barriers"] = e.counts.barriers;
  j["bound_seconds"] = {{"memory", e.bounds.memory}, {"valu", e.bounds.valu}, {"matrix", e.bounds.matrix},
                        {"lds", e.bounds.lds},       {"salu", e.bounds.salu}, {"of_each_launch", e.seconds}};
  j["limited_by"] = e.bounds.limit().first;
  return j;
}

}  // namespace

void report_launch(const Kernel &kernel, uint64_t groups, uint64_t waves_per_group, const Counts &counts,
                   double seconds) {
  const std::lock_guard<std::mutex> lock(mutex);
  Entry &entry = entries[{kernel.pretty, kernel.object->architecture}];
  entry.launches++;
  entry.groups += groups;
  entry.waves += groups * waves_per_group;
  entry.counts.add(counts);
  const Bounds bounds = bounds_of(*device_model(kernel.object->architecture.c_str()), groups, counts);
  entry.bounds.add(bounds);
  entry.seconds += bounds.limit().second;
  simulation_seconds += seconds;
}

bool first_touch(uint64_t address, uint32_t launch) {
  // The number of the last launch that touched each line, in pages that exist only where something was touched.
  static std::atomic<uint32_t> *const lines = [] {
    void *range = mmap(nullptr, memory_size / 64 * sizeof(uint32_t), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) fault("cannot reserve addresses for AMDSIM_REPORT");
    return static_cast<std::atomic<uint32_t> *>(range);
  }();
  if (address - memory_base >= memory_size) return false;
  return lines[(address - memory_base) / 64].exchange(launch, std::memory_order_relaxed) != launch;
}

void write_report() {
  const char *path = std::getenv("AMDSIM_REPORT");
  if (!path || !*path) return;
  const std::lock_guard<std::mutex> lock(mutex);
  std::vector<std::pair<std::pair<std::string, std::string>, const Entry *>> sorted;
  for (const auto &[key, entry] : entries) sorted.push_back({key, &entry});
  std::sort(sorted.begin(), sorted.end(),
            [](const auto &a, const auto &b) { return a.second->seconds > b.second->seconds; });

  nlohmann::ordered_json json;
  json["note"] = "bounds from counted instructions and cited peak rates; not measurements";
  Entry total;
  for (const auto &[key, entry] : sorted) {
    const DeviceModel &card = *device_model(key.second.c_str());
    json["cards"][key.second] = {{"name", card.card},
                                 {"compute_units", card.compute_units},
                                 {"clock_hz", card.clock_hz},
                                 {"bytes_a_second", card.bandwidth},
                                 {"fp16_matrix_flops", card.matrix_flops_fp16},
                                 {"fp32_vector_flops", card.vector_flops_fp32}};
    json["kernels"].push_back(to_json(key.first, key.second, *entry));
    total.seconds += entry->seconds;
    total.launches += entry->launches;
    total.counts.add(entry->counts);
  }
  std::FILE *file = std::fopen(path, "w");
  if (!file) fault("cannot write the report %s (AMDSIM_REPORT)", path);
  const std::string text = json.dump(2);
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size() && std::fputc('\n', file) != EOF;
  if (std::fclose(file) != 0 || !written) fault("cannot write the report %s (AMDSIM_REPORT)", path);

  if (sorted.empty()) return;
  const std::string architecture = sorted.front().first.second;
  std::fprintf(stderr, "\namdsim: lower bounds on %s, from counts and peak rates, cold caches (not measurements)\n",
               device_model(architecture.c_str())->card);
  std::fprintf(stderr, "%10s %8s %8s %7s %8s %8s %8s %7s %7s  %s\n", "bound us", "share", "launches", "by", "VALU",
               "matrix cy", "LDS cy", "conflict", "lanes", "kernel (MB: footprint)");
  for (const auto &[key, entry] : sorted) {
    const Counts &c = entry->counts;
    const double valu = double(c.instructions[int(Class::valu)] + c.instructions[int(Class::packed)] +
                               c.instructions[int(Class::transcendental)]);
    const double lanes =
        double(c.lanes[int(Class::valu)] + c.lanes[int(Class::packed)] + c.lanes[int(Class::transcendental)]);
    std::fprintf(stderr, "%10.2f %7.1f%% %8llu %7s %8.2e %8.2e %8.2e %6.1f%% %6.1f%%  %s (%.2f)\n",
                 entry->seconds * 1e6, 100 * entry->seconds / total.seconds, (unsigned long long)entry->launches,
                 entry->bounds.limit().first, valu, double(c.matrix_cycles), double(c.lds_cycles),
                 c.lds_cycles ? 100.0 * double(c.lds_conflict_cycles) / double(c.lds_cycles) : 0.0,
                 valu > 0 ? 100 * lanes / (valu * device_model(key.second.c_str())->wave_size) : 0.0, key.first.c_str(),
                 double(c.footprint) / 1e6);
  }
  std::fprintf(stderr, "%10.2f us in %llu launches\n", total.seconds * 1e6, (unsigned long long)total.launches);
  double lanes = 0;
  for (const Class kind : {Class::valu, Class::packed, Class::transcendental, Class::lds, Class::vector_memory})
    lanes += double(total.counts.lanes[int(kind)]);
  std::fprintf(stderr, "simulated %.3g lane operations in %.2f s: %.3g a second\n", lanes, simulation_seconds,
               lanes / simulation_seconds);
}

}  // namespace amdsim
