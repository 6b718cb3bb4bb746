// All devices of a run: set-up, a thread for each, release.
#pragma once

#include <thread>

#include "device.hpp"
#include "stop.hpp"
#include "upload.hpp"

namespace getp_hip {

struct Node {
  std::vector<Device> devices;

  // Sets up the devices that pick_devices names and uploads the model to all of them. With `one_sequence`: the first
  // of them alone, see Device::preflight.
  void set_up(const Config &p, const HostWeights &h, bool one_sequence) {
    std::vector<int> ids = pick_devices();
    if (one_sequence) ids.resize(1);
    devices.resize(ids.size());
    devices[0].w.own_layers(p, 0, p.n_layers);
    choose_forms(devices[0].w, p, h);
    for (Device &device : devices) device.w = devices[0].w;
    std::vector<UploadTarget> targets;
    for (size_t i = 0; i < ids.size(); i++) {
      devices[i].set_up(ids[i], p, h, one_sequence);
      targets.push_back({ids[i], &devices[i].w});
    }
    upload_weights(targets, p, h);
    HIP_CHECK(hipSetDevice(ids[0]));  // for forward_hip, which runs in the calling thread
  }

  // How many of `requests` a device serves at a time: as many as it has slots, but where that is more than there are, a
  // share in proportion to its slots, so that the first device does not take them all.
  int share(const Device &device, int requests) const {
    long long slots = 0;
    for (const Device &each : devices) slots += each.batch.slots;
    return (int)std::min<long long>(device.batch.slots, ((long long)requests * device.batch.slots + slots - 1) / slots);
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
    if (counted || leaked) fail("finish left %zu bytes allocated (%zu by the back end's own list)", counted, leaked);
  }
};

}  // namespace getp_hip
