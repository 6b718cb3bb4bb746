// All devices of a run: set-up, a thread for each, release.
#pragma once

#include <thread>

#include "device.hpp"
#include "stop.hpp"
#include "upload.hpp"

namespace getp_hip {

struct Node {
  std::vector<Device> devices;
  bool lost_memory = false;  // of a device that was left out, and could not free what it had

  // Sets up the devices that HIP_DEVICE_ID names, or all, but those that cannot hold the model or run the kernels, and
  // uploads it to them. With `one_sequence`: the first that can, alone, see Device::preflight.
  void set_up(const Config &p, const HostWeights &h, bool one_sequence) {
    HIP_REQUIRE(p.head_dim <= 256);  // attention
    HIP_REQUIRE(p.n_experts <= kMaxExperts && p.experts_per_token <= kMaxChosen);
    DeviceWeights model;  // that every device holds
    use_devices(one_sequence ? 1 : SIZE_MAX, [&](int id) {
      if (model.layers.empty()) {
        current_card();  // refuses before all weights are read
        model.own_layers(p, 0, p.n_layers);
        choose_forms(model, p, h);
      }
      Device device;
      device.w = model;
      try {
        device.set_up(id, p, h, one_sequence);
      } catch (const DeviceError &) {
        try {
          device.release();
        } catch (const DeviceError &) {  // a device that is lost: what was wrong first is said
          lost_memory = true;
        }
        throw;
      }
      devices.push_back(std::move(device));
    });
    std::vector<UploadTarget> targets;
    for (Device &device : devices) targets.push_back({device.id, &device.w});
    upload_weights(targets, p, h);
    HIP_CHECK(hipSetDevice(devices[0].id));  // for forward_hip, which runs in the calling thread
  }

  // How many of `requests` a device may serve at a time: as many as it can have slots, but where that is more than there
  // are, a share in proportion to them, so that the first device does not take them all.
  int share(const Device &device, int requests) const {
    long long slots = 0;
    for (const Device &each : devices) slots += each.most_slots;
    return (int)std::min<long long>(device.most_slots, ((long long)requests * device.most_slots + slots - 1) / slots);
  }

  // Calls work(device) for each device, in a thread of its own, and waits for all. A device that fails says so, ends
  // its thread and stops the run.
  template <class Work>
  void run(Work work) {
    std::vector<std::thread> threads;
    for (Device &device : devices)
      threads.emplace_back([&work, &device] {
        throw_device_errors = true;
        try {
          HIP_CHECK(hipSetDevice(device.id));
          work(device);
        } catch (const DeviceError &error) {
          stop_for_error(error.what());
        }
      });
    for (std::thread &thread : threads) thread.join();
  }

  // Frees everything; ends the program if a byte is left. After an error the end of the program frees it.
  void release() {
    if (devices.empty() || stop_code == EXIT_FAILURE) return;
    for (Device &device : devices) device.release();
    devices.clear();
    const size_t counted = bytes_in_use(), leaked = getp_report_leaks();
    if (!lost_memory && (counted || leaked))
      fail("finish left %zu bytes allocated (%zu by the back end's own list)", counted, leaked);
  }
};

}  // namespace getp_hip
